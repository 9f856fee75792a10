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
            self.backbone = _from_timm(name, len(mean), architecture.get("pretrained", False))
            features = int(self.backbone.num_features)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(architecture.get("dropout", 0.0))
        self.head = nn.Linear(features, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits, shape (N, classes), from pixels of 0 to 255, shape (N, channels, size, size), of any type."""
        return self.head(self.dropout(self.backbone((pixels.to(self.mean.dtype) - self.mean) / self.std)))


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
        ValidationError: If the backbone is unknown; the message names what there is.
    """
    check_backbone(backbone)
    if backbone == SMALL:
        return {
            "backbone": SMALL,
            "width": 24,
            "stem_stride": 1 if size <= 32 else 2,
            "dropout": 0.1,
        }
    return {"backbone": backbone, "dropout": 0.1, "pretrained": pretrained}


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
    if not timm.is_model(name.removeprefix(TIMM)):
        from difflib import get_close_matches

        near = get_close_matches(name.removeprefix(TIMM), timm.list_models(), 5, 0.4) or timm.list_models("resnet*")[:5]
        raise _unknown(name, f"timm has no such model; it has {', '.join(TIMM + model for model in near)} and more")


def parameters(network: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


def _unknown(name: str, reason: str) -> ValidationError:
    return ValidationError({"backbone": [f"No backbone {name!r}: {reason}."]})


def _from_timm(name: str, channels: int, pretrained: bool) -> nn.Module:
    check_backbone(name)
    import timm  # pyright: ignore[reportMissingImports] - an extra

    return timm.create_model(name.removeprefix(TIMM), pretrained=pretrained, num_classes=0, in_chans=channels)


def _convolution(inside: int, outside: int, stride: int, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outside))
