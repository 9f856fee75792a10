from __future__ import annotations

import io

import numpy as np
import pytest
from image_classifier.preprocessing import Preprocessing, UnreadableImage
from PIL import Image


def preprocessing(size: int = 8, channels: int = 3, resize: str = "pad") -> Preprocessing:
    return Preprocessing(size, channels, (0.5,) * channels, (0.25,) * channels, resize)


def png(image: Image.Image, **more) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **more)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_a_square_of_bytes(mode, channels):
    image = Image.new(mode, (10, 6))
    stream = io.BytesIO()
    image.save(stream, "TIFF")
    pixels = preprocessing(channels=channels).decode(stream.getvalue())
    assert pixels.shape == (channels, 8, 8)
    assert pixels.dtype == np.uint8


def test_padding_keeps_the_proportions_and_takes_the_colour_of_the_edge():
    image = Image.new("RGB", (40, 20), (200, 10, 10))
    image.paste((0, 255, 0), (14, 4, 26, 16))
    square = preprocessing(size=20).decode(png(image))
    assert (square[:, 0, :].T == (200, 10, 10)).all()
    green = square[1] > 128
    assert green.any(axis=1).sum() == green.any(axis=0).sum() == 6


def test_stretching_fills_the_square():
    image = Image.new("L", (40, 20), 0)
    image.paste(255, (0, 0, 40, 10))
    square = preprocessing(size=20, channels=1, resize="stretch").decode(png(image))
    assert square[0, 0].min() == 255
    assert square[0, -1].max() == 0


def test_sixteen_bits_keep_their_shades():
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    square = preprocessing(channels=1).decode(png(Image.fromarray(values)))
    assert square[0, 0, 0] == 0
    assert square[0, -1, -1] == 255
    assert len(np.unique(square)) > 50


def test_what_is_transparent_becomes_white():
    square = preprocessing().decode(png(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert (square == 255).all()


def test_a_picture_is_turned_upright():
    image = Image.new("RGB", (16, 16), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 16, 8))
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    square = preprocessing().decode(png(image, exif=exif))
    assert square[:, 0].min() == 255
    assert square[:, -1].max() == 0


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="no such file"):
        preprocessing().decode(tmp_path / "none.png")


def test_json_gives_the_same_preprocessing_back():
    one = preprocessing(size=24, channels=1, resize="stretch")
    assert Preprocessing.from_json(one.to_json()) == one
