"""What the module may be asked, as webargs fields; they work under marshmallow 3 and 4.

DEEP's classifiers take every value as JSON in a string (`epochs="15"`, `modelname='"Xception"'`); here such a string is
taken for what it says.
"""

from __future__ import annotations

import json
import math
from typing import Any

from webargs import ValidationError, fields, validate


class _Lenient:
    """Reads JSON out of a string before the field itself looks at it."""

    def deserialize(self, value: Any, *rest: Any, **more: Any) -> Any:
        return super().deserialize(plain(value), *rest, **more)  # type: ignore[misc]


class Integer(_Lenient, fields.Integer):
    """A whole number; 1.5 is none."""

    def __init__(self, **more: Any) -> None:
        super().__init__(strict=True, **more)


class Number(_Lenient, fields.Float):
    """A number; not infinity."""


class Boolean(_Lenient, fields.Boolean):
    """True or false."""


class String(fields.String):
    """Text; a number or truth value is taken as its text."""

    def deserialize(self, value: Any, *rest: Any, **more: Any) -> Any:
        value = plain(value)
        return super().deserialize(json.dumps(value) if isinstance(value, (bool, int, float)) else value, *rest, **more)


class Texts(fields.List):
    """A list of texts; a single one, and a JSON list in a string, are taken too."""

    def deserialize(self, value: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            value = value[0]
        value = plain(value)
        return super().deserialize([value] if isinstance(value, str) else value, *rest, **more)


def plain(value: Any) -> Any:
    """The value that a JSON string holds, as often as it was wrapped; anything else as it is.

    `"15"` is 15, `'"15"'` too; `"None"`, which DEEP's forms send for nothing, is None.
    """
    for _ in range(3):
        if not isinstance(value, str):
            break
        if value.strip() in ("None", "null"):
            return None
        try:
            inner = json.loads(value)
        except ValueError:
            break
        if isinstance(inner, float) and not math.isfinite(inner):
            break
        value = inner
    return value


def train_arguments() -> dict[str, Any]:
    """The fields of train(); see each one's description."""
    return {
        "backbone": String(
            load_default="resnet-small",
            validate=_backbone,
            metadata={
                "description": "resnet-small (170,000 parameters, for small images) or timm:NAME, e.g. timm:resnet18, "
                "where timm is installed"
            },
        ),
        "image_size": String(
            load_default="auto",
            validate=_size,
            metadata={"description": "Side of the square that images are resized to, 8 to 1024 pixels, or auto"},
        ),
        "resize": String(
            load_default="stretch",
            validate=validate.OneOf(["stretch", "pad"]),
            metadata={"description": "Fill the square by stretching, or keep the proportions and pad"},
        ),
        "epochs": Integer(
            load_default=None,
            allow_none=True,
            validate=validate.Range(min=1, max=10_000),
            metadata={"description": "Passes over the training images; empty: chosen by their number"},
        ),
        "batch_size": Integer(
            load_default=None,
            allow_none=True,
            validate=validate.Range(min=1, max=65_536),
            metadata={"description": "Images of a step, over all devices; empty: chosen by their number"},
        ),
        "learning_rate": Number(
            load_default=None,
            allow_none=True,
            validate=validate.Range(min=0, max=10, min_inclusive=False),
            metadata={"description": "Highest learning rate, above 0; falls to 0 as a cosine; empty: by the backbone"},
        ),
        "weight_decay": Number(
            load_default=0.02,
            validate=validate.Range(min=0, max=10),
            metadata={"description": "Weight decay of AdamW"},
        ),
        "label_smoothing": Number(
            load_default=0.05,
            validate=validate.Range(min=0, max=1, max_inclusive=False),
            metadata={"description": "Part of the target that is spread over all classes"},
        ),
        "warmup": Number(
            load_default=0.1,
            validate=validate.Range(min=0, max=0.9),
            metadata={"description": "Part of all steps in which the learning rate rises"},
        ),
        "augmentation": String(
            load_default="auto",
            validate=validate.OneOf(["auto", "none", "light", "strong"]),
            metadata={"description": "Random shifts, turns, sizes and light; never mirrors. auto is light"},
        ),
        "flip": Boolean(
            load_default=False,
            metadata={"description": "Also mirror images both ways: for what has no right way up, not for digits"},
        ),
        "class_weights": String(
            load_default="auto",
            validate=validate.OneOf(["auto", "true", "false"]),
            metadata={
                "description": "Weigh rare classes more: by 1/size (true), or its root where sizes differ (auto)"
            },
        ),
        "patience": Integer(
            load_default=0,
            validate=validate.Range(min=0, max=10_000),
            metadata={"description": "Stop after so many epochs without a better validation loss; 0: never"},
        ),
        "freeze_epochs": Integer(
            load_default=None,
            allow_none=True,
            validate=validate.Range(min=0, max=10_000),
            metadata={
                "description": "First epochs in which only the head learns; empty: a sixth when starting from a "
                "version with other classes, else none"
            },
        ),
        "seed": Integer(
            load_default=0,
            validate=validate.Range(min=0, max=2**31 - 1),
            metadata={"description": "Of weights, order and augmentation"},
        ),
        "pretrained": Boolean(
            load_default=False,
            metadata={"description": "Let timm fetch its published weights of the backbone"},
        ),
        "accelerator": String(
            load_default="auto",
            validate=validate.OneOf(["auto", "cpu", "gpu"]),
            metadata={"description": "Where to compute"},
        ),
        "devices": String(
            load_default="auto",
            validate=_devices,
            metadata={"description": "How many devices share each batch; auto: all GPUs from 20,000 images, else one"},
        ),
        "precision": String(
            load_default="auto",
            validate=validate.OneOf(["auto", "32", "bf16"]),
            metadata={"description": "auto: bf16 on a GPU that has it, else 32 bits"},
        ),
        "compile": String(
            load_default="auto",
            validate=validate.OneOf(["auto", "true", "false"]),
            metadata={
                "description": "torch.compile; auto: no, but on a GPU, from 200,000 images to learn from in all, a "
                "step of resnet-small is recorded and replayed"
            },
        ),
        "workers": Integer(
            load_default=None,
            allow_none=True,
            validate=validate.Range(min=1, max=256),
            metadata={"description": "Threads that decode images; empty: one a processor"},
        ),
    }


def predict_arguments() -> dict[str, Any]:
    """The fields of predict(); one of `image`, `data`, `urls`, `zip_data` has to be sent."""
    return {
        "image": _file("A picture to classify (PNG, JPEG, TIFF, BMP, GIF or WebP; at most 50 megapixels)"),
        "data": _file("The same as image, by the name that DEEP's classifiers use"),
        "urls": Texts(
            fields.String(),
            load_default=None,
            allow_none=True,
            metadata={"description": "Addresses of pictures (http, https, or data:image/...;base64); at most 100"},
        ),
        "zip_data": _file("A zip of pictures, in any folders; at most 10,000 files of 2 GB in all"),
        "top": Integer(
            load_default=5,
            validate=validate.Range(min=1, max=10_000),
            metadata={"description": "How many classes to name for each image, the likeliest first"},
        ),
    }


def answer() -> dict[str, Any]:
    """The fields of what predict() returns; with them a server passes it on as it is."""
    return {
        "status": fields.String(required=True, metadata={"description": "OK"}),
        "predictions": fields.Raw(required=True, metadata={"description": "Labels and probabilities"}),
    }


def defaults(arguments: dict[str, Any]) -> dict[str, Any]:
    """What was given, checked, with every other argument of train() at its default.

    Raises:
        ValidationError: With all messages at once; unknown names too.
    """
    from marshmallow import RAISE, Schema

    checked: Any = Schema.from_dict(train_arguments())(unknown=RAISE).load(arguments)
    return checked


def _file(description: str) -> Any:
    return fields.Raw(
        load_default=None,
        allow_none=True,
        metadata={"type": "file", "location": "form", "description": description},
    )


def _backbone(value: str) -> None:
    """A name that no installation has is refused before anything is started; which ones timm has, training asks it."""
    if value != "resnet-small" and not value.startswith("timm:"):
        message = f"No backbone {value!r}: there are resnet-small and, where timm is installed, timm:NAME such as "
        raise ValidationError(f"{message}timm:resnet18.")


def _size(value: str) -> None:
    if value != "auto" and not (value.isdecimal() and 8 <= int(value) <= 1024):
        raise ValidationError(f"{value!r} is no image size; ask for auto or a whole number from 8 to 1024.")


def _devices(value: str) -> None:
    if value != "auto" and not (value.isdecimal() and 1 <= int(value) <= 64):
        raise ValidationError(f"{value!r} is no number of devices; ask for auto or a whole number from 1 to 64.")
