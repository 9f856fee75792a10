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
