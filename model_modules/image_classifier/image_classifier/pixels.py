"""Decoded images in memory, and the batches of an epoch."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from image_classifier.data import Split, refused
from image_classifier.preprocessing import Preprocessing, UnreadableImage

_SHARE_OF_MEMORY = 0.25
_SHARE_OF_GPU = 0.1  # activations need the rest


class Pixels:
    """The images of one part of a dataset, each decoded and resized once - or every time, where memory is too small.

    Args:
        images: Folder that the paths of `split` are below.
        split: Files and labels.
        preprocessing: How they become squares.
        workers: Threads that decode; Pillow lets go of the interpreter while it works.
        limit: Bytes that may be kept; a quarter of the free memory by default.
        beside: How many processes keep them on this machine.
    """

    def __init__(
        self,
        images: Path,
        split: Split,
        preprocessing: Preprocessing,
        workers: int,
        *,
        limit: int | None = None,
        beside: int = 1,
    ) -> None:
        self.paths = [images / file for file in split.files]
        self.labels = torch.tensor(split.labels, dtype=torch.long)
        self.preprocessing, self.workers = preprocessing, max(1, workers)
        needed = len(split) * preprocessing.channels * preprocessing.size**2
        self.kept: Tensor | None = None
        if needed <= (free_memory() * _SHARE_OF_MEMORY / beside if limit is None else limit):
            self.kept = self._decoded(range(len(split)))

    def __len__(self) -> int:
        return len(self.paths)

    def on(self, device: torch.device) -> Pixels:
        """The same images, kept on `device` where a tenth of its free memory holds them; else these."""
        if device.type != "cuda" or self.kept is None or device == self.kept.device:
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.kept.numel() > free * _SHARE_OF_GPU:
            return self
        there = copy.copy(self)
        there.kept, there.labels = self.kept.to(device), self.labels.to(device)
        return there

    def take(self, indices: list[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Pixels, shape (n, channels, size, size), uint8, and labels, shape (n,), int64."""
        if self.kept is None:
            pixels = self._decoded(indices.tolist() if isinstance(indices, Tensor) else indices)
        else:
            pixels = self.kept[indices]
        return pixels, self.labels[indices]

    def statistics(self, sample: int = 2000) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over up to `sample` images spread over the part, in [0, 1]."""
        pixels, _ = self.take(list(range(0, len(self), max(1, len(self) // sample)))[:sample])
        values = pixels.float() / 255
        deviation, mean = torch.std_mean(values, dim=(0, 2, 3), correction=0)
        deviation = deviation.clamp(min=1e-3)
        return [round(value, 6) for value in mean.tolist()], [round(value, 6) for value in deviation.tolist()]

    def _decoded(self, indices: list[int] | range) -> Tensor:
        if not len(indices):  # what is left of the last batch may be fewer images than there are processes
            return torch.empty(0, self.preprocessing.channels, *2 * [self.preprocessing.size], dtype=torch.uint8)
        with ThreadPoolExecutor(self.workers) as pool:
            return torch.from_numpy(np.stack(list(pool.map(self._decode, indices))))

    def _decode(self, index: int) -> np.ndarray:
        try:
            return self.preprocessing.decode(self.paths[index])
        except UnreadableImage as error:
            raise refused(f"{self.paths[index]}: {error}") from error


class Batches:
    """Batches of one epoch after another; Lightning iterates it anew for each.

    The order depends on `seed` and on `epoch` alone, so that a training that was killed goes on as it would have gone.

    Args:
        pixels: The part to go through.
        size: Images of a batch over all processes; for training, those that fill no batch rest for an epoch.
        shuffled: For training.
        seed: Of the order.
        rank: Number of this process.
        world: How many processes share each batch.
    """

    def __init__(
        self, pixels: Pixels, size: int, *, shuffled: bool, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.pixels, self.shuffled, self.seed, self.rank, self.world = pixels, shuffled, seed, rank, world
        count = len(pixels)
        self.size = self.size_of(count, size) if shuffled else size
        self.batches = count // self.size if shuffled else -(-count // size)
        self.epoch = 0
        self._drawn: tuple[int, tuple[Tensor, ...]] | None = None

    @staticmethod
    def size_of(count: int, size: int) -> int:
        """The size near `size` of training batches that leaves the fewest of `count` images out."""
        return count // max(1, round(count / size))

    def __len__(self) -> int:
        return self.batches

    @property
    def share(self) -> slice:
        """Which images of each batch are this process'."""
        return slice(self.rank, None, self.world)

    def on(self, device: torch.device) -> None:
        """Take the images from the memory of `device` from now on, if there is room: none is copied there any more."""
        self.pixels, self._drawn = self.pixels.on(device), None

    def labels(self, at: int) -> Tensor:
        """Labels of the whole batch number `at` of this epoch, all processes' shares of it."""
        return self.pixels.labels[self._parts()[at]]

    def _parts(self) -> tuple[Tensor, ...]:
        """The images of each batch of this epoch, over all processes."""
        if self._drawn is None or self._drawn[0] != self.epoch:
            count = len(self.pixels)
            drawn = np.random.default_rng((self.seed, self.epoch)).permutation(count) if self.shuffled else range(count)
            order = torch.as_tensor(drawn, dtype=torch.long).to(self.pixels.labels.device)
            self._drawn = self.epoch, order.split(self.size)[: self.batches]
        return self._drawn[1]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        parts = [part[self.share] for part in self._parts()]
        if self.pixels.kept is not None:
            yield from (self.pixels.take(part) for part in parts)
            return
        with ThreadPoolExecutor(1) as pool:  # decodes the next batch while this one is learnt
            coming = pool.submit(self.pixels.take, parts[0])
            for part in parts[1:]:
                ready, coming = coming, pool.submit(self.pixels.take, part)
                yield ready.result()
            yield coming.result()


def free_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or less where a container allows less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return free if limit == "max" else min(free, int(limit) - used)
    except (OSError, ValueError):
        return free
