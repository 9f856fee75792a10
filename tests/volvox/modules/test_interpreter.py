"""A module in an interpreter of its own: found, refused, and what it sees there."""

from __future__ import annotations

import ast
import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments import environment
from volvox.errors import InvalidInput, NotFound
from volvox.modules import interpreter
from volvox.modules.calling import call_module
from volvox.serving.worker import Worker
from volvox.worker import bootstrap

WORKER = Path(bootstrap.__file__).parent
OURS = str(WORKER.parent.parent)

# Says what it sees; `control` and `wire` are also names of files on the worker's side.
MODULE = """
import importlib.metadata, os, sys
import control, wire


def get_metadata():
    return {"name": "seen"}


def predict(**arguments):
    return {
        "python": list(sys.version_info[:2]),
        "theirs": [control.WHOSE, wire.WHOSE],
        "path": sys.path,
        "volvox": [name for name in ("volvox.errors", "volvox.serving", "pydantic", "click") if _found(name)],
        "variables": [name for name in ("PYTHONPATH", "PYTHONHOME") if name in os.environ],
        "virtual": os.environ.get("VIRTUAL_ENV", ""),
    }


def train(**arguments):
    return predict()


def _found(name):
    from importlib.util import find_spec

    try:
        return find_spec(name) is not None
    except ImportError:
        return False
"""


def _older(version: str) -> str | None:
    """An interpreter of another version on this machine: on PATH, or one that pyenv keeps."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    return str(kept[-1]) if kept else shutil.which(f"python{version}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "seen.py").write_text(MODULE)
    for name in ("control", "wire"):
        (tmp_path / "code" / f"{name}.py").write_text('WHOSE = "the module\'s"\n')
    return tmp_path / "code"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing in it."""
    made = tmp_path_factory.mktemp("bare") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    return made


async def _asked(module: str, python: str, log: Path) -> dict:
    from volvox.serving.asking import AwaitedAsk

    worker = await Worker.start(module, environment={}, log=log, seconds=60, python=python)
    try:
        ask = AwaitedAsk({})
        worker.send([ask])
        answer = await asyncio.wait_for(ask.future, 30)
        assert "error" not in answer.header, answer.header
        import json

        return json.loads(answer.body)["predictions"]
    finally:
        await worker.end()


def test_a_worker_runs_in_an_environment_without_volvox_and_without_our_packages(
    bare: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", OURS)
    python = interpreter.inspect(str(bare)).path
    seen = asyncio.run(_asked(f"seen = seen @ {folder}", python, tmp_path / "log"))
    assert seen["theirs"] == ["the module's", "the module's"]
    assert seen["volvox"] == []
    assert seen["variables"] == []
    assert seen["virtual"] == str(bare)
    assert not [place for place in seen["path"] if place.startswith((OURS, str(Path(sys.prefix).resolve())))]


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
def test_a_worker_and_a_call_run_in_other_versions(version: str, folder: Path, tmp_path: Path) -> None:
    python = _older(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    wanted = [int(part) for part in version.split(".")]
    module = f"seen = seen @ {folder}"
    assert asyncio.run(_asked(module, python, tmp_path / "log"))["python"] == wanted
    assert asyncio.run(call_module(module, "train", python=python))["python"] == wanted


def test_the_worker_side_is_written_for_the_oldest_version_it_promises() -> None:
    for path in WORKER.glob("*.py"):
        ast.parse(path.read_text(), feature_version=bootstrap.OLDEST)


def test_a_module_sees_its_own_pins(folder: Path, tmp_path: Path) -> None:
    python = environment("pins", "marshmallow==3.21.3", "webargs==5.5.3", "setuptools<80")
    (folder / "pinned.py").write_text(
        "from importlib.metadata import version\n"
        "assert version('marshmallow') == '3.21.3', version('marshmallow')\n"
        "assert version('webargs') == '5.5.3', version('webargs')\n"
        "from webargs import fields, validate\n"
        "def get_predict_args():\n"
        "    return {'n': fields.Int(missing=3, validate=validate.Range(1, 9), description='How many')}\n"
        "def predict(n):\n"
        "    return {'n': n, 'versions': [version('marshmallow'), version('webargs')]}\n"
    )
    found = interpreter.inspect(str(python))
    seen = asyncio.run(_asked(f"pinned = pinned @ {folder}", found.path, tmp_path / "log"))
    assert seen == {"n": 3, "versions": ["3.21.3", "5.5.3"]}


def test_a_call_in_an_interpreter_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no Python at"):
        asyncio.run(call_module("anything", "train", python=str(tmp_path / "absent")))


def test_a_module_that_the_other_environment_lacks_is_told(bare: Path, install_module) -> None:
    install_module("ours", "def train():\n    return 1\n")
    assert asyncio.run(call_module("ours", "train")) == 1
    with pytest.raises(NotFound, match="no model module 'ours' is installed here"):
        asyncio.run(call_module("ours", "train", python=str(bare)))


def test_the_modules_of_another_environment_are_known_without_importing_them(bare: Path, tmp_path: Path) -> None:
    copy = tmp_path / "environment"
    shutil.copytree(bare, copy, symlinks=True)
    site = next((copy / "lib").glob("python*/site-packages"))
    (site / "theirs-1.dist-info").mkdir()
    (site / "theirs-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (site / "theirs-1.dist-info" / "entry_points.txt").write_text("[deepaas.v2.model]\ntheirs = theirs.api:model\n")
    assert interpreter.inspect(str(copy / "bin" / "python")).modules == {"theirs": "theirs.api:model"}


class TestRefused:
    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"there is no Python at .*absent; give --python the bin/python"):
            interpreter.inspect(str(tmp_path / "absent"))

    def test_a_folder_without_one(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="cannot be executed"):
            interpreter.inspect(str(tmp_path))

    @pytest.mark.parametrize("text", ["no program at all", "#!/bin/sh\necho hello\n", "#!/bin/sh\necho 12\n"])
    def test_what_is_no_python(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "python"
        path.write_text(text)
        path.chmod(0o755)
        with pytest.raises(InvalidInput, match="is no Python: asked which it is"):
            interpreter.inspect(str(path))

    def test_one_that_may_not_be_run(self, tmp_path: Path) -> None:
        (tmp_path / "python").write_text("#!/bin/sh\n")
        (tmp_path / "python").chmod(0o644)
        with pytest.raises(InvalidInput, match="cannot be executed"):
            interpreter.inspect(str(tmp_path / "python"))

    @pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
    def test_one_that_is_too_old(self, version: str) -> None:
        python = _older(version)
        if python is None:
            pytest.skip(f"there is no Python {version} here")
        with pytest.raises(InvalidInput, match=rf"is Python {version}\.\d+; a model module needs 3\.8 or later"):
            interpreter.inspect(python)


def test_an_environment_is_found_by_its_folder_and_its_link_is_kept(bare: Path) -> None:
    found = interpreter.inspect(str(bare))
    assert found.path == str(bare / "bin" / "python")
    assert Path(found.path).is_symlink()
