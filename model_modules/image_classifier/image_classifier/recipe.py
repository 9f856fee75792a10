"""What training does where the caller leaves it open.

It is chosen from the data, so that the defaults suit both tiny scanned digits and photographs.
"""

from __future__ import annotations

import os
import random
import statistics
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from webargs import ValidationError

from image_classifier.data import Dataset, refused
from image_classifier.preprocessing import UnreadableImage, opened

_SEEN = 12_500  # images that a short training shows the network in all, each as often as it takes
_SEEN_OF_FEW = 25_000  # where there are few a class: half of it was 0.1 less accurate on 250 images of plankton
_SMALL_SIDES = (16, 64)
_FEW_A_CLASS = 40


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training does; two trainings with equal recipes and data are the same training.

    Attributes:
        backbone: `resnet-small` or `timm:NAME`.
        image_size: Side of the square, in pixels.
        resize: `pad` or `stretch`.
        epochs: Passes over the training part.
        batch_size: Images of a step, over all devices.
        learning_rate: At its highest.
        warmup: Part of all steps in which the learning rate rises, in [0, 1).
        weight_decay: Of AdamW, on matrices and kernels only.
        label_smoothing: In [0, 1).
        augmentation: `none`, `light` or `strong`.
        flip: Whether images are also mirrored.
        class_weights: Exponent of (mean class size / class size) in the loss; 0 weighs all images alike.
        patience: Epochs without a better validation loss before training stops; 0 never stops.
        freeze_epochs: First epochs in which only the head learns.
        seed: Of weights, order and augmentation.
    """

    backbone: str
    image_size: int
    resize: str
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    label_smoothing: float
    augmentation: str
    flip: bool
    class_weights: float
    patience: int
    freeze_epochs: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def chosen(arguments: dict[str, Any], dataset: Dataset, started: dict[str, Any] | None, same_head: bool) -> Recipe:
    """The arguments of train() with everything that says `auto` or nothing decided.

    Args:
        arguments: Values of `arguments.train_arguments()`.
        dataset: What is learnt from.
        started: The `model.json` of the version that training starts from, if any.
        same_head: Whether that version has the same classes.

    Raises:
        ValidationError: If the arguments contradict the version that training starts from.
    """
    count = len(dataset.train)
    backbone = arguments["backbone"]
    if started:
        backbone = _backbone_of(started, backbone)
    pretrained = bool(started) or backbone.startswith("timm:")
    few = count < _FEW_A_CLASS * len(dataset.classes)
    epochs = arguments.get("epochs") or _epochs(count, few, pretrained)
    freeze = arguments.get("freeze_epochs")
    if freeze is None:
        freeze = max(1, epochs // 6) if started and not same_head and epochs > 1 else 0
    if freeze > epochs:
        raise ValidationError({"freeze_epochs": [f"There are only {epochs} epochs; freeze {freeze} of them at most."]})
    sizes = Counter(dataset.train.labels)
    uneven = max(sizes.values()) > 3 * min(sizes.values())
    return Recipe(
        backbone=backbone,
        image_size=_image_size(arguments["image_size"], backbone, dataset, started),
        resize=started["preprocessing"]["resize"] if started else arguments["resize"],
        epochs=epochs,
        batch_size=min(count, arguments.get("batch_size") or _batch_size(count)),
        learning_rate=arguments.get("learning_rate") or _learning_rate(backbone, started is not None),
        warmup=arguments["warmup"],
        weight_decay=arguments["weight_decay"],
        label_smoothing=arguments["label_smoothing"],
        augmentation=arguments["augmentation"].replace("auto", "light"),
        flip=arguments["flip"],
        class_weights={"true": 1.0, "false": 0.0, "auto": 0.5 if uneven and few else 0.0}[arguments["class_weights"]],
        patience=arguments["patience"],
        freeze_epochs=freeze,
        seed=arguments["seed"],
    )


def threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _epochs(count: int, few: bool, pretrained: bool) -> int:
    """So many that a small dataset is seen often enough, and a large one not for ever."""
    most, least = (30, 5) if pretrained else (100, 10)
    return max(least, min(most, round((_SEEN_OF_FEW if few else _SEEN) / count)))


def _batch_size(count: int) -> int:
    return 32 if count < 1000 else 64 if count < 20_000 else 128


def _learning_rate(backbone: str, started: bool) -> float:
    if backbone.startswith("timm:"):
        return 5e-4
    return 2e-3 if started else 4e-3


def _backbone_of(started: dict[str, Any], asked: str) -> str:
    has = started["architecture"]["backbone"]
    if asked not in (has, "resnet-small"):
        raise ValidationError(
            {"backbone": [f"The weights to start from have backbone {has!r}; ask for that one, or for no weights."]}
        )
    return has


def _image_size(asked: str, backbone: str, dataset: Dataset, started: dict[str, Any] | None) -> int:
    if asked != "auto":
        return int(asked)
    if started:
        return int(started["preprocessing"]["size"])
    if backbone.startswith("timm:"):
        import timm  # pyright: ignore[reportMissingImports] - an extra

        settings = timm.get_pretrained_cfg(backbone.removeprefix("timm:"))
        return int(settings.input_size[-1]) if settings else 224
    side = _usual_side(dataset)
    smallest, largest = _SMALL_SIDES
    return max(smallest, min(largest, -(-round(side) // 8) * 8))


def _usual_side(dataset: Dataset, sample: int = 200) -> float:
    """Median of the longer side of some training images, in pixels; only their headers are read."""
    files = random.Random(0).sample(dataset.train.files, min(sample, len(dataset.train)))  # noqa: S311 - no secret
    sides = []
    for file in files:
        try:
            sides.append(max(_size(dataset.images / file)))
        except UnreadableImage as error:
            raise refused(f"{dataset.images / file}: {error}") from error
    return statistics.median(sides)


def _size(path: Any) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except Exception:
        return opened(path).size  # says in a sentence what is wrong
