"""Settings of the runtimes of this machine: checked where they stand, and handed on as they are used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from volvox.errors import InvalidInput
from volvox.functions.applying import apply_files
from volvox.functions.reading import Definitions, read
from volvox.runtimes.interface import Call
from volvox.runtimes.local import LocalRuntime
from volvox.runtimes.models import Models
from volvox.runtimes.opening import runtime_of
from volvox.runtimes.versions import python_of
from volvox.settings import Home

SCRIPT = "name: f\nimage: busybox\nscript: |\n  echo hello\n  exit 0\n"


def defined(tmp_path: Path, text: str) -> Definitions:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    return read(path)


@pytest.mark.parametrize(
    ("stated", "runtime"), [("yes", "local"), ("'True'", "local"), ("'no'", "docker"), ("", "docker")]
)
def test_as_process_is_a_truth_value_however_it_is_written(tmp_path: Path, stated: str, runtime: str) -> None:
    (function,) = defined(tmp_path, f"{SCRIPT}settings: {{As_Process: {stated}}}\n").functions
    assert runtime_of(function) == runtime
    assert function.settings.get("as_process") in (True, False, None)


def test_as_process_comes_to_the_local_runtime(tmp_path: Path) -> None:
    class NoModels(Models): ...

    async def answered(text: str) -> str:
        (function,) = defined(tmp_path, text).functions
        runtime = LocalRuntime(tmp_path / "runtime", NoModels())
        try:
            await runtime.deploy(function, version="v1")
            return (await runtime.invoke("f", [Call("ab" * 16)]))[0].printed
        finally:
            await runtime.close()

    assert asyncio.run(answered(f"{SCRIPT}settings: {{as_process: 'yes'}}\n")) == "hello\n"
    with pytest.raises(InvalidInput, match="runtime local has no container engine"):
        asyncio.run(answered(f"{SCRIPT}runtime: local\nsettings: {{as_process: 'no'}}\n"))


def test_python_is_a_path_beside_the_file_which_must_be_there(tmp_path: Path) -> None:
    text = "name: f\nmodel: m\nruntime: local\nsettings: {python: envs/old}\n"
    found = defined(tmp_path, text)
    path = tmp_path / "envs" / "old"
    where = f"{tmp_path}/f.yaml:4: settings.python is 'envs/old', and there is no {path}; put the interpreter there"
    assert [one.message for one in found.missing] == [where]
    home = Home(tmp_path / "home")
    with pytest.raises(InvalidInput, match="put the interpreter there"):
        apply_files(home, [tmp_path / "f.yaml"])
    assert any("envs/old" in told for told in apply_files(home, [tmp_path / "f.yaml"], dry_run=True).warnings)
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").touch()
    found = defined(tmp_path, text)
    assert (found.missing, python_of(found.functions[0])) == ((), str(path))


@pytest.mark.parametrize("user", ["1000", "1000:1000", "'1000:1000'", "nobody", "app:staff"])
def test_user_stays_as_it_stands(tmp_path: Path, user: str) -> None:
    (function,) = defined(tmp_path, f"{SCRIPT}settings: {{user: {user}, annotations: {{a: 1}}}}\n").functions
    assert function.settings == {"user": user.strip("'"), "annotations": {"a": 1}}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("as_process: perhaps", "settings.as_process is 'perhaps'; write true or false"),
        ("user: 'a b'", "settings.user is 'a b'; write a user of the image, or a user and a group"),
        ("user: [1, 2]", "settings.user is a list"),
        ("python: ''", "settings.python is empty; write a text"),
        ("on: [a]", "settings.on is a list"),
    ],
)
def test_a_wrong_one_is_refused_with_file_and_line(tmp_path: Path, setting: str, said: str) -> None:
    with pytest.raises(InvalidInput) as told:
        defined(tmp_path, f"{SCRIPT}settings:\n  other: 1\n  {setting}\n")
    assert str(told.value).startswith(f"{tmp_path}/f.yaml:8: {said}")


def test_as_process_needs_something_to_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"f.yaml:3: settings has as_process, and there is neither a script nor"):
        defined(tmp_path, "name: f\nimage: busybox\nsettings: {as_process: true}\n")
    defined(tmp_path, "name: f\nimage: busybox\ncommand: [ls]\nsettings: {as_process: true}\n")
    (missing,) = defined(tmp_path, "name: f\nimage: b\nscript: no.sh\nsettings: {as_process: true}\n").missing
    assert missing.what == "script", "that alone is told"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: m\nsettings: {user: '1'}\n", "settings.user counts for an image on runtime docker alone"),
        ("model: m\nsettings: {as_process: true}\n", "settings.as_process counts for a script on runtime local alone"),
        (f"{SCRIPT}runtime: docker\nsettings: {{as_process: true}}\n", "settings.as_process counts for"),
        (f"{SCRIPT}settings: {{python: nowhere}}\n", "settings.python counts for a model on runtime local alone"),
        (f"{SCRIPT}settings: {{on: gpu}}\n", "settings.on counts for a flow alone"),
    ],
)
def test_one_that_does_nothing_there_is_a_warning(tmp_path: Path, text: str, said: str) -> None:
    found = defined(tmp_path, text)
    assert [said in warning for warning in found.warnings] == [True]
    assert found.missing == ()
