"""What a person writes, and the module that is meant."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from volvox.errors import InvalidInput, UnknownModule
from volvox.modules import checkout, specification
from volvox.modules.interpreter import Interpreter
from volvox.worker import finding
from volvox.worker.finding import Place

NONE = Interpreter("", {})
PYPROJECT = """
[project]
name = "demo-module"
version = "1.2"
description = "A module"
authors = [{name = "Ada", email = "ada@example.org"}]

[project.entry-points."deepaas.v2.model"]
demo = "demo.api"
"""
POETRY = """
[tool.poetry]
name = "demo-module"
version = "1.2"

[tool.poetry.plugins."deepaas.v2.model"]
demo = "demo.api"
"""
SETUP_CFG = """
[metadata]
name = demo-module
version = 1.2
summary = A module

[options.entry_points]
deepaas.v2.model =
    demo = demo.api
"""
PBR = """
[metadata]
name = demo-module
version = 1.2

[entry_points]
deepaas.v2.model =
    demo = demo.api
"""
SETUP_PY = """
import setuptools, os
raise SystemExit("setup.py was run")
setuptools.setup(name="demo-module", version="1.2", packages=setuptools.find_packages(),
    entry_points={"deepaas.v2.model": ["demo = demo.api"]})
"""
SETUP_PY_TEXT = """
from setuptools import setup
setup(name="demo-module", version="1.2", entry_points='''
[deepaas.v2.model]
demo = demo.api
''')
"""


def _package(root: Path, name: str = "demo", code: str = "") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "__init__.py").touch()
    (root / name / "api.py").write_text(code or "def predict():\n    return 1\n")
    return root


def _resolve(text: str, tmp_path: Path, interpreter: Interpreter = NONE) -> Place:
    return specification.resolve(text, interpreter, tmp_path / "information")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", PYPROJECT),
        ("pyproject.toml", POETRY),
        ("setup.cfg", SETUP_CFG),
        ("setup.cfg", PBR),
        ("setup.py", SETUP_PY),
        ("setup.py", SETUP_PY_TEXT),
    ],
)
@pytest.mark.parametrize("layout", ["", "src"])
def test_a_checkout_is_read_without_installing_or_running_it(name: str, text: str, layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    _package(folder / layout)
    (folder / name).write_text(text)
    place = _resolve(str(folder), tmp_path)
    assert (place.name, place.module, place.object) == ("demo", "demo.api", "")
    assert place.folders[0] == str(folder / layout)
    assert finding.parse(str(place)) == place
    told = importlib.metadata.Distribution.at(next(Path(place.folders[1]).glob("*.dist-info")))
    assert (told.metadata["Name"], told.version) == ("demo-module", "1.2")


def test_a_module_of_a_checkout_finds_itself_by_name_as_if_it_were_installed(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    code = "import importlib.metadata\nTOLD = importlib.metadata.metadata('demo-module')\n"
    _package(folder, code=code)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    place = _resolve(str(folder), tmp_path)
    script = (
        "import sys; from volvox.worker import finding; told = finding.find(sys.argv[1]).TOLD\n"
        "print(told['Author'], told['Author-email'], told['Version'], told['Summary'])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(place)], capture_output=True, text=True, check=False)
    assert done.stdout == "Ada ada@example.org 1.2 A module\n", done.stderr


def test_the_code_of_the_folder_goes_before_an_installed_copy(tmp_path: Path, monkeypatch) -> None:
    _package(tmp_path / "site", code="WHOSE = 'installed'\n")
    _package(tmp_path / "checkout", code="WHOSE = 'the folder'\n")
    (tmp_path / "checkout" / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    script = "import sys; from volvox.worker import finding; print(finding.find(sys.argv[1]).WHOSE)"
    place = str(_resolve(str(tmp_path / "checkout"), tmp_path))
    done = subprocess.run([sys.executable, "-c", script, place], capture_output=True, text=True, check=False)
    assert done.stdout == "the folder\n", done.stderr


def test_a_checkout_with_several_modules_asks_which(tmp_path: Path) -> None:
    _package(tmp_path / "checkout")
    (tmp_path / "checkout" / "pyproject.toml").write_text(f'{PYPROJECT}second = "demo.api:second"\n')
    with pytest.raises(InvalidInput, match=r"has the model modules demo, second; name one of them: --module .*:demo"):
        _resolve(str(tmp_path / "checkout"), tmp_path)
    place = _resolve(f"{tmp_path / 'checkout'}:second", tmp_path)
    assert (place.name, place.module, place.object) == ("second", "demo.api", "second")
    with pytest.raises(InvalidInput, match="name one of them"):
        _resolve(f"{tmp_path / 'checkout'}:third", tmp_path)


def test_a_checkout_without_its_package_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    with pytest.raises(InvalidInput, match="there is no package 'demo' in it"):
        _resolve(str(tmp_path), tmp_path)


def test_a_checkout_that_cannot_be_parsed_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(InvalidInput, match=r"pyproject\.toml cannot be read: "):
        _resolve(str(tmp_path), tmp_path)


def test_a_folder_with_an_api_file_a_package_and_a_file(tmp_path: Path) -> None:
    root = _package(tmp_path / "root")
    expected = Place("demo", "demo.api", "", (str(root),))
    assert _resolve(str(root), tmp_path) == expected
    assert _resolve(str(root / "demo"), tmp_path) == expected
    assert _resolve(f"{root / 'demo' / 'api.py'}:model", tmp_path) == Place("demo", "demo.api", "model", (str(root),))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "api.py").touch()
    assert _resolve(str(tmp_path / "plain"), tmp_path) == Place("plain", "api", "", (str(tmp_path / "plain"),))


def test_a_folder_that_holds_no_module_is_told_and_so_is_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no model module"):
        _resolve(str(tmp_path), tmp_path)
    with pytest.raises(InvalidInput, match="there is no folder /nowhere/at/all; give --module"):
        _resolve("/nowhere/at/all", tmp_path)


def test_an_object_of_a_python_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _resolve("pack.api:Model.made", tmp_path) == Place("pack", "pack.api", "Model.made")
    assert _resolve("pack.api", tmp_path) == Place("pack", "pack.api")
    (tmp_path / "pack.py").touch()
    assert _resolve("pack:model", tmp_path).folders == (str(tmp_path),), "it lies in the current folder"
    there = Interpreter("", {"other": "pack.api"})
    assert _resolve("pack:model", tmp_path, there).folders == (), "a distribution brings it"


def test_an_installed_name_goes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_package(tmp_path))
    there = Interpreter("", {"demo": "demo.api"})
    assert _resolve("demo", tmp_path, there) == Place("demo")
    assert _resolve("./demo", tmp_path, there).folders == (str(tmp_path),)


def test_a_name_that_nothing_has_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownModule, match=r"no model module 'x' is installed; installed: a, b in /p; give --module"):
        _resolve("x", tmp_path, Interpreter("/p", {"b": "b", "a": "a"}))


def test_where_none_is_named_the_only_one_is_meant() -> None:
    assert specification.only(Interpreter("", {"one": "one.api"})) == Place("one")
    with pytest.raises(InvalidInput, match=r"2 model modules are installed \(one, two\).*--module NAME.*--model-name"):
        specification.only(Interpreter("", {"two": "two", "one": "one"}))
    with pytest.raises(InvalidInput, match="no model module is installed; give --module"):
        specification.only(NONE)


def test_a_version_that_is_computed_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text(SETUP_CFG.replace("version = 1.2", "version = attr: demo.__version__"))
    (tmp_path / "VERSION").write_text("7.1\n")
    assert checkout.read(tmp_path).facts["version"] == "7.1"
