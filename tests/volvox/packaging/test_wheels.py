from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.volvox.packaging import standin
from volvox.errors import InvalidInput
from volvox.identity import file_digest
from volvox.packaging.wheels import build_wheel


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    standin.install(tmp_path / "site", monkeypatch)
    return tmp_path / "site"


def _editable(site: Path, source: Path, backend: str = "hatchling.build") -> None:
    told = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (site / "volvox_standin-1.0.dist-info" / "direct_url.json").write_text(json.dumps(told))
    (source / "standin_model").mkdir(parents=True)
    (source / "standin_model" / "__init__.py").write_text("here = 'the source'\n")
    (source / "pyproject.toml").write_text(
        f"[build-system]\nrequires = []\nbuild-backend = '{backend}'\n"
        "[project]\nname = 'volvox-standin'\nversion = '1.0'\n"
        "[tool.hatch.build.targets.wheel]\npackages = ['standin_model']\n"
    )


def test_the_wheel_of_an_installed_distribution_installs_and_works(site: Path, tmp_path: Path) -> None:
    wheel = build_wheel("volvox-standin", tmp_path)
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    assert (target / "standin_model" / "metadata.yaml").read_text() == standin.METADATA
    assert "standin = standin_model" in (target / "volvox_standin-1.0.dist-info" / "entry_points.txt").read_text()


def test_equal_files_give_an_equal_wheel(site: Path, tmp_path: Path) -> None:
    first, second = (build_wheel("volvox-standin", folder) for folder in _folders(tmp_path))
    assert file_digest(first) == file_digest(second)


def test_an_editable_distribution_is_built_from_its_source_and_reproducibly(site: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _editable(site, source)
    first, second = (build_wheel("volvox-standin", folder) for folder in _folders(tmp_path))
    assert file_digest(first) == file_digest(second)
    with zipfile.ZipFile(first) as archive:
        assert archive.read("standin_model/__init__.py") == b"here = 'the source'\n"
    assert sorted(path.name for path in source.iterdir()) == ["pyproject.toml", "standin_model"]


def test_a_source_that_does_not_build_says_why(site: Path, tmp_path: Path) -> None:
    _editable(site, tmp_path / "source", backend="no_such_backend")
    with pytest.raises(InvalidInput, match="no_such_backend"):
        build_wheel("volvox-standin", tmp_path)


def test_bytecode_and_scripts_stay_out_of_a_wheel(site: Path, tmp_path: Path) -> None:
    record = site / "volvox_standin-1.0.dist-info" / "RECORD"
    (site / "standin_model" / "__pycache__").mkdir()
    (site / "standin_model" / "__pycache__" / "x.pyc").write_bytes(b"x")
    record.write_text(record.read_text() + "standin_model/__pycache__/x.pyc,,\n../bin/standin,,\n")
    with zipfile.ZipFile(build_wheel("volvox-standin", tmp_path)) as archive:
        names = archive.namelist()
    assert not [name for name in names if ".." in name or name.endswith(".pyc")]


def _folders(place: Path) -> list[Path]:
    folders = [place / "one", place / "two"]
    for folder in folders:
        folder.mkdir()
    return folders
