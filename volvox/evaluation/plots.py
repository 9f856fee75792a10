"""Pictures of an evaluation: what is mistaken for what, how far to trust a confidence, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volvox.evaluation.metrics import Array, Labels, expected_calibration_error, reliability
from volvox.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

INK, GREY, BLUE, RED = "#1b1f24", "#8b949e", "#2f6f9f", "#b3392f"
_THUMBNAIL, _CAPTION, _GAP = 112, 44, 10


def load() -> None:
    """Import what drawing needs, which takes half a second that can be spent while something else is awaited."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401 - the import is the point


def confusion_matrix(confusion: Labels, classes: Sequence[str], path: Path) -> None:
    """Draw counts as a coloured table; numbers are written for up to 25 classes.

    A cell's shade is the square root of its share of the row, so that a rare mistake can still be seen.
    """
    count = len(classes)
    side = min(4.2 + 0.32 * count, 16.0)
    size = float(np.clip(180 / count, 3.5, 10))
    shade = np.sqrt(confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1))

    def draw(axes: Axes) -> None:
        axes.imshow(shade, cmap="Blues", vmin=0, vmax=1)
        names = [_short(name) for name in classes]
        axes.set_xticks(range(count), names, rotation=90 if count > 6 else 0, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if count > 25:
            return
        for row, column in np.argwhere(confusion > 0):
            dark = shade[row, column] > 0.6
            axes.text(
                column, row, str(confusion[row, column]), ha="center", va="center", fontsize=size,
                color="white" if dark else INK,
            )  # fmt: skip

    correct = int(np.trace(confusion))
    _figure(path, (side + 0.6, side), f"{correct} of {int(confusion.sum())} images right", draw)


def reliability_diagram(confidence: Array, correct: Any, path: Path) -> None:
    """Draw accuracy against confidence in 15 bins, with how many images each bin holds."""
    counts, confidences, accuracies = reliability(confidence, correct)
    filled = counts > 0
    width = 1 / len(counts)
    middles = (np.arange(len(counts)) + 0.5) * width

    def draw(axes: Axes) -> None:
        axes.bar(middles, counts / counts.sum(), width=width * 0.92, color=GREY, alpha=0.35, label="share of images")
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
        axes.plot(confidences[filled], accuracies[filled], "o-", color=BLUE, markersize=5, label="this model")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence of the model", ylabel="share that is right")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=8)

    _figure(path, (5.4, 4.6), f"calibration error {expected_calibration_error(confidence, correct):.3f}", draw)


def worst_mistakes(predictions: Predictions, images: Path, path: Path, count: int = 24) -> int:
    """Draw the mistakes the model was surest of, each with its true class, the class chosen and the confidence.

    Args:
        predictions: What the model said; `files` are paths below `images`.
        images: The folder of the images.
        path: Where the PNG goes.
        count: How many at most.

    Returns:
        How many are shown; with none, the picture says so.
    """
    from PIL import Image, ImageDraw, ImageFont

    chosen = predictions.probabilities.argmax(axis=1)
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(chosen != predictions.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    columns = max(3, min(6, len(worst)))
    rows = max(1, -(-len(worst) // columns))
    cell_width, cell_height = _THUMBNAIL + _GAP, _THUMBNAIL + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * cell_width + _GAP, rows * cell_height + _GAP + 24), "white")
    pen, font, bold = ImageDraw.Draw(sheet), ImageFont.load_default(11), ImageFont.load_default(13)
    told = f"{len(wrong)} of {len(chosen)} images are mistaken, the surest first"
    pen.text((_GAP, _GAP), told, fill=INK, font=bold)
    for position, index in enumerate(worst):
        left = _GAP + (position % columns) * cell_width
        top = _GAP + 24 + (position // columns) * cell_height
        sheet.paste(_thumbnail(images / predictions.files[index]), (left, top))
        true, said = (_short(predictions.classes[label], 15) for label in (predictions.labels[index], chosen[index]))
        pen.text((left, top + _THUMBNAIL + 2), f"true: {true}", fill=INK, font=font)
        pen.text((left, top + _THUMBNAIL + 15), f"said: {said}", fill=RED, font=font)
        pen.text((left, top + _THUMBNAIL + 28), f"{confidence[index]:.0%} sure", fill=GREY, font=font)
    sheet.save(path)
    return len(worst)


def _thumbnail(file: Path) -> Image:
    """The image in a square; small ones are enlarged pixel by pixel, so that one sees what the model saw."""
    from PIL import Image, ImageOps

    square = Image.new("RGB", (_THUMBNAIL, _THUMBNAIL), "#eef0f2")
    try:
        with Image.open(file) as opened:
            opened.draft("RGB", (_THUMBNAIL, _THUMBNAIL))
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):  # the sheet is worth having without one picture
        return square
    factor = _THUMBNAIL / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    picture = picture.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)
    square.paste(picture, ((_THUMBNAIL - size[0]) // 2, (_THUMBNAIL - size[1]) // 2))
    return square


def _figure(path: Path, size: tuple[float, float], title: str, draw: Any) -> None:
    """One pair of axes without pyplot, which costs an import and keeps every figure alive."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, color=INK)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    draw(axes)
    FigureCanvasAgg(figure).print_png(str(path))


def _short(name: str, length: int = 22) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
