"""Make the wheel of an installed distribution again: from its source where it is a checkout, else from its files."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from volvox.errors import InvalidInput

_EPOCH = "315532800"  # 1980-01-01, the earliest time that a zip can hold: equal files give an equal wheel
_SECONDS = 120
_HOOK = """
import importlib, sys
sys.path[:0] = [path for path in sys.argv[3].split("\\n") if path]
module, _, attribute = sys.argv[1].partition(":")
backend = importlib.import_module(module)
for part in filter(None, attribute.split(".")):
    backend = getattr(backend, part)
print(backend.build_wheel(sys.argv[2]))
"""
_LEFT_OUT = {"direct_url.json", "INSTALLER", "REQUESTED", "RECORD"}


def build_wheel(name: str, folder: Path) -> Path:
    """Write the wheel of the installed distribution `name` into `folder`; the same code gives the same bytes.

    Args:
        name: A distribution's name. An editable one is built from its source by its own build backend, offline and
            with the packages installed here; any other is packed from the files that its installation recorded.
        folder: Where the wheel goes.

    Raises:
        InvalidInput: If the source does not build, or the installation recorded no files.
    """
    installed = distribution(name)
    source = _source(installed)
    return build_from_source(name, source, folder) if source else _from_files(installed, folder)


def _source(installed: Distribution) -> Path | None:
    told = json.loads(installed.read_text("direct_url.json") or "{}")
    if not told.get("dir_info", {}).get("editable"):
        return None
    path = Path(unquote(urlsplit(told["url"]).path))
    return path if (path / "pyproject.toml").is_file() else None


def build_from_source(name: str, source: Path, folder: Path) -> Path:
    """Write the wheel of the distribution `name`, whose source lies in `source`, into `folder`.

    Raises:
        InvalidInput: If it does not build.
    """
    system = tomllib.loads((source / "pyproject.toml").read_text()).get("build-system", {})
    backend = system.get("build-backend", "setuptools.build_meta:__legacy__")
    extra = "\n".join(str(source / path) for path in system.get("backend-path", ()))
    done = subprocess.run(
        [sys.executable, "-c", _HOOK, backend, str(folder), extra],
        cwd=source, env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise InvalidInput(f"no wheel of {name} can be built from {source} by {backend}: {said}")
    return folder / done.stdout.strip().splitlines()[-1]


def _from_files(installed: Distribution, folder: Path) -> Path:
    files = [file for file in installed.files or () if _belongs(PurePosixPath(file))]
    if not files:
        raise InvalidInput(
            f"{installed.name} {installed.version} recorded none of its files; install it again with pip"
        )
    information = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
    told = installed.read_text("WHEEL") or ""
    tags = re.findall(r"^Tag: *(\S+)", told, re.MULTILINE) or ["py3-none-any"]
    target = folder / f"{information.removesuffix('.dist-info')}-{tags[0]}.whl"
    record = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files, key=str):
            data = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{file.as_posix()},sha256={digest},{len(data)}")
            _add(archive, file.as_posix(), data)
        record.append(f"{information}/RECORD,,")
        _add(archive, f"{information}/RECORD", "\n".join(record).encode() + b"\n")
    return target


def _belongs(file: PurePosixPath) -> bool:
    """Scripts beside the packages (`../../../bin/x`) and compiled files are made again when the wheel is installed."""
    return ".." not in file.parts and "__pycache__" not in file.parts and file.name not in _LEFT_OUT


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name)  # its default time is 1980-01-01
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)
