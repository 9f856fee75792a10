"""Serving images of the tiny module, of what is installed here: no index is asked, so they are made in seconds."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import volvox
from tests.volvox.runtimes.tiny import write_tiny
from volvox.packaging.requirements import closure

REPOSITORY = "volvox-tests/tiny-function"
_DOCKERFILE = """FROM {base}
COPY site /site
RUN python3 -m compileall -q -j 2 /site
COPY volvox /site
COPY tiny /site
RUN python3 -m compileall -q /site/volvox /site/tiny_function
ENV PYTHONPATH=/site HOME=/tmp VOLVOX_HOME=/tmp/volvox PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY weights /model
ENTRYPOINT ["python3", "-m", "volvox", "serve", "--module", "tiny-function", "--name", "tiny", "--weights", "/model", \
"--listen-ip", "0.0.0.0", "--listen-port", "5000"]
USER 1000:1000
"""


@contextlib.contextmanager
def built(folder: Path, base: str) -> Iterator[dict[str, str]]:
    """The images of versions `1`, `2` and `broken`, version -> id; their names are removed afterwards."""
    tiny = write_tiny(folder / "tiny")
    images = {}
    for version in ("1", "2", "broken"):
        weights = folder / f"weights-{version}"
        weights.mkdir()
        (weights / "version").write_text(version)
        if version == "broken":
            (weights / "refuse-to-warm").touch()
        context = _context(base, tiny, weights)
        line = ["docker", "build", "--quiet", "--tag", name_of(version), "-"]
        done = subprocess.run(line, input=context, capture_output=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr.decode()
        images[version] = done.stdout.decode().strip()
    try:
        yield images
    finally:
        names = [name_of(version) for version in images]
        subprocess.run(["docker", "rmi", "--force", *names], capture_output=True, check=False)


def name_of(version: str) -> str:
    """What the image of a version is called on the engine."""
    return f"{REPOSITORY}:{os.getpid()}-{version}"


def _context(base: str, tiny: Path, weights: Path) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        texts = {"Dockerfile": _DOCKERFILE.format(base=base)}
        for name in ("METADATA", "entry_points.txt"):
            texts[f"volvox/volvox-{volvox.__version__}.dist-info/{name}"] = distribution("volvox").read_text(name) or ""
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
        for name in sorted({"marshmallow", *(pin.name for pin in closure(("volvox", "marshmallow")))}):
            for file in distribution(name).files or ():
                path = Path(str(file.locate()))
                if ".." not in file.parts and path.suffix not in (".pyc", ".pth") and path.is_file():
                    archive.add(path, f"site/{file}", filter=_plain)
        package = Path(volvox.__file__).parent
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.add(path, f"volvox/volvox/{path.relative_to(package)}", filter=_plain)
        for name, folder in (("tiny", tiny), ("weights", weights)):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    archive.add(path, f"{name}/{path.relative_to(folder)}", filter=_plain)
    return target.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime, entry.mode, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0o644, 0, 0, "", ""
    return entry
