"""Probabilities of a version for one part of a dataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from image_classifier import classifier, data
from image_classifier.preprocessing import UnreadableImage
from image_classifier.progress import Progress

PREDICTIONS = "predictions.npz"
_EVERY_SECONDS = 1.0


def evaluate(folder: Path, output: Path, weights: Path, part: str) -> dict[str, Any]:
    """Write `predictions.npz` into `output`; see `api.evaluate`."""
    import numpy as np

    model = classifier.load(weights)
    classes = data.read_classes(folder)
    if classes != model.classes:
        raise data.refused(
            f"the classes of {folder} ({', '.join(classes[:5])}, ...) are not those of the model "
            f"({', '.join(model.classes[:5])}, ...); evaluate on data with the same classes in the same order"
        )
    split = data.read_split(folder, part, len(classes))
    if not len(split):
        raise data.refused(f"the part {part!r} of {folder} is empty")
    paths = [folder / "images" / file for file in split.files]
    output.mkdir(parents=True, exist_ok=True)
    progress = Progress(output)
    started = told = time.monotonic()
    waiting, found = model.decoded(paths), []
    try:
        for at in range(0, len(paths), classifier.BATCH):
            squares = [next(waiting) for _ in paths[at : at + classifier.BATCH]]
            found.append(model.run(np.stack(squares)))
            done, now = at + len(squares), time.monotonic()
            if now - told >= _EVERY_SECONDS or done == len(paths):
                told = now
                progress.tell(done, len(paths), "images", done / max(now - started, 1e-9))
    except UnreadableImage as error:
        raise data.refused(f"an image of the part {part!r} cannot be used: {error}") from error
    finally:
        waiting.close()
        progress.close()
    seconds = time.monotonic() - started
    aside = output / f"{PREDICTIONS}.part"
    with aside.open("wb") as stream:
        np.savez_compressed(
            stream,
            labels=np.asarray(split.labels, np.int64),
            probabilities=np.concatenate(found),
            files=np.asarray(split.files, dtype=np.str_),
        )
    aside.replace(output / PREDICTIONS)
    return {
        "task": "classification",
        "classes": classes,
        "predictions": PREDICTIONS,
        "images": len(paths),
        "images_per_second": len(paths) / max(seconds, 1e-9),
    }
