"""The scanned digits."""

import subprocess
import sys

import pytest
from PIL import Image

from volvox.data.demo import write_digits
from volvox.data.folder import listed
from volvox.errors import InvalidInput, VolvoxError


def test_1797_digits_are_written_one_png_each(tmp_path) -> None:
    folder = write_digits(tmp_path / "digits")
    assert [path.name for path in sorted(folder.iterdir()) if path.is_dir()] == [str(digit) for digit in range(10)]
    assert len(list(folder.rglob("*.png"))) == 1797
    with Image.open(folder / "0" / "0000.png") as image:
        assert (image.size, image.mode) == ((8, 8), "L")
        assert image.getextrema() == (0, 239)  # 15 of 16 parts of ink
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_they_are_those_of_scikit_learn(tmp_path) -> None:
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    folder = write_digits(tmp_path / "digits")
    for number in (0, 1000, 1796):
        with Image.open(folder / str(digits[number]) / f"{number:04}.png") as image:
            assert list(image.tobytes()) == [round(ink * 255 / 16) for ink in pixels[number]]


def test_they_are_written_once(tmp_path) -> None:
    before = listed(write_digits(tmp_path / "digits")).fingerprint
    assert listed(write_digits(tmp_path / "digits")).fingerprint == before


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="holds something else than the digits"):
        write_digits(tmp_path / "digits")
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["mine.txt"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(small_disk) -> None:
    (small_disk / "ballast").write_bytes(bytes(3_000_000))
    with pytest.raises(VolvoxError, match="is full; free some space"):
        write_digits(small_disk / "digits")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_scikit_learn_is_not_imported_for_it(tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from volvox.data.demo import write_digits; "
        "write_digits(Path(sys.argv[1])); sys.exit('sklearn' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "digits")], check=False).returncode == 0
