import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from volvox.evaluation import metrics, plots
from volvox.evaluation.predictions import Predictions


def made(classes: int, images: int, folder) -> Predictions:
    random = np.random.default_rng(classes)
    labels = np.arange(images) % classes
    probabilities = random.dirichlet(np.ones(classes) * 0.1, images)
    for number in range(min(images, 200)):
        Image.new("L" if number % 2 else "RGB", (8 + number, 9), 40).save(folder / f"{number}.png")
    names = tuple(f"a class with number {number} <&>" for number in range(classes))
    return Predictions(names, labels, probabilities, tuple(f"{number}.png" for number in range(images)))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_pictures_are_drawn_for_few_and_many_classes(tmp_path, classes) -> None:
    said = made(classes, 4 * classes, tmp_path)
    chosen, confidence = said.probabilities.argmax(axis=1), said.probabilities.max(axis=1)
    confusion = metrics.confusion_matrix(said.labels, chosen, classes)
    plots.confusion_matrix(confusion, said.classes, tmp_path / "confusion.png")
    plots.reliability_diagram(confidence, chosen == said.labels, tmp_path / "reliability.png")
    shown = plots.worst_mistakes(said, tmp_path, tmp_path / "mistakes.png")
    assert shown == min(24, int((chosen != said.labels).sum()))
    for name in ("confusion", "reliability", "mistakes"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.format == "PNG" and min(picture.size) > 150 and max(picture.size) < 2500
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20, "an empty picture"


def test_the_surest_mistake_comes_first_and_its_image_is_shown(tmp_path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "blue.png")
    probabilities = np.array([[0.4, 0.6], [0.01, 0.99], [0.9, 0.1]])
    said = Predictions(("a", "b"), np.array([0, 0, 0]), probabilities, ("blue.png", "red.png", "blue.png"))
    assert plots.worst_mistakes(said, tmp_path, tmp_path / "m.png") == 2
    with Image.open(tmp_path / "m.png") as sheet:
        row = [sheet.getpixel((x, 90)) for x in range(sheet.width)]
    assert row.index((255, 0, 0)) < row.index((0, 0, 255))


def test_no_mistake_and_a_missing_image_still_give_a_picture(tmp_path) -> None:
    right = Predictions(("a", "b"), np.array([0]), np.array([[0.9, 0.1]]), ("gone.png",))
    assert plots.worst_mistakes(right, tmp_path, tmp_path / "m.png") == 0
    wrong = Predictions(("a", "b"), np.array([1]), np.array([[0.9, 0.1]]), ("gone.png",))
    assert plots.worst_mistakes(wrong, tmp_path, tmp_path / "m.png") == 1


def test_drawing_needs_no_pyplot() -> None:
    code = "import sys; from volvox.evaluation import plots; plots.load(); sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
