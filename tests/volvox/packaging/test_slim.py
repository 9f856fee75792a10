from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from volvox.packaging import inventory, slim


def test_headers_stubs_and_tests_go_and_code_stays(tmp_path: Path) -> None:
    gone = ["numpy/tests/test_a.py", "numpy/_core/include/x.h", "a/b/tests/c.py", "a/types.pyi"]
    stays = ["a/b/code.py", "a/py.typed", "a/testing.py", "onnxruntime/capi/x.so"]
    for name in gone + stays:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    slim.strip(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        stays
    )


def test_bytecode_is_not_checked_against_its_source(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("answer = 1\n")
    slim.compile_all([tmp_path / "package"])
    compiled = next((tmp_path / "package").rglob("*.pyc")).read_bytes()
    assert compiled[4:8] == b"\x01\x00\x00\x00"  # PEP 552: hash-based, unchecked


def test_the_inventory_needs_the_standard_library_only() -> None:
    code = Path(inventory.__file__).read_text()
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert '"distributions"' in done.stdout


def test_an_image_that_trains_keeps_what_makes_models_and_loses_what_develops_torch(tmp_path: Path) -> None:
    gone = [
        "torch/include/a.cuh",
        "torch/test/a",
        "torch/bin/protoc",
        "torch/lib/a.a",
        "torch/a/b.h",
        "numpy/_core/tests/a.py",
    ]
    stays = ["torch/bin/torch_shm_manager", "numpy/typing/a.py", "onnxruntime/quantization/a.py", "a/__init__.pyi"]
    for name in gone + stays:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    slim.strip(tmp_path, (*slim.FOLDERS, *slim.TRAINING))
    slim.strip_programs(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        stays
    )


def test_a_compiler_finds_the_headers_that_it_was_promised(tmp_path: Path) -> None:
    for name in ("torch/include/a.h", "triton/b.h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    slim.strip(tmp_path, slim.TRAINING, headers=False)
    assert len(list(tmp_path.rglob("*.h"))) == 2


def test_what_a_layer_below_compiled_is_left_there(tmp_path: Path) -> None:
    for name in ("below", "above"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("answer = 1\n")
    slim.compile_all([tmp_path / "below"])
    compiled = next((tmp_path / "below").rglob("*.pyc"))
    before = compiled.stat()
    slim.compile_all([tmp_path], left_out=slim.compiled(tmp_path))
    assert next((tmp_path / "above").rglob("*.pyc"))
    assert (compiled.stat().st_mtime_ns, compiled.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
