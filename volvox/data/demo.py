"""The scanned handwritten digits that come with scikit-learn, written out as one PNG a digit in a folder a class."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput

_COMPLETE = ".complete"
_SIDE = 8
_INK = 16


def write_digits(folder: Path) -> Path:
    """Write the 1797 digits (8 x 8 pixels, grey) as `folder/<digit>/NNNN.png`, unless they are there; return `folder`.

    The folder appears whole or not at all.

    Raises:
        InvalidInput: If `folder` holds something else, or scikit-learn is not installed.
    """
    if (folder / _COMPLETE).is_file():
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} holds something else than the digits; name a folder that is not there yet")
    with telling_full_disks(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            made = Path(temporary, "digits")
            _write(made)
            try:
                made.rename(folder)
            except OSError:
                if not (folder / _COMPLETE).is_file():  # else another process was faster
                    raise
    return folder


def _write(folder: Path) -> None:
    from PIL import Image

    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
    for number, (pixels, digit) in enumerate(_digits()):
        encoded = io.BytesIO()
        # Uncompressed, so that every build of zlib writes the same bytes.
        Image.frombytes("L", (_SIDE, _SIDE), pixels).save(encoded, "PNG", compress_level=0)
        (folder / str(digit) / f"{number:04}.png").write_bytes(encoded.getvalue())
    (folder / _COMPLETE).touch()


def _digits() -> Iterator[tuple[bytes, int]]:
    """Pixels, row by row in 0..255, and the digit they show."""
    for row in _rows():
        *ink, digit = (int(float(cell)) for cell in row)
        yield bytes(round(value * 255 / _INK) for value in ink), digit


def _rows() -> Iterator[list[str]]:
    """Lines of scikit-learn's own table: 64 amounts of ink in 0..16, then the digit; read without importing it."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise InvalidInput("the digits come with scikit-learn, which is not installed: pip install 'volvox[cycle]'")
    table = Path(next(iter(spec.submodule_search_locations)), "datasets", "data", "digits.csv.gz")
    if table.is_file():
        with gzip.open(table, "rt", newline="") as stream:
            yield from csv.reader(stream)
    else:  # a release that keeps it elsewhere
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        for ink, digit in zip(pixels, digits, strict=True):
            yield [*map(str, ink), str(digit)]
