"""The golden modules as an installed distribution, without pip."""

from __future__ import annotations

import shutil
from pathlib import Path

GOLDEN = {
    "golden": "golden",
    "golden-strict": "golden_strict",
    "golden-object": "golden_objects:adder",
    "golden-class": "golden_objects:Adder",
    "golden-bare": "golden_bare",
    "golden-plain": "golden_plain",
}


def write_golden(folder: Path) -> Path:
    """Write the golden modules into `folder`, which goes on PYTHONPATH."""
    shutil.copytree(Path(__file__).parent / "golden_modules", folder, ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / "golden-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: golden\nVersion: 1.0\n")
    points = [f"{name} = {place}\n" for name, place in GOLDEN.items()]
    (info / "entry_points.txt").write_text("[deepaas.v2.model]\n" + "".join(points))
    return folder
