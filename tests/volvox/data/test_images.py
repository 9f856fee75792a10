"""Opening every image once."""

import hashlib
import random
import struct
import threading
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.volvox.data.conftest import write_image
from volvox.cancelling import Cancelled
from volvox.data.folder import Found, listed
from volvox.data.images import Inspected, inspect, inspect_all


def seen(path: Path) -> Inspected | str:
    return inspect(Found(path.name, str(path), path.stat().st_size))


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is huge and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "webp"])
def test_every_format_is_decoded(tmp_path, suffix) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.new("RGB", (5, 3), (200, 10, 10)).save(path)
    result = seen(path)
    assert isinstance(result, Inspected)
    assert (result.width, result.height) == (5, 3)
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result.bytes == path.stat().st_size


def test_a_text_a_postscript_and_an_empty_file_are_no_images_whatever_their_names_say(tmp_path) -> None:
    path = tmp_path / "x.png"
    path.write_text("not an image")
    assert str(seen(path)).startswith("its content is not that of an image")
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert str(seen(path)).startswith("its content is not that of an image")
    path.write_bytes(b"")
    assert seen(path) == "it is empty"


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_a_truncated_image_is_not_used(tmp_path, suffix) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:-200])
    result = seen(path)
    assert isinstance(result, str)


def test_a_png_with_a_flipped_bit_is_not_used(tmp_path) -> None:
    path = write_image(tmp_path / "x.png", 5)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 12] ^= 1
    path.write_bytes(data)
    assert str(seen(path)).startswith("it cannot be decoded")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_bytes_are_changed_an_image_is_decoded_or_has_a_reason(tmp_path, suffix) -> None:
    path, chance = tmp_path / f"x.{suffix}", random.Random(0)
    Image.effect_noise((24, 24), 50).convert("RGB").save(path)
    whole = path.read_bytes()
    for _ in range(200):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        path.write_bytes(changed)
        assert isinstance(seen(path), Inspected | str)


@pytest.mark.parametrize("side", [8_000, 12_000, 20_000])
def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, side) -> None:
    (tmp_path / "x.png").write_bytes(png_of(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = inspect_all(listed(tmp_path).files, threading.Event())
    assert results == [f"it has {side * side:,} pixels; at most 50,000,000 are decoded"]


def test_a_file_that_went_away_has_a_reason(tmp_path) -> None:
    assert inspect(Found("x.png", str(tmp_path / "x.png"))) == "it cannot be read (No such file or directory)"


def test_results_come_in_the_order_asked_for(tmp_path) -> None:
    for number in range(100):
        write_image(tmp_path / f"{number:03}.png", number)
    files = listed(tmp_path).files
    results = inspect_all(files, threading.Event())
    sums = [hashlib.sha256(Path(found.location).read_bytes()).hexdigest() for found in files]
    assert [result.sha256 for result in results if isinstance(result, Inspected)] == sums


def test_a_cancel_ends_the_work(tmp_path) -> None:
    write_image(tmp_path / "x.png", 1)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        inspect_all(listed(tmp_path).files, cancelled)
