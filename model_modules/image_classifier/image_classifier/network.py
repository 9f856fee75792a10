"""The networks: a small residual one for small images, and any of timm's by name."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from webargs import ValidationError

SMALL = "resnet-small"
TIMM = "timm:"


class Classifier(nn.Module):
    """Normalisation, backbone and head in one, so that an export of it takes plain pixels.

    Args:
        architecture: What `architecture()` made; recorded beside the weights.
        classes: Number of classes.
        mean: Mean of each channel, in [0, 1].
        std: Standard deviation of each channel, in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: dict[str, Any], classes: int, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.architecture = architecture
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)
        name = architecture["backbone"]
        if name == SMALL:
            self.backbone: nn.Module = SmallResNet(len(mean), architecture["width"], architecture["stem_stride"])
            features = self.backbone.features
        else:
            self.backbone = _from_timm(name, len(mean), architecture["size"], architecture["pretrained"])
            features = _features(self.backbone, name, len(mean), architecture["size"])
        self.dropout = float(architecture.get("dropout", 0.0))  # a chance, of which `dropped` draws
        self.head = nn.Linear(features, classes)

    def forward(self, pixels: Tensor, factors: Tensor | None = None) -> Tensor:
        """Logits, shape (N, classes), from pixels of 0 to 255, shape (N, channels, size, size), of any type.

        `factors` of the features, shape (N, features), are what `dropped` draws; for training.
        """
        features = self.backbone((pixels.to(self.mean.dtype) - self.mean) / self.std)
        return self.head(features if factors is None else features * factors)

    def dropped(self, images: int, generator: torch.Generator) -> Tensor | None:
        """What drops some features of `images` images and scales the others up, shape (images, features)."""
        if not self.dropout:
            return None
        kept = 1 - self.dropout
        drawn = torch.empty(images, self.head.in_features, device=self.head.weight.device)
        return drawn.bernoulli_(kept, generator=generator).div_(kept)


class SmallResNet(nn.Module):
    """Three stages of one residual block; global mean of what the last one sees.

    Args:
        channels: Of the input.
        width: Channels of the first stage; the others have two and four times as many.
        stem_stride: 1 for images of up to 32 pixels, 2 for larger ones.

    Source:
        He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, in a wider and shallower form.
    """

    def __init__(self, channels: int, width: int, stem_stride: int) -> None:
        super().__init__()
        self.features = 4 * width
        self.stem = _convolution(channels, width, stem_stride)
        self.stages = nn.Sequential(
            Block(width, width, 1),
            Block(width, 2 * width, 2),
            Block(2 * width, 4 * width, 2),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features, shape (N, 4 * width)."""
        return self.stages(torch.relu(self.stem(images))).mean(dim=(2, 3))


class Block(nn.Module):
    """Two 3 x 3 convolutions and a short cut; starts as the identity, which steadies the first steps."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inside, outside, stride)
        self.second = _convolution(outside, outside, 1)
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]
        same = stride == 1 and inside == outside
        self.short = nn.Identity() if same else _convolution(inside, outside, stride, kernel=1)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (N, outside, H / stride, W / stride)."""
        return torch.relu(self.short(images) + self.second(torch.relu(self.first(images))))


def architecture(backbone: str, size: int, pretrained: bool = False) -> dict[str, Any]:
    """What has to be known to build the network again, as plain JSON.

    Raises:
        ValidationError: If the backbone is unknown (the message names what there is), or has no published weights.
    """
    check_backbone(backbone)
    if backbone == SMALL:
        if pretrained:
            raise _no_weights(f"{SMALL} has no published weights; ask for a backbone of timm")
        return {
            "backbone": SMALL,
            "width": 24,
            "stem_stride": 1 if size <= 32 else 2,
            "dropout": 0.1,
        }
    return {"backbone": backbone, "size": size, "dropout": 0.1, "pretrained": pretrained}


def resized(told: dict[str, Any], size: int) -> dict[str, Any]:
    """The architecture of a version for images of another size; the small network takes any as it is."""
    return told if told["backbone"] == SMALL else {**told, "size": size}


def check_backbone(name: str) -> None:
    """Nothing, if `name` can be built here.

    Raises:
        ValidationError: If it is unknown, or timm is not installed.
    """
    if name == SMALL:
        return
    if not name.startswith(TIMM):
        raise _unknown(name, f"there are {SMALL} and, where timm is installed, timm:NAME such as timm:resnet18")
    try:
        import timm  # pyright: ignore[reportMissingImports] - an extra
    except (ImportError, RuntimeError) as error:  # torchvision of another torch raises RuntimeError on import
        reason = f"timm cannot be imported here ({error}); install the extra `timm`, or use {SMALL}"
        raise _unknown(name, reason) from error
    asked = name.removeprefix(TIMM)
    if not timm.is_model(asked):
        raise _unknown(name, f"timm has no such model; it has {_nearest(asked, timm.list_models())} and more")
    try:
        timm.get_pretrained_cfg(asked)
    except RuntimeError as error:
        there = timm.list_models(f"{asked.partition('.')[0]}*", pretrained=True)
        raise _unknown(name, f"timm has no such weights of it; it has {_nearest(asked, there)}") from error


def parameters(network: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


def _unknown(name: str, reason: str) -> ValidationError:
    return ValidationError({"backbone": [f"No backbone {name!r}: {reason}."]})


def _no_weights(reason: str) -> ValidationError:
    return ValidationError({"pretrained": [f"There are no weights to start from: {reason}, or set pretrained false."]})


def _nearest(asked: str, there: list[str]) -> str:
    from difflib import get_close_matches

    return ", ".join(TIMM + model for model in get_close_matches(asked, there, 5, 0.4) or there[:5])


def _from_timm(name: str, channels: int, size: int, pretrained: bool) -> nn.Module:
    """A backbone for images of `size`, without its head.

    Raises:
        ValidationError: If it is unknown, or its published weights cannot be had.
    """
    check_backbone(name)
    import timm  # pyright: ignore[reportMissingImports] - an extra

    told: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0, "in_chans": channels}
    try:
        try:
            return timm.create_model(name.removeprefix(TIMM), img_size=size, **told)
        except TypeError as error:  # convolutions take images of any size and have no such argument
            if "img_size" not in str(error):
                raise
            return timm.create_model(name.removeprefix(TIMM), **told)
    except (OSError, RuntimeError) as error:  # no network and a repository that is gone; none published
        if not pretrained:
            raise
        said = str(error).strip().splitlines()[0].rstrip(".")
        raise _no_weights(f"those of {name} cannot be had ({said}); go where they can be fetched") from error


def _features(backbone: nn.Module, name: str, channels: int, size: int) -> int:
    """How many numbers an image becomes; asked of the backbone itself, as what timm states is not always that.

    Raises:
        ValidationError: If the backbone takes no images of this size.
    """
    backbone.eval()
    try:
        with torch.no_grad():
            _, features = backbone(torch.zeros(2, channels, size, size)).shape
    except (AssertionError, RuntimeError, ValueError) as error:
        import timm  # pyright: ignore[reportMissingImports] - an extra

        usual = timm.get_pretrained_cfg(name.removeprefix(TIMM)).input_size[-1]
        said = str(error).strip().splitlines()[0]
        message = f"{name} takes no images of {size} pixels ({said}); ask for {usual}, or another backbone."
        raise ValidationError({"image_size": [message]}) from error
    backbone.train()
    return features


def _convolution(inside: int, outside: int, stride: int, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outside))
