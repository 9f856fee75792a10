"""Which images there are and what they show, read from DEEP's layout or from a folder a class.

`data/dataset_files/classes.txt` has one class a line; `train.txt`, `val.txt` and `test.txt` have lines
`relative/path.png LABEL`, where the path is below `data/images/` and LABEL counts the classes from 0.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from webargs import ValidationError

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm"}
_FRACTION = 0.2


@dataclass(frozen=True)
class Split:
    """One part of a dataset.

    Attributes:
        files: Paths below `images/`, as written in the split file.
        labels: Class of each file, from 0.
    """

    files: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.files)

    def pairs(self) -> list[tuple[str, int]]:
        """(file, label) of each image."""
        return list(zip(self.files, self.labels, strict=True))


@dataclass(frozen=True)
class Dataset:
    """What training reads.

    Attributes:
        images: Folder that all paths are below.
        classes: Names; a label is an index into them.
        train: Part to learn from.
        val: Part to choose by; never empty.
        labels_info: A remark on each class, or empty.
        aphia_ids: WoRMS identifier of each class, or empty.
    """

    images: Path
    classes: list[str]
    train: Split
    val: Split
    labels_info: list[str] = field(default_factory=list)
    aphia_ids: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """Changes with the classes and with which files are in which part; not with what is in the files."""
        told = json.dumps([self.classes, self.train.pairs(), self.val.pairs()])
        return hashlib.sha256(told.encode()).hexdigest()


def read(data: Path, seed: int = 0) -> Dataset:
    """The training and validation part below `data`.

    Without `dataset_files` every folder below `images/` is a class. A fifth of each class validates where no
    validation part is given, drawn by `seed`.

    Raises:
        ValidationError: If the layout is missing, a line cannot be read, or there are fewer than two classes.
    """
    images, lists = data / "images", data / "dataset_files"
    if not images.is_dir():
        raise refused(f"{data} has no folder `images`; put the pictures there, in a folder a class")
    if (lists / "train.txt").is_file():
        classes = read_classes(data)
        train = read_split(data, "train", len(classes))
        val = read_split(data, "val", len(classes)) if (lists / "val.txt").is_file() else Split([], [])
    else:
        classes, train = _from_folders(images)
        val = Split([], [])
    if len(classes) < 2:
        raise refused(f"{data} has {len(classes)} class(es); a classifier needs at least two")
    if not len(train):
        raise refused(f"the training part of {data} is empty")
    if not len(val):
        train, val = _divided(train, seed)
    info, aphia = (_lines(lists / name) for name in ("info.txt", "aphia_ids.txt"))
    fits = len(classes)
    return Dataset(images, classes, train, val, info if len(info) == fits else [], aphia if len(aphia) == fits else [])


def read_classes(data: Path) -> list[str]:
    """Class names in the order of their labels.

    Raises:
        ValidationError: If `classes.txt` is missing, empty or names a class twice.
    """
    path = data / "dataset_files" / "classes.txt"
    classes = _lines(path)
    if not classes:
        raise refused(f"{path} is missing or empty; it names one class a line")
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        raise refused(f"{path} names {', '.join(twice)} more than once")
    return classes


def read_split(data: Path, part: str, classes: int) -> Split:
    """The files and labels of one part (`train`, `val`, `test`).

    Raises:
        ValidationError: If the split file is missing or a line is not `relative/path LABEL`.
    """
    path = data / "dataset_files" / f"{part}.txt"
    if not path.is_file():
        raise refused(f"{path} is missing")
    files, labels = [], []
    for number, line in enumerate(_lines(path), 1):
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal() or int(label) >= classes:
            raise refused(f"{path}, line {number}: {line!r} is not a path and a label from 0 to {classes - 1}")
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise refused(f"{path}, line {number}: {name!r} leads out of the folder `images`")
        files.append(name)
        labels.append(int(label))
    return Split(files, labels)


def refused(message: str) -> ValidationError:
    """An error about the place `data`."""
    return ValidationError({"data": [message]})


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []


def _from_folders(images: Path) -> tuple[list[str], Split]:
    found = {
        folder.name: sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
        for folder in sorted(images.iterdir())
        if folder.is_dir()
    }
    classes = [name for name, paths in found.items() if paths]
    pairs = [(path.relative_to(images).as_posix(), label) for label, name in enumerate(classes) for path in found[name]]
    return classes, _split(pairs)


def _split(pairs: list[tuple[str, int]]) -> Split:
    return Split([file for file, _ in pairs], [label for _, label in pairs])


def _divided(split: Split, seed: int) -> tuple[Split, Split]:
    """A fifth of each class that has at least two images goes to validation; with no such class, all of it does."""
    by_label: dict[int, list[str]] = defaultdict(list)
    for file, label in split.pairs():
        by_label[label].append(file)
    shuffled = random.Random(seed)  # noqa: S311 - draws a sample, keeps no secret
    train: list[tuple[str, int]] = []
    val: list[tuple[str, int]] = []
    for label in sorted(by_label):
        files = sorted(by_label[label])
        shuffled.shuffle(files)
        held = max(1, round(len(files) * _FRACTION)) if len(files) > 1 else 0
        val += [(file, label) for file in files[:held]]
        train += [(file, label) for file in files[held:]]
    val = val or train
    return _split(train), _split(val)
