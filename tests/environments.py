"""Virtual environments for tests that need other versions than ours; kept between runs in `.reference/`."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".reference"


def environment(name: str, *requirements: str) -> Path:
    """The interpreter of an environment that holds `requirements`, made if it is not there; skips where pip cannot.

    An environment is of use once its file `ready` is there, which is written last: a killed run leaves none that is
    half made. Two runs at once make it once. One with other requirements is removed.
    """
    wanted = "\n".join((sys.version, *requirements))
    folder = KEPT / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    KEPT.mkdir(exist_ok=True)
    with (KEPT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            for old in KEPT.glob(f"{name}-{'[0-9a-f]' * 12}"):
                shutil.rmtree(old)
            _make(folder, requirements)
            (folder / "ready").touch()
    return folder / "bin" / "python"


def _make(folder: Path, requirements: tuple[str, ...]) -> None:
    # Our own pip fills it: to give each one its own takes longer than all that it installs.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", "-q", *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        pytest.skip(f"pip cannot install {' '.join(requirements)} here: {' '.join(errors) or done.stderr[-300:]}")
