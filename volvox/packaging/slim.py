"""Runs inside an image build: takes out of an environment what serving never imports, and compiles the rest.

Without arguments it does that to all of this interpreter's packages; packages that are named are only compiled. Images
of Python come without the bytecode of the standard library: importing every package once writes what of it is used.
Bytecode is written here because the running container has a read-only disk; it is never checked against its source,
which cannot change there.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib
import py_compile
import shutil
import sys
import sysconfig
from pathlib import Path

# Headers and type stubs are for compilers and editors; conversion tools and f2py are for those who make models.
SUFFIXES = {".pyi", ".pyx", ".pxd", ".h", ".hpp", ".a", ".lib", ".c", ".cpp"}
FOLDERS = (
    "numpy/f2py", "numpy/_core/include", "numpy/_core/lib", "numpy/_core/tests", "numpy/_pyinstaller", "numpy/typing",
    "onnxruntime/transformers", "onnxruntime/quantization", "onnxruntime/tools", "onnxruntime/datasets",
)  # fmt: skip


def strip(root: Path) -> None:
    """Delete from the packages below `root` what no prediction imports: headers, stubs, tests, tools."""
    for folder in (*(root / name for name in FOLDERS), *root.glob("*/**/tests")):
        shutil.rmtree(folder, ignore_errors=True)
    for path in root.rglob("*"):
        if path.suffix in SUFFIXES and path.is_file():
            path.unlink()


def compile_all(places: list[Path]) -> None:
    """Write bytecode for the packages at `places`."""
    for place in places:
        compileall.compile_dir(
            place, quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )


def import_all(root: Path) -> None:
    """Import each package below `root` once; one that cannot stand alone is passed over."""
    for place in sorted(root.iterdir()):
        if place.is_dir() and place.name.isidentifier():
            with contextlib.suppress(Exception):
                importlib.import_module(place.name)


def main(packages: list[str]) -> None:
    """Slim the environment, or only compile `packages`."""
    root = Path(sysconfig.get_path("purelib"))
    if not packages:
        strip(root)
    compile_all([root / name for name in packages] or [root])
    if not packages:
        import_all(root)


if __name__ == "__main__":
    main(sys.argv[1:])
