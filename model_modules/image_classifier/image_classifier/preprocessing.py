"""From the bytes of a picture to the square of pixels that a network takes: the same code in training and prediction.

NumPy and Pillow only, so that what serves a model needs neither torch nor torchvision.
"""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
_SMALL = 1 << 16


class UnreadableImage(ValueError):
    """The bytes are no picture that we take; the message is a sentence without the file's name."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an input of one network.

    Attributes:
        size: Side of the square, in pixels.
        channels: 1 (grey) or 3 (sRGB).
        mean: Mean of each channel over the training part, in [0, 1].
        std: Standard deviation of each channel, in [0, 1].
        resize: `pad` keeps the proportions and fills up with the colour of the picture's edge; `stretch` does not.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "pad"

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Preprocessing:
        """The inverse of `to_json`; unknown keys are ignored."""
        return cls(
            size=int(told["size"]),
            channels=int(told["channels"]),
            mean=tuple(map(float, told["mean"])),
            std=tuple(map(float, told["std"])),
            resize=str(told["resize"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; mean and std are applied inside the network, which takes pixels of 0 to 255."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std), "normalised_by": "network"}

    def decode(self, source: Path | bytes) -> np.ndarray:
        """The pixels of one picture, shape (channels, size, size), uint8.

        Raises:
            UnreadableImage: If `source` is no picture, is damaged, or has more than 50 million pixels.
        """
        return squared(opened(source, self.channels, self.size), self.size, self.channels, self.resize)


def opened(source: Path | bytes, channels: int = 3, at_least: int | None = None) -> Image:
    """A picture in grey or sRGB, turned upright; what is transparent becomes white.

    Args:
        source: A file, or its content.
        channels: 1 or 3.
        at_least: A JPEG may be decoded smaller than it is, but no side smaller than this; saves time.

    Raises:
        UnreadableImage: If `source` is no picture, is damaged, or has more than 50 million pixels.
    """
    from PIL import Image, ImageOps

    try:
        with _stream(source) as stream, Image.open(stream) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(
                    f"the picture has {width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million; "
                    "send a smaller one"
                )
            if at_least:
                image.draft("L" if channels == 1 else "RGB", (2 * at_least, 2 * at_least))
            return _coloured(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    except UnreadableImage:
        raise
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"the picture has too many pixels ({error}); send a smaller one") from error
    except Exception as error:  # Pillow's plugins raise what they like on damaged files: SyntaxError, struct.error, ...
        raise UnreadableImage("it is no picture that can be read; send a PNG, JPEG, TIFF, BMP, GIF or WebP") from error


def _stream(source: Path | bytes) -> BinaryIO:
    """The content of a picture; that of a small file is read at once, which Pillow would read in many pieces."""
    content = source if isinstance(source, bytes) else _start(source)
    if not content:
        raise UnreadableImage("it is empty; send a picture")
    return source.open("rb") if isinstance(source, Path) and len(content) == _SMALL else io.BytesIO(content)


def _start(path: Path) -> bytes:
    """The first bytes of a file, all of them if they are fewer than `_SMALL`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = more = os.read(descriptor, _SMALL)
        while more and len(content) < _SMALL:
            more = os.read(descriptor, _SMALL - len(content))
            content += more
        return content
    finally:
        os.close(descriptor)


def squared(image: Image, size: int, channels: int, resize: str) -> np.ndarray:
    """The picture as a square, shape (channels, size, size), uint8; filters as `Preprocessing.resize` says."""
    import numpy as np
    from PIL import Image

    if resize == "pad" and image.width != image.height:
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
    else:
        width = height = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(height, width, channels)
    if (width, height) != (size, size):
        pixels = _padded(pixels, size)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _padded(pixels: np.ndarray, size: int) -> np.ndarray:
    import numpy as np

    height, width, channels = pixels.shape
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    square = np.empty((size, size, channels), np.uint8)
    square[:] = np.median(edge, axis=0).astype(np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def _coloured(image: Image, mode: str) -> Image:
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 and 32 bits: Pillow's own conversion would clip at 255
        values = np.asarray(image, np.float64)
        top = 65535 if values.max() > 255 else 255
        image = Image.fromarray((np.clip(values, 0, top) * (255 / top)).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert(mode)
