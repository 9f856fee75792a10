"""Fetch a wheel to this machine, once."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput, Unavailable
from volvox.identity import digest_of
from volvox.packaging.requirements import Pin

_SECONDS = 1800
_NETWORK = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|No route to host")
_CUDA = re.compile(r"^Requires-Dist: *(nvidia-|cuda-|triton)", re.MULTILINE)


def fetch_wheel(pin: Pin, cache: Path, cancelled: threading.Event, *, index: str = "") -> Path:
    """The wheel of `pin` that pip finds for this Python on this machine, without what it needs.

    Args:
        pin: Distribution and version.
        cache: Folder that keeps it; the same question is answered from there.
        cancelled: Once set, a download ends.
        index: Address of the index; empty: what pip's own settings name.

    Raises:
        Cancelled: If it was.
        InvalidInput: If there is no such wheel, or this Python has no pip.
        Unavailable: If the index does not answer.
    """
    asked = [str(pin), index, sys.version_info[:2], platform.machine(), platform.libc_ver()]
    folder = cache / digest_of(asked)[:16]
    if (found := next(folder.glob("*.whl"), None)) is not None:
        return found
    progress.note(f"downloading {pin}")
    with telling_full_disks(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=cache) as place:
            _download(pin, Path(place), index, cancelled)
            name = next(Path(place).glob("*.whl")).name
            folder.mkdir(exist_ok=True)
            return Path(place, name).replace(folder / name)


def needs_cuda(wheel: Path) -> bool:
    """Whether a wheel of torch wants NVIDIA's libraries beside it."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return bool(_CUDA.search(archive.read(name).decode(errors="replace")))


def _download(pin: Pin, folder: Path, index: str, cancelled: threading.Event) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--disable-pip-version-check", "--dest", str(folder), *(["--index-url", index] if index else []), str(pin),
    ]  # fmt: skip
    with (folder / "said").open("w+") as said:
        downloading = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + _SECONDS
            while downloading.poll() is None:
                if cancelled.wait(0.1):
                    raise Cancelled
                if time.monotonic() > deadline:
                    raise Unavailable(f"pip did not download {pin} within {_SECONDS // 60} minutes")
        finally:
            downloading.kill()
            downloading.wait()
        said.seek(0)
        text = said.read().strip()
    if downloading.returncode == 0:
        return
    last = next((line for line in reversed(text.splitlines()) if line), f"exit code {downloading.returncode}")
    if _NETWORK.search(text):
        raise Unavailable(f"pip cannot download {pin}: its index does not answer ({last}); TORCH_INDEX names another")
    raise InvalidInput(f"pip cannot download {pin} for the training image: {last}")
