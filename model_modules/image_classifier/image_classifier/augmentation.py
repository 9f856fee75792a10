"""Random changes of whole batches on the device they are on, without torchvision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

ALL = slice(None)


@dataclass(frozen=True)
class Strength:
    """How far an image may be changed.

    Attributes:
        shift: Of the side, each way.
        scale: Natural logarithm of the magnification, each way.
        stretch: Natural logarithm of width over height, each way.
        rotation: Degrees, each way.
        shear: Of the side, each way.
        light: Brightness and contrast, as a part of the whole range, each way.
        erase: Chance of a rectangle of up to half the side being blanked.
    """

    shift: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    rotation: float = 0.0
    shear: float = 0.0
    light: float = 0.0
    erase: float = 0.0


STRENGTHS = {
    "none": Strength(),
    "light": Strength(shift=0.07, scale=0.12, stretch=0.06, rotation=9, shear=0.06, light=0.08),
    "strong": Strength(shift=0.1, scale=0.25, stretch=0.12, rotation=20, shear=0.1, light=0.2, erase=0.3),
}


def augmented(
    images: Tensor,
    strength: Strength,
    flip: bool,
    generator: Generator,
    *,
    whole: int | None = None,
    share: slice = ALL,
) -> Tensor:
    """Each image changed on its own.

    Args:
        images: Pixels of 0 to 255, shape (N, C, S, S), float, on the device of `generator`.
        strength: How far to go.
        flip: Also mirror half of the images left to right and half top to bottom: not for digits or text.
        generator: Where the randomness comes from; the same state gives the same images.
        whole: Images of the whole batch, where `images` is a share of it: each is changed as it would be there.
        share: Which of them they are.

    Returns:
        Shape (N, C, S, S), float; values may leave 0 to 255 a little.
    """
    count = len(images) if whole is None else whole

    def random(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty((count, *shape), device=images.device).uniform_(low, high, generator=generator)[share]

    if strength != Strength() or flip:
        angle = random(-1, 1) * math.radians(strength.rotation)
        zoom = torch.exp(random(-1, 1) * strength.scale)
        stretch = torch.exp(random(-1, 1) * strength.stretch / 2)
        mirror = [torch.where(random(0, 1) < 0.5, -1.0, 1.0) if flip else 1.0 for _ in range(2)]
        shear = random(-1, 1) * strength.shear
        cosine, sine = torch.cos(angle), torch.sin(angle)
        across, down = mirror[0] * stretch / zoom, mirror[1] / stretch / zoom
        moved = [random(-2, 2) * strength.shift for _ in range(2)]
        matrix = torch.stack(
            [
                torch.stack([across * cosine, down * (shear - sine), moved[0]], -1),
                torch.stack([across * sine, down * cosine, moved[1]], -1),
            ],
            1,
        )  # (N, 2, 3)
        grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
        images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if strength.light:
        contrast = 1 + random(-1, 1, 1, 1, 1) * strength.light
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - middle) * contrast + middle + random(-1, 1, 1, 1, 1) * (128 * strength.light)
    if strength.erase:
        images = _erased(images, strength.erase, random)
    return images


def _erased(images: Tensor, chance: float, random: object) -> Tensor:
    """A rectangle of each chosen image takes the image's own mean colour.

    Source:
        Zhong et al. 2017, "Random Erasing Data Augmentation".
    """
    _, _, height, width = images.shape
    inside = torch.ones(len(images), 1, 1, 1, dtype=torch.bool, device=images.device)
    for length, axis in ((height, 2), (width, 3)):
        extent = random(0.1, 0.5, 1, 1, 1)  # type: ignore[operator]
        start = random(0, 1, 1, 1, 1) * (1 - extent)  # type: ignore[operator]
        shape = [1, 1, 1, 1]
        shape[axis] = length
        place = torch.linspace(0, 1, length, device=images.device).view(shape)
        inside = inside & (place >= start) & (place < start + extent)
    chosen = random(0, 1, 1, 1, 1) < chance  # type: ignore[operator]
    return torch.where(inside & chosen, images.mean(dim=(2, 3), keepdim=True), images)
