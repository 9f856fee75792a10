from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.volvox.functions.made_up import OSCAR, OWN, SCAR, defined, written
from volvox.errors import InvalidInput
from volvox.functions.reading import parse, read


def test_both_forms_may_be_in_one_file(tmp_path: Path) -> None:
    text = SCAR.replace(
        "storage_providers:", OSCAR.split("clusters:")[0].replace("functions:\n", "") + "storage_providers:"
    )
    assert [function.origin for function in defined(tmp_path, text).functions] == ["scar", "oscar"]


def test_line_ends_of_windows_and_tabs_at_ends_do_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.write_bytes(b"\xef\xbb\xbf" + OSCAR.replace("\n", " \t\r\n").encode())
    assert read(path).functions == defined(tmp_path, OSCAR).functions


# -- anything -------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    ["functions", "aws", "oscar", "lambda", "name", "image", "container", "memory", "cpu", "script", "init_script",
     "url", "input", "output", "path", "in", "out", "places", "storage_provider", "storage_providers", "s3", "minio",
     "default", "access_key", "environment", "Variables", "model", "runtime", "suffix", "<<"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.binary(max_size=4),
    st.sampled_from(["local", "s3", "minio.x", "s3://bucket/in", "1Gi", "~", "~x/y", "a/b", "plants.sh", "..", "[a]"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)


def given_or_told(text: str, path: Path) -> None:
    try:
        assert parse(text, path).functions
    except InvalidInput as error:
        assert str(error).startswith(str(path))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_any_yaml_gives_functions_or_says_why_not(tmp_path: Path, value: object) -> None:
    given_or_told(yaml.safe_dump(value, allow_unicode=True), tmp_path / "f.yaml")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_any_text_gives_functions_or_says_why_not(tmp_path: Path, text: str) -> None:
    given_or_told(text, tmp_path / "f.yaml")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), form=st.sampled_from([OWN, SCAR, OSCAR]))
def test_a_good_file_with_something_else_in_it_gives_functions_or_says_why_not(tmp_path: Path, data, form: str) -> None:
    document = yaml.safe_load(form)
    spots: list[tuple[object, object]] = []

    def visit(value: object) -> None:
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            spots.append((value, key))
            visit(inner)

    visit(document)
    holder, key = data.draw(st.sampled_from(spots))
    holder[key] = data.draw(VALUES)  # type: ignore[index]
    given_or_told(yaml.safe_dump(document, allow_unicode=True), tmp_path / "f.yaml")


def test_deep_and_unfolding_files_are_told(tmp_path: Path) -> None:
    given_or_told("[" * 5000, tmp_path / "f.yaml")
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(InvalidInput, match="more than a definition can"):
        parse(bomb, tmp_path / "f.yaml")


# -- real ones ------------------------------------------------------------------------------------------------------


def _examples() -> list[Path]:
    data = os.environ.get("VOLVOX_TEST_DATA")
    return sorted((Path(data).parent / "examples" / "functions").glob("*.yaml")) if data else []


@pytest.mark.skipif(not os.environ.get("VOLVOX_TEST_DATA"), reason="VOLVOX_TEST_DATA is not set: no examples here")
def test_there_are_examples_of_both_forms() -> None:
    assert {path.name.partition("_")[0] for path in _examples()} >= {"scar", "oscar"}


@pytest.mark.parametrize("path", _examples(), ids=lambda path: path.stem)
def test_files_as_their_users_wrote_them_are_read_unchanged(path: Path) -> None:
    found = read(path)
    assert found.functions
    assert all(function.image and function.origin in ("scar", "oscar") for function in found.functions)
    assert {missing.what for missing in found.missing} <= {"script"}
    if "fire_detection" in path.name:
        assert [function.name for function in found.functions] == [
            "fire-detection.oscar-cluster-edge", "fire-detection.oscar-cluster",
        ]  # fmt: skip
