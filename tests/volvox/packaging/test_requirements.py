from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from volvox.errors import InvalidInput
from volvox.packaging.requirements import Pin, closure, requirements_text


def _install(folder: Path, name: str, version: str, *requires: str) -> None:
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir()
    lines = "".join(f"Requires-Dist: {line}\n" for line in requires)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_a_requirement_requires_is_pinned_too_and_the_root_is_not(site: Path) -> None:
    _install(site, "zzroot", "1", "zzone>=1")
    _install(site, "zzone", "1.5", "zztwo")
    _install(site, "zztwo", "2.0+local")
    assert closure(["zzroot"]) == [Pin("zzone", "1.5"), Pin("zztwo", "2.0")]


def test_extras_and_requirements_of_other_systems_stay_out(site: Path) -> None:
    _install(site, "zzroot", "1", "absent; extra == 'train'", "absent; sys_platform == 'win32'")
    assert closure(["zzroot"]) == []


def test_a_circle_of_requirements_ends(site: Path) -> None:
    _install(site, "zzroot", "1", "zzone")
    _install(site, "zzone", "1", "zzroot")
    assert closure(["zzroot"]) == [Pin("zzone", "1")]


def test_a_requirement_that_is_not_installed_is_named(site: Path) -> None:
    _install(site, "zzroot", "1", "zzmissing")
    with pytest.raises(InvalidInput, match="zzroot needs zzmissing, which is not installed"):
        closure(["zzroot"])


def test_a_version_that_is_forbidden_is_refused(site: Path) -> None:
    _install(site, "zzroot", "1", "zzone<1")
    _install(site, "zzone", "1.5")
    with pytest.raises(InvalidInput, match=r"zzone 1\.5 is installed"):
        closure(["zzroot"])


def test_serving_needs_neither_prefect_nor_mlflow_nor_torch() -> None:
    names = {pin.name for pin in closure(["volvox"])}
    assert "starlette" in names
    assert not names & {"prefect", "mlflow", "torch", "pandas", "pyarrow", "docker", "matplotlib"}


def test_a_gpu_image_has_the_gpu_build_of_onnx_runtime() -> None:
    pins = [Pin("numpy", "2.0"), Pin("onnxruntime", "1.20")]
    assert requirements_text(pins) == "numpy==2.0\nonnxruntime==1.20\n"
    assert requirements_text(pins, gpu=True) == "numpy==2.0\nonnxruntime-gpu[cuda,cudnn]==1.20\n"


def test_an_extra_is_followed_where_it_is_asked_for_and_nowhere_else(site: Path) -> None:
    _install(site, "zzroot", "1", "zzone[fast]", "zztwo; extra == 'train'", "absent; extra == 'other'")
    _install(site, "zzone", "1", "zzthree; extra == 'fast'", "absent; extra == 'slow'")
    for name in ("zztwo", "zzthree"):
        _install(site, name, "1")
    assert [pin.name for pin in closure(["zzroot"])] == ["zzone", "zzthree"]
    assert [pin.name for pin in closure(["zzroot[train]"])] == ["zzone", "zzthree", "zztwo"]


def test_an_extra_that_is_asked_for_late_is_followed_too(site: Path) -> None:
    _install(site, "zzroot", "1", "zzone", "zztwo")
    _install(site, "zzone", "1", "zzthree; extra == 'fast'")
    _install(site, "zztwo", "1", "zzone[fast]")
    _install(site, "zzthree", "1")
    assert [pin.name for pin in closure(["zzroot"])] == ["zzone", "zzthree", "zztwo"]


def test_a_job_has_prefect_as_a_client_and_the_skinny_mlflow_at_the_versions_installed_here() -> None:
    pins = {pin.name: pin.version for pin in closure(["volvox[job]"], "the training image")}
    assert pins["prefect-client"] == version("prefect")
    assert pins["mlflow-skinny"] == version("mlflow")
    assert not set(pins) & {
        "prefect", "mlflow", "sqlalchemy", "alembic", "docker", "flask", "pyarrow", "boto3",
        "prefect-docker", "prefect-kubernetes", "prefect-aws",
    }  # fmt: skip


def test_the_image_that_misses_a_requirement_is_named() -> None:
    with pytest.raises(InvalidInput, match="the training image needs zzabsent, which is not installed"):
        closure(["zzabsent"], "the training image")
