from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.volvox.functions.made_up import OSCAR, OWN, SCAR, written
from volvox.cli.main import run
from volvox.errors import Unavailable
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.functions.reading import read
from volvox.settings import Home


@pytest.fixture
def catalogue(home: Home) -> Home:
    entry = home.folder("catalogue", "digits") / "entry.json"
    entry.write_text(json.dumps({"metadata": {"version": "3", "resources": {"inference": {"memory_MB": 512}}}}))
    return home


class Volvox:
    """`volvox functions ...` in this process; what it printed, and its exit code."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.error = ""

    def __call__(self, *words: object, code: int = 0) -> str:
        self._capfd.readouterr()
        came = run(["functions", *map(str, words)])
        captured = self._capfd.readouterr()
        self.error = captured.err
        assert came == code, captured
        return captured.out

    def json(self, *words: object, code: int = 0):
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def volvox(capfd: pytest.CaptureFixture[str]) -> Volvox:
    return Volvox(capfd)


def test_what_was_made_for_its_data_goes_only_if_that_is_said(
    catalogue: Home, volvox: Volvox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []

    def made_for(function: Function, home: Home, *, remove: bool = False) -> list[str]:
        gone.extend([function.name] if remove else [])
        return ["bucket films"]

    monkeypatch.setattr("volvox.functions.data.made_for", made_for)
    path = written(tmp_path, OWN)
    volvox("apply", path)
    told = volvox("remove", "digits", "--with-data", "--dry-run")
    assert told.startswith("bucket films would be removed with all that is in it\n") and gone == []
    volvox("remove", "digits", "--yes")
    assert gone == []
    volvox("apply", path)
    told = volvox("remove", "digits", "--with-data", "--yes")
    assert told.startswith("removed bucket films with all that was in it\n") and gone == ["digits"]
    assert volvox.json("list") == []


def test_nothing_is_forgotten_whose_data_cannot_be_removed(
    catalogue: Home, volvox: Volvox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_for(function: Function, home: Home, *, remove: bool = False) -> list[str]:
        if remove:
            raise Unavailable("AWS did not answer when asked to remove the bucket films")
        return ["bucket films"]

    monkeypatch.setattr("volvox.functions.data.made_for", made_for)
    volvox("apply", written(tmp_path, OWN))
    volvox("remove", "digits", "--with-data", "--yes", code=4)
    assert "bucket films" in volvox.error
    assert [one["name"] for one in volvox.json("list")] == ["digits"]


def test_three_lines_are_applied_listed_shown_and_removed(catalogue: Home, volvox: Volvox, tmp_path: Path) -> None:
    path = written(tmp_path, OWN)
    told = volvox("apply", path)
    assert "function 'digits' added (version " in told
    assert f"made the folder {tmp_path}/drop" in told
    assert (tmp_path / "answers").is_dir()
    assert (
        volvox("apply", path) == f"function 'digits' is so already (version {_version('digits')}); nothing to change\n"
    )
    for word in ("digits", "local", f"{tmp_path}/drop", f"{tmp_path}/answers", _version("digits")):
        assert word in volvox("list")
    page = volvox("show", "digits")
    assert f"# read from {path}\n" in page
    assert "# by the model's metadata: memory_mb 512\n" in page
    (tmp_path / "again.yaml").write_text(page)
    assert volvox("apply", tmp_path / "again.yaml").startswith("function 'digits' is so already")
    assert volvox("remove", "digits", "--yes") == "function 'digits' removed; what lies in its places stays\n"
    assert volvox("list") == "there is no function; `volvox functions apply FILE` makes one\n"
    assert (tmp_path / "drop").is_dir()


def _version(name: str) -> str:
    return registry.get(Home.current(), name).version[:12]


def test_a_change_is_told_and_taken_back(catalogue: Home, volvox: Volvox, tmp_path: Path) -> None:
    path = written(tmp_path, OWN)
    volvox("apply", path)
    first = _version("digits")
    path.write_text(f"{OWN}priority: 5\n")
    assert "function 'digits' would be changed: priority" in volvox("apply", path, "--dry-run")
    assert _version("digits") == first
    assert f"function 'digits' changed: priority (version {first} -> " in volvox("apply", path)
    second = _version("digits")
    assert f"# other versions: {first} (" in volvox("show", "digits")
    assert "priority: 5" not in volvox("show", "digits", "--version", first[:6])
    assert f"made active again: priority (version {second} -> {first})" in volvox("rollback", "digits")
    assert volvox.json("rollback", "digits", second[:8])["changes"][0]["change"] == "activated"
    told = volvox.json("show", "digits")
    assert [(one["version"][:12], one["active"]) for one in told["versions"]] == [(second, True), (first, False)]
    volvox("rollback", "digits", "zz", code=2)
    assert "no version of function 'digits' begins with 'zz'" in volvox.error


def test_chains_are_shown_and_loops_refused(home: Home, volvox: Volvox, tmp_path: Path) -> None:
    one = "{name: one, image: x, places: {in: s3://lake/in, out: s3://lake/middle}}"
    two = "{name: two, image: x, places: {in: s3://lake/middle, out: OUT}}"
    path = written(tmp_path, f"functions: [{one}, {two.replace('OUT', 's3://lake/out')}]")
    volvox("apply", path)
    assert "# feeds two from s3://lake/middle\n" in volvox("show", "one")
    assert volvox.json("show", "two")["fed_by"] == ["one"]
    path.write_text(two.replace("OUT", "s3://lake/in/again"))
    for more in ([], ["--dry-run"]):
        volvox("apply", path, *more, code=2)
        assert "function 'two' would answer what comes of its own answers for ever: 'two' writes to" in volvox.error
    assert registry.get(home, "two").function.outputs[0].url == "s3://lake/out"


def test_a_dry_run_needs_nothing_and_says_what_it_could_not_see(home: Home, volvox: Volvox, tmp_path: Path) -> None:
    path = tmp_path / "scar.yaml"
    path.write_text(SCAR)
    assert "function 'frames' would be added" in volvox("apply", path, "--dry-run")
    for said in (
        f"{path}:21: functions.aws.0.api_gateway.name is kept: an address",
        f"frames: script: functions.aws.0.lambda.init_script is 'frames.sh', and there is no {tmp_path}/frames.sh",
        "frames: image: nobody looked for example/ffmpeg:4",
        "frames: input: nobody looked for the bucket s3://films",
    ):
        assert f"warning: {said}" in volvox.error
    assert volvox.json("apply", path, "--dry-run")["written"] is False
    assert not (home.root / "functions").exists()
    volvox("apply", path, code=2)
    assert (
        f":9: functions.aws.0.lambda.init_script is 'frames.sh', and there is no {tmp_path}/frames.sh" in volvox.error
    )
    assert not (home.root / "functions").exists()


@pytest.mark.parametrize(
    ("text", "said"), [("model: digts", "did you mean 'digits'?"), ("model: digits\nfoo: 1", ":2: there is no key")]
)
def test_what_is_wrong_or_missing_is_refused(
    catalogue: Home, volvox: Volvox, tmp_path: Path, text: str, said: str
) -> None:
    good = written(tmp_path, OWN, "good.yaml")
    bad = written(tmp_path, text, "bad.yaml")
    volvox("apply", good, bad, code=2)
    assert said in volvox.error
    assert registry.functions(catalogue) == {}, "nothing of it is applied"


def test_mistakes_of_all_files_are_told(home: Home, volvox: Volvox, tmp_path: Path) -> None:
    files = [written(tmp_path, "foo: 1\n", name) for name in ("a.yaml", "b.yaml")]
    volvox("apply", *files, tmp_path / "none.yaml", code=2)
    for name in ("a.yaml:1", "b.yaml:1", "none.yaml cannot be read"):
        assert name in volvox.error
    volvox("apply", written(tmp_path, OWN, "a.yaml"), written(tmp_path, OWN, "b.yaml"), code=2)
    assert "function 'digits' is in " in volvox.error


def test_where_it_runs_can_be_said_beside_the_file(home: Home, volvox: Volvox, tmp_path: Path) -> None:
    volvox("apply", written(tmp_path, SCAR), "--on", "docker")
    assert registry.get(home, "frames").function.runtime == "docker"
    volvox("apply", written(tmp_path, SCAR), "--on", "dokcer", code=2)


def test_a_service_that_moves_to_another_cluster_is_told(home: Home, volvox: Volvox, tmp_path: Path) -> None:
    path = written(tmp_path, OSCAR)
    volvox("apply", path)
    assert "takes the place" not in volvox.error
    path.write_text(OSCAR.replace("site-a", "site-b"))
    assert "function 'plants' changed: " in volvox("apply", path)
    assert "plants: it takes the place of the one on cluster 'site-a'" in volvox.error


@pytest.mark.parametrize("form", ["scar", "oscar", "volvox"])
def test_a_file_with_its_scripts_is_written(home: Home, volvox: Volvox, tmp_path: Path, form: str) -> None:
    volvox("apply", written(tmp_path, OSCAR if form == "oscar" else SCAR))
    name = "plants" if form == "oscar" else "frames"
    assert volvox("export", name, "--format", form, "--to", tmp_path / "out") == f"wrote {tmp_path}/out/{name}.yaml\n"
    assert (tmp_path / "out" / f"{name}.sh").read_text() == f"#!/bin/sh\necho {name}.sh\n"
    [again] = read(tmp_path / "out" / f"{name}.yaml").functions
    assert again == registry.get(home, name).function
    assert "hunter2" not in volvox("export", name, "--format", form)
    assert ("--to FOLDER writes both" in volvox.error) is (form != "volvox")


def test_a_model_is_not_written_for_scar(catalogue: Home, volvox: Volvox, tmp_path: Path) -> None:
    volvox("apply", written(tmp_path, OWN))
    volvox("export", "digits", "--format", "scar", code=2)
    assert "SCAR knows images alone" in volvox.error


def test_what_is_missing_is_found(catalogue: Home, volvox: Volvox, tmp_path: Path) -> None:
    path = written(tmp_path, OWN)
    told = volvox("check", path, code=4)
    assert "ok       model       the catalogue shows digits/3" in told
    assert f"missing  input       there is no folder {tmp_path}/drop" in told
    assert "2 of 3 are missing" in told
    volvox("apply", path)
    assert "nothing is missing" in volvox("check", "digits")
    assert volvox.json("check", "digits")["ok"] is True
    volvox("check", "digit", code=2)
    assert "did you mean 'digits'" in volvox.error


def test_nobody_is_asked_where_nobody_is(catalogue: Home, volvox: Volvox, tmp_path: Path) -> None:
    volvox("apply", written(tmp_path, OWN))
    volvox("remove", "digits", code=2)
    assert "say --yes" in volvox.error
    volvox("remove", "digts", code=2)
    assert "did you mean 'digits'" in volvox.error
    assert (
        volvox("remove", "digits", "--dry-run") == "function 'digits' would be removed; what lies in its places stays\n"
    )
    assert set(registry.functions(catalogue)) == {"digits"}


def test_no_secret_is_printed_or_kept(home: Home, volvox: Volvox, tmp_path: Path) -> None:
    path = written(tmp_path, OSCAR)
    printed = volvox("apply", path) + volvox.error + volvox.json("apply", path).__str__()
    for words in (
        ("list", "--json"),
        ("show", "plants"),
        ("show", "plants", "--json"),
        ("export", "plants"),
        ("check", "plants"),
    ):
        printed += volvox(*words) + volvox.error
    kept = "".join(file.read_text() for file in home.root.rglob("*") if file.is_file())
    assert "hunter2" not in printed + kept


def test_a_list_needs_nothing_heavy(home: Home) -> None:
    code = "import sys; from volvox.cli.main import run; run(['functions', 'list']); print(*sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(made.stdout.split())
    assert "volvox.functions.registry" in loaded
    assert not loaded & {"prefect", "mlflow", "torch", "numpy", "httpx", "starlette", "uvicorn", "obstore"}


@pytest.mark.skipif(not os.environ.get("VOLVOX_TEST_DATA"), reason="VOLVOX_TEST_DATA is not set: no examples here")
def test_files_as_their_users_wrote_them_pass_a_dry_run(home: Home, volvox: Volvox) -> None:
    examples = sorted((Path(os.environ["VOLVOX_TEST_DATA"]).parent / "examples" / "functions").glob("*.yaml"))
    assert examples
    for path in examples:
        volvox("apply", path, "--dry-run")
        assert "and there is no" in volvox.error
    told = volvox.json("apply", *examples, "--dry-run")
    assert len(told["changes"]) >= len(examples)
    assert not (home.root / "functions").exists()
