"""Where entry points are found, with and without importlib.metadata."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from volvox.worker import finding

_CODE = """
import sys
from volvox.worker import finding
found = finding.find(sys.argv[1])
print(found.__name__, "importlib.metadata" in sys.modules)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "__init__.py").write_text("")
    (tmp_path / "lake" / "api.py").write_text("class Model:\n    pass\n")
    return tmp_path


def declared(site: Path, folder: str, text: str) -> None:
    (site / folder).mkdir(exist_ok=True)
    (site / folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lake\nVersion: 1\n")
    (site / folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: lake\nVersion: 1\n")
    (site / folder / "entry_points.txt").write_text(text)


def found(site: Path, name: str) -> str:
    line = [sys.executable, "-c", _CODE, name]
    done = subprocess.run(line, env={"PYTHONPATH": f"{site}:{Path.cwd()}"}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("value", ["lake.api:Model", "lake.api : Model [extra]", " lake.api:Model  "])
def test_an_entry_point_is_read_where_installers_write_it(site: Path, value: str) -> None:
    declared(site, "lake-1.dist-info", f"[console_scripts]\nlake = other:main\n\n[{finding.GROUP}]\nlake={value}\n")
    assert found(site, "lake") == "Model False"


def test_one_that_stands_elsewhere_is_found_too(site: Path) -> None:
    declared(site, "lake.egg-info", f"[{finding.GROUP}]\nlake = lake.api\n")
    assert found(site, "lake") == "lake.api True"


def test_one_that_is_not_there_and_one_without_its_object_are_told(site: Path, monkeypatch) -> None:
    declared(site, "lake-1.dist-info", f"[{finding.GROUP}]\nlake = lake.api:Nothing\n[other]\nsea = lake.api\n")
    monkeypatch.syspath_prepend(str(site))
    with pytest.raises(finding.Unknown, match="no model module 'sea' is installed"):
        finding.find("sea")
    with pytest.raises(finding.Unknown, match=r"lake\.api has no Nothing"):
        finding.find("lake")
