"""The DEEPaaS V2 functions of the image classifier.

Importing this file reads nothing and loads neither torch nor ONNX Runtime; prediction never loads torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from image_classifier import arguments, places

if TYPE_CHECKING:
    import numpy as np

DISTRIBUTION = "volvox-image-classifier"

schema = arguments.answer()
distributed = True  # train() may be called in several processes at once, told their places as torchrun tells them


def get_metadata() -> dict[str, Any]:
    """Name, version, description and licence of the module."""
    from importlib.metadata import metadata

    told = metadata(DISTRIBUTION)
    return {
        "id": "image_classifier",
        "name": "image_classifier",
        "version": told["Version"],
        "description": told["Summary"],
        "license": told["License-Expression"],
        "author": "Volvox developers",
    }


def warm() -> None:
    """Load the weights before the first request arrives, and answer once, which is the slow time.

    Where nothing has been trained yet there is nothing to load.
    """
    import numpy as np
    from webargs import ValidationError

    from image_classifier import classifier

    try:
        model = classifier.load(places.published_weights())
    except ValidationError:
        return
    side, channels = model.preprocessing.size, model.preprocessing.channels
    model.run(np.zeros((1, channels, side, side), np.uint8))


def get_predict_args() -> dict[str, Any]:
    """Fields of predict()."""
    return arguments.predict_arguments()


def predict(
    *, image: Any = None, data: Any = None, urls: Any = None, zip_data: Any = None, top: int = 5, weights: Any = None
) -> dict[str, Any]:
    """Classify pictures.

    Args:
        image: Uploaded file (`filename` is its path, `original_filename` its name).
        data: Another one, by DEEP's name.
        urls: One address or several.
        zip_data: Uploaded zip of pictures.
        top: How many classes to name.
        weights: Folder of the version; else `VOLVOX_WEIGHTS`, else the newest below `./models`.

    Returns:
        For one picture `{"status", "predictions": {labels, probabilities, labels_info, links}}`, for several and for a
        zip `{"status", "predictions": {filenames, pred_lab, pred_prob, aphia_ids}}`.

    Raises:
        ValidationError: If a picture is missing, cannot be read or may not be fetched.
    """
    asked = {"image": image, "data": data, "urls": urls, "zip_data": zip_data, "top": top}
    return predict_batch([asked], weights)[0]


def predict_batch(requests: list[dict[str, Any]], weights: Any = None) -> list[dict[str, Any]]:
    """The answers of predict() to several requests, computed together.

    Raises:
        ValidationError: If one of them is refused: then none is answered, and they have to be asked one by one.
    """
    from collections.abc import Iterator

    from webargs import ValidationError

    from image_classifier import answers, classifier, sources
    from image_classifier.preprocessing import UnreadableImage

    model = classifier.load(places.published_weights(weights))
    names: list[list[str]] = [[] for _ in requests]

    def squares() -> Iterator[Any]:
        for request, mine in zip(requests, names, strict=True):
            for argument, name, source in sources.pictures(request):
                mine.append(name)
                try:
                    yield model.preprocessing.decode(source)
                except UnreadableImage as error:
                    raise ValidationError({argument: [f"{name} is refused: {error}."]}) from error

    probabilities = model.probabilities(squares())
    said, start = [], 0
    for request, mine in zip(requests, names, strict=True):
        rows, start = probabilities[start : start + len(mine)], start + len(mine)
        top = int(request.get("top") or 5)
        single = len(mine) == 1 and not request.get("zip_data")
        said.append(answers.one(model, rows[0], top) if single else answers.several(model, mine, rows, top))
    return said


def get_tensors() -> dict[str, list[dict[str, Any]]]:
    """What infer() takes and gives; the lengths depend on the weights, and are open where there are none yet."""
    from webargs import ValidationError

    from image_classifier import classifier

    channels = side = classes = -1
    try:
        model = classifier.load(places.published_weights())
    except ValidationError:
        pass
    else:
        channels, side, classes = model.preprocessing.channels, model.preprocessing.size, len(model.classes)
    return {
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, channels, side, side]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def infer(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Classify pictures that are pixels already, as the network takes them.

    Args:
        inputs: `image`, shape (N, channels, size, size), uint8.

    Returns:
        `probabilities`, shape (N, classes), float32, and `label`, shape (N,): the most probable class of each.

    Raises:
        ValidationError: If there are no weights, or the pictures are of another size.
    """
    import numpy as np
    from webargs import ValidationError

    from image_classifier import classifier

    model = classifier.load(places.published_weights())
    pixels, prepared = inputs["image"], model.preprocessing
    wanted = (prepared.channels, prepared.size, prepared.size)
    if pixels.shape[1:] != wanted:
        raise ValidationError({"image": [f"The pictures are {pixels.shape[1:]}; the network takes {wanted}."]})
    probabilities = model.probabilities(pixels)
    labels = np.array([model.classes[at].encode() for at in probabilities.argmax(axis=1)], object)
    return {"probabilities": probabilities, "label": labels}


def get_train_args() -> dict[str, Any]:
    """Fields of train()."""
    return arguments.train_arguments()


def train(
    data: Any = None, output: Any = None, checkpoints: Any = None, weights: Any = None, **given: Any
) -> dict[str, Any]:
    """Learn from `data` and write a version into `output`.

    Args:
        data: Folder with `images/` and `dataset_files/{classes,train,val}.txt`, or `images/<class>/`; else
            `VOLVOX_DATA`, else `./data`.
        output: Gets `model.safetensors`, `model.json`, `model.onnx` and `progress.jsonl`; else `VOLVOX_OUTPUT`, else
            `./models/<timestamp>`.
        checkpoints: Outlives a killed training, which goes on from there; else `VOLVOX_CHECKPOINTS`, else none.
        weights: Version to start from; else `VOLVOX_WEIGHTS`, else the network starts from scratch.
        **given: Values of `get_train_args()`.

    Returns:
        `modelname`, `metrics` (of the weights that were written, on the validation part), `recipe` (what was decided).

    Raises:
        ValidationError: If arguments or data cannot be used; nothing is written then.
        RuntimeError: If the loss is no number, or the ONNX export is not equal to the network.
    """
    checked = arguments.defaults(given)
    # Threads that wait in a loop for each other take ten times as long on a machine that others use too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from image_classifier import training
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{error.name} is missing; training needs {DISTRIBUTION}[train]") from error
    kept, start = places.checkpoints(checkpoints), places.starting_weights(weights)
    return training.train(places.data(data), places.output(output), kept, start, checked)


def evaluate(data: Any = None, output: Any = None, weights: Any = None, part: str = "test") -> dict[str, Any]:
    """Score a version on one part of `data`.

    Writes `predictions.npz` into `output`: `labels` (N,) int64, `probabilities` (N, classes) float32, `files` (N,)
    text.

    Returns:
        `task`, `classes`, `predictions` (file name in `output`), `images`, `images_per_second`.

    Raises:
        ValidationError: If the data cannot be read, or has other classes than the model.
    """
    from image_classifier import evaluation

    return evaluation.evaluate(places.data(data), places.output(output), places.published_weights(weights), part)
