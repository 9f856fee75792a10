from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import pytest

from volvox.cancelling import Cancelled
from volvox.errors import InvalidInput
from volvox.packaging.fetching import fetch_wheel, needs_cuda
from volvox.packaging.requirements import Pin


def _wheel(folder: Path, name: str, version: str, *requires: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {line}\n" for line in requires),
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        for file, text in files.items():
            archive.writestr(f"{name}-{version}.dist-info/{file}", text)
    return path


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, which is all that pip knows."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return tmp_path / "links"


def test_a_wheel_is_downloaded_once(offline: Path, tmp_path: Path) -> None:
    source = _wheel(offline, "zzwheel", "1.0", "zzneeded")
    first = fetch_wheel(Pin("zzwheel", "1.0"), tmp_path / "cache", threading.Event())
    assert first.read_bytes() == source.read_bytes()
    source.unlink()
    assert fetch_wheel(Pin("zzwheel", "1.0"), tmp_path / "cache", threading.Event()) == first


def test_a_wheel_that_is_not_there_is_told_and_leaves_nothing(offline: Path, tmp_path: Path) -> None:
    offline.mkdir()
    with pytest.raises(InvalidInput, match=r"cannot download zzwheel==2\.0 for the training image"):
        fetch_wheel(Pin("zzwheel", "2.0"), tmp_path / "cache", threading.Event())
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cancelled_download_leaves_nothing(offline: Path, tmp_path: Path) -> None:
    _wheel(offline, "zzwheel", "1.0")
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        fetch_wheel(Pin("zzwheel", "1.0"), tmp_path / "cache", cancelled)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("requires", "cuda"),
    [(["numpy", "nvidia-cublas-cu12==12; platform_system == 'Linux'"], True), (["filelock", "sympy"], False)],
)
def test_a_wheel_with_cuda_is_known_by_what_it_requires(tmp_path: Path, requires: list[str], cuda: bool) -> None:
    assert needs_cuda(_wheel(tmp_path, "torch", "2.0", *requires)) is cuda
