"""Runs inside an image build: puts a Python with all that it loads into one folder, `python3 bundling.py FOLDER`.

What comes out runs in an image of any kind, with its own loader and libraries, so that neither a Python nor a certain
C library need be there: `FOLDER/ld.so --library-path FOLDER/libs FOLDER/bin/python3 ...`.
"""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path

_LEFT_OUT = (
    "site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data",
    "config-*", "__pycache__", "_tkinter*", "_test*", "xxlimited*", "_ctypes_test*",
)  # fmt: skip


def main(target: Path) -> int:
    """Write the folder; 0."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(sysconfig.get_paths()["stdlib"])
    shutil.copytree(library, target / "lib" / version, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    (target / "bin").mkdir()
    (target / "libs").mkdir()
    executable = Path(sys.executable).resolve()
    shutil.copy(executable, target / "bin" / "python3")
    loader = _loader(executable)
    for thing in (executable, *sorted((target / "lib" / version).rglob("*.so"))):
        for path in _loaded(loader, thing):
            if Path(path).name != Path(loader).name:
                shutil.copy(Path(path).resolve(), target / "libs" / Path(path).name)
    shutil.copy(Path(loader).resolve(), target / "ld.so")
    paths = ssl.get_default_verify_paths()
    for certificates in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if certificates and Path(certificates).is_file():
            shutil.copy(Path(certificates).resolve(), target / "certificates.pem")
            break
    return subprocess.run([sys.executable, "-m", "compileall", "-q", str(target / "lib")], check=False).returncode


def _loader(executable: Path) -> str:
    """The loader that a program names in its header."""
    found = re.search(rb"\0(/[^\0]{1,200}/ld-[^\0/]{1,100}\.so[^\0/]{0,20})\0", executable.read_bytes())
    if found is None:
        raise SystemExit(f"{executable} names no loader; it is no program of glibc or musl")
    return found[1].decode()


def _loaded(loader: str, thing: Path) -> list[str]:
    """The libraries that a program or library loads, as the loader says it (`ldd` is not in every image)."""
    said = subprocess.run([loader, "--list", str(thing)], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", said)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
