"""Open every image once: its bytes are read, hashed and decoded in one go."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.data.folder import Found

MOST_PIXELS = 50_000_000
MOST_BYTES = 256 << 20
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
_AT_ONCE = 32
_MOST_WORKERS = 16
_TELL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Inspected:
    """An image that decodes.

    Attributes:
        sha256: Of the file's bytes.
        width, height: In pixels.
        mode: Pillow's name of the pixel format, e.g. `L` or `RGB`.
        bytes: Size of the file.
    """

    sha256: str
    width: int
    height: int
    mode: str
    bytes: int


def inspect(found: Found) -> Inspected | str:
    """Read and decode one image; a string is the reason why it cannot be used."""
    try:
        if found.size > MOST_BYTES:
            return f"it has {found.size:,} bytes; at most {MOST_BYTES:,} are read"
        data = Path(found.location).read_bytes()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not data:
        return "it is empty"
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                return _too_large(width * height)
            if image.format == "PNG":
                image.verify()  # checks what decoding skips, the checksums; the image is spent after it
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            return Inspected(hashlib.sha256(data).hexdigest(), width, height, image.mode, len(data))
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        return _too_large(int(pixels[0]) if pixels else MOST_PIXELS)
    except UnidentifiedImageError:
        return f"its content is not that of an image ({', '.join(FORMATS)})"
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the broken bytes lead them to
        return f"it cannot be decoded: {str(error) or type(error).__name__}"[:200]


def inspect_all(images: Sequence[Found], cancelled: threading.Event) -> list[Inspected | str]:
    """Inspect `images` on all cores; results in their order.

    Raises:
        Cancelled: If `cancelled` was set before the last image.
    """
    from PIL import Image

    results: list[Inspected | str] = []
    workers_wanted = min(os.cpu_count() or 1, _MOST_WORKERS)  # each may hold a decoded image of 200 MB
    began = told = time.monotonic()
    with warnings.catch_warnings(), ThreadPoolExecutor(workers_wanted, "inspect") as workers:
        warnings.filterwarnings("ignore", module="PIL")  # what is wrong with an image is in its reason
        Image.init()  # plugins are imported by the first that needs them: not by two threads at once

        def several(some: Sequence[Found]) -> list[Inspected | str]:
            return [] if cancelled.is_set() else [inspect(found) for found in some]

        for more in workers.map(several, _slices(images)):
            if cancelled.is_set():
                raise Cancelled
            results += more
            now = time.monotonic()
            if now - told > _TELL_SECONDS or len(results) == len(images):
                told = now
                rate = len(results) / max(now - began, 1e-6)
                progress.advance(len(results), len(images), "images", **{"images/s": round(rate, 1)})
    return results


def _slices(images: Sequence[Found]) -> Iterator[Sequence[Found]]:
    return (images[start : start + _AT_ONCE] for start in range(0, len(images), _AT_ONCE))


def _too_large(pixels: int) -> str:
    return f"it has {pixels:,} pixels; at most {MOST_PIXELS:,} are decoded"
