"""Runs inside an image build: takes out of an environment what is never imported there, and compiles the rest.

Without arguments it does that to all of this interpreter's packages for an image that serves; with `--training`, for
one that trains (`--headers`: and compiles). Packages that are named are only compiled. Images of Python come without
the bytecode of the standard library: for serving, importing every package once writes what of it is used; for training,
where that would take long, all of it is compiled. Bytecode is written here because the running container has a
read-only disk; it is never checked against its source, which cannot change there. What has bytecode was compiled in a
layer below and stays there.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib
import py_compile
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

# Headers and type stubs are for compilers and editors; conversion tools and f2py are for those who make models.
SUFFIXES = {".pyi", ".pyx", ".pxd", ".h", ".hpp", ".a", ".lib", ".c", ".cpp"}
FOLDERS = ("numpy/_core/include", "numpy/_core/lib", "numpy/_core/tests", "numpy/_pyinstaller")
SERVING = (
    "numpy/f2py", "numpy/typing",  # `from numpy import *`, which SciPy does, wants both
    "onnxruntime/transformers", "onnxruntime/quantization", "onnxruntime/tools", "onnxruntime/datasets",
)  # fmt: skip
# The programs of torch/bin are its own tests and compilers, but for the one that shared memory between processes needs.
TRAINING = ("torch/share", "torch/test", "onnx/backend/test", "onnxruntime/transformers")
# Large, and a job imports little or nothing of it: only what these imports need is compiled.
PARTLY = ("torch/testing", "databricks", "fontTools", "pygments/lexers", "mlflow/genai", "mlflow/server")
JOB = (
    "prefect.flow_engine", "mlflow.pyfunc", "mlflow.system_metrics.system_metrics_monitor", "rich.console",
    "matplotlib.figure", "torch", "pytorch_lightning",
)  # fmt: skip
KEPT_PROGRAM = "torch_shm_manager"
LEFT_OUT = ("test", "idlelib", "lib2to3", "turtledemo", "tkinter", "ensurepip", "site-packages", "dist-packages")


def strip(root: Path, folders: Iterable[str] = (*FOLDERS, *SERVING), *, headers: bool = True) -> None:
    """Delete from the packages below `root` what nobody imports there: headers, stubs, tests, and `folders`.

    Args:
        root: Where the packages are.
        folders: Paths below it.
        headers: Whether what only a compiler reads goes too.
    """
    for folder in (*(root / name for name in folders), *root.glob("*/**/tests")):
        shutil.rmtree(folder, ignore_errors=True)
    if not headers:
        return
    shutil.rmtree(root / "torch" / "include", ignore_errors=True)
    for path in root.rglob("*"):
        if path.suffix in SUFFIXES and path.name != "__init__.pyi" and path.is_file():  # lazy_loader reads that stub
            path.unlink()


def strip_programs(root: Path) -> None:
    """Delete what torch brings to be run by those who develop it."""
    for path in (root / "torch" / "bin").glob("*"):
        if path.name != KEPT_PROGRAM and path.is_file():
            path.unlink()


def compile_all(places: Iterable[Path], left_out: Iterable[Path] = ()) -> None:
    """Write bytecode for the packages at `places`, but not for those below `left_out`."""
    passed_over = "|".join(re.escape(f"{path}/") for path in left_out)
    for place in places:
        compileall.compile_dir(
            place,
            quiet=2,
            workers=0,
            rx=re.compile(passed_over) if passed_over else None,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def compiled(root: Path) -> list[Path]:
    """The packages below `root` that have bytecode."""
    return [path for path in root.iterdir() if path.is_dir() and next(path.rglob("*.pyc"), None) is not None]


def import_all(root: Path) -> None:
    """Import each package below `root` once; one that cannot stand alone is passed over."""
    for place in sorted(root.iterdir()):
        if place.is_dir() and place.name.isidentifier():
            with contextlib.suppress(Exception):
                importlib.import_module(place.name)


def import_these(names: Iterable[str]) -> None:
    """Import what there is of `names`, which writes the bytecode that is still missing."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def main(arguments: list[str]) -> None:
    """Slim the environment, or only compile the packages that are named."""
    root = Path(sysconfig.get_path("purelib"))
    packages = [root / name for name in arguments if not name.startswith("--")]
    if packages:
        compile_all(packages)
    elif "--training" in arguments:
        strip(root, (*FOLDERS, *TRAINING), headers="--headers" not in arguments)
        strip_programs(root)
        compile_all([root], left_out=[*compiled(root), *(root / name for name in PARTLY)])
        if "--library" in arguments:
            library = Path(sysconfig.get_path("stdlib"))
            compile_all([library], left_out=[library / name for name in LEFT_OUT])
            import_these(JOB)
    else:
        strip(root)
        compile_all([root])
        import_all(root)


if __name__ == "__main__":
    main(sys.argv[1:])
