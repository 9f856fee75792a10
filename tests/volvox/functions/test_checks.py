from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.volvox.functions.made_up import OSCAR, SCAR, defined
from volvox.errors import Unavailable, VolvoxError
from volvox.functions import checks
from volvox.functions.checks import Finding, findings, make_folders
from volvox.functions.definition import Function, Input, Output
from volvox.settings import Home


def found(function: Function, home: Home, **more) -> dict[str, tuple[bool | None, str]]:
    return {each.name: (each.ok, each.said) for each in findings(function, home, **more)}


@pytest.fixture
def catalogue(home: Home) -> Home:
    entry = home.folder("catalogue", "digits") / "entry.json"
    entry.write_text(json.dumps({"metadata": {"version": "3"}}))
    return home


@pytest.mark.parametrize(
    ("model", "ok", "said"),
    [
        ("digits", True, "the catalogue shows digits/3"),
        ("digits/3", True, "the catalogue shows digits/3"),
        ("digits/2", None, "the catalogue shows another version than 'digits/2'"),
        ("digits@best", None, "the catalogue shows another version than 'digits@best'"),
        ("digts", False, "the catalogue shows no model 'digts', did you mean 'digits'?; there are digits"),
    ],
)
def test_a_model_is_looked_for_in_the_catalogue(catalogue: Home, model: str, ok: bool | None, said: str) -> None:
    assert found(Function(name="a", model=model), catalogue)["model"][0] is ok
    assert found(Function(name="a", model=model), catalogue)["model"][1].startswith(said)


def test_an_empty_catalogue_says_how_to_fill_it(home: Home) -> None:
    [finding] = findings(Function(name="a", model="digits"), home)
    assert finding.line() == (
        "missing  model       the catalogue shows no model 'digits'; it shows none\n"
        "                    -> volvox cycle FOLDER --name digits"
    )


def test_folders_are_looked_at_and_made(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    function = Function(
        name="a", image="x", inputs=(Input(url=f"file://{tmp_path}/in"),),
        outputs=(Output(url=f"file://{tmp_path}/a/b"), Output(url=f"file://{tmp_path}/file"), Output(url="s3://one/x")),
    )  # fmt: skip
    told = [(each.name, each.ok) for each in findings(function, home)]
    assert told == [("image", None), ("input", False), ("output", False), ("output", False), ("output", None)]
    with pytest.raises(VolvoxError, match="file"):
        make_folders(function)
    sound = function.model_copy(update={"outputs": (function.outputs[0], function.outputs[2])})
    make_folders(sound)
    assert (tmp_path / "in").is_dir()
    assert make_folders(sound) == []
    assert [each.ok for each in findings(sound, home)] == [None, True, True, None]


def test_a_script_and_credentials_are_looked_for(home: Home, tmp_path: Path) -> None:
    [function] = defined(tmp_path, SCAR).functions
    told = found(function, home)
    assert told["script"] == (True, "2 lines are kept with it")
    assert told["credentials"] == (True, "those of s3.archive are read from its file at need")
    [service] = defined(tmp_path, OSCAR).functions
    (tmp_path / "functions.yaml").unlink()
    for each in (function, service):
        ok, said = found(each, home)["credentials"]
        assert ok is False
        assert "cannot be read" in said
        assert "hunter2" not in said


def test_a_file_that_a_definition_names_is_missed(home: Home, tmp_path: Path) -> None:
    definitions = defined(
        tmp_path, "functions: {oscar: [{a: {name: n, image: i, script: s.sh}}, {b: {name: n, image: i}}]}"
    )
    assert [missing.function for missing in definitions.missing] == ["n.a"]
    ok, said = found(definitions.functions[0], home, missing=definitions.missing)["script"]
    assert ok is False
    assert "functions.oscar.0.a.script is 's.sh', and there is no" in said


def test_rooms_add_checks_and_one_that_fails_is_a_finding(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(function: Function, home: Home, *, offline: bool):
        yield Finding("engine", None if offline else True, function.runtime)

    def bucket(function: Function, home: Home, *, offline: bool):
        raise Unavailable("the store does not answer")

    monkeypatch.setattr(checks, "_of_other_rooms", lambda: [("engine", engine), ("bucket", bucket)])
    function = Function(name="a", image="x", runtime="docker")
    assert found(function, home, offline=True)["engine"] == (None, "docker")
    told = found(function, home)
    assert told["engine"] == (True, "docker")
    assert told["bucket"] == (False, "the store does not answer")


def test_what_nobody_described_is_told(home: Home) -> None:
    function = Function(name="a", image="x", outputs=(Output(url="s3://one/out", provider="minio.edge"),))
    assert found(function, home)["credentials"][1].startswith("nothing says what minio.edge of s3://one/out is")
    doubtful = Function(name="a", image="x", inputs=(Input(url="s3://one/in"),), outputs=(Output(url="s3://one"),))
    assert "would be answered again" in found(doubtful, home)["chain"][1]


def _dropped(home: Home, on: str, **more) -> list[Finding]:
    places = {"inputs": [{"url": "file:///data/in"}], "outputs": [{"url": "s3://lake/out", "provider": "s3.lake"}]}
    function = Function.model_validate({"name": "a", "model": "m", **places, "bulk": {"least": 50, "on": on}, **more})
    return [each for each in findings(function, home) if each.name == "bulk"]


def test_the_pool_of_large_drops_is_looked_for(home: Home) -> None:
    [here] = _dropped(home, "local")
    assert (here.ok, here.said) == (True, "50 files of one user that wait go to work pool 'local'")
    [unknown] = _dropped(home, "dokcer")
    assert unknown.ok is None
    assert unknown.said.startswith("there is no work pool 'dokcer', did you mean 'docker'?; without a deployment")
    [off] = _dropped(home, "docker")
    assert (off.ok, off.mend) == (None, "volvox pools enable docker")


def test_what_containers_of_the_pool_would_not_find_is_told(home: Home) -> None:
    pool = home.folder("pools") / "far.yaml"
    pool.write_text("{name: far, type: docker, image: x}")
    _, folder, credentials = _dropped(home, "far", providers={"s3.lake": "file:/secrets#storage_providers"})
    assert folder.said == "containers of work pool 'far' do not have the folder /data/in"
    assert folder.mend == "add /data/in:/data/in to the pool's volumes"
    assert credentials.said.endswith("do not have the file with the credentials of s3.lake")
    pool.write_text("{name: far, type: docker, image: x, volumes: ['/data:/data']}")
    assert [each.ok for each in _dropped(home, "far", providers={"s3.lake": "block:lake"})] == [True]
