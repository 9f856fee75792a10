"""What a model said of each held-out image, beside what is true."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volvox.errors import InvalidInput, ModuleFailed
from volvox.evaluation.metrics import Array, Labels


@dataclass(frozen=True)
class Predictions:
    """Probabilities for N images over C classes.

    Attributes:
        classes: Class names; labels and columns are indices into them.
        labels: True classes, shape (N,).
        probabilities: Shape (N, C), each in [0, 1].
        files: Each image's path in the dataset.
    """

    classes: tuple[str, ...]
    labels: Labels
    probabilities: Array
    files: tuple[str, ...]

    @classmethod
    def load(cls, path: Path, classes: Sequence[str] = ()) -> Predictions:
        """Read an `.npz` with `labels`, `probabilities`, `files` and, where `classes` are not given, `classes`.

        Raises:
            ModuleFailed: If the file is not of that form.
        """
        try:
            with np.load(path, allow_pickle=False) as kept:
                names = tuple(map(str, classes if len(classes) else kept["classes"]))
                read = cls(
                    names,
                    kept["labels"].astype(np.int64),
                    kept["probabilities"].astype(np.float64),
                    tuple(map(str, kept["files"])),
                )
        except (OSError, KeyError, ValueError) as error:
            raise ModuleFailed(f"{path.name} holds no labels, probabilities and files: {error}") from error
        if read.probabilities.shape != (len(read.files), len(names)) or len(read.labels) != len(read.files):
            raise ModuleFailed(
                f"{path.name} holds {len(read.labels)} labels, {len(read.files)} files and probabilities of shape "
                f"{read.probabilities.shape} for {len(names)} classes"
            )
        return read

    def save(self, path: Path) -> None:
        """Write the `.npz` that `load` reads."""
        np.savez_compressed(
            path,
            labels=self.labels,
            probabilities=self.probabilities.astype(np.float32),
            files=np.array(self.files, dtype=np.str_),
            classes=np.array(self.classes, dtype=np.str_),
        )

    def over(self, classes: Sequence[str], truth: dict[str, str] | None = None) -> Predictions:
        """The same predictions over other classes, which are found by name.

        Classes that the model alone knows are put behind the others: choosing one is a mistake like any other.

        Args:
            classes: The names to have, in this order.
            truth: True class name of each file. Where it knows all files it replaces the labels, so that a model that
                learned other classes is measured by the data's labels and not by its own.

        Raises:
            InvalidInput: If a true class is not among `classes`.
        """
        every = (*classes, *(name for name in self.classes if name not in set(classes)))
        position = {name: index for index, name in enumerate(every)}
        if truth and all(file in truth for file in self.files):
            names = [truth[file] for file in self.files]
        elif ((self.labels < 0) | (self.labels >= len(self.classes))).any():
            raise InvalidInput(f"labels lie outside of the {len(self.classes)} classes that the model knows")
        else:
            names = [self.classes[label] for label in self.labels]
        if unknown := sorted({name for name in names if name not in classes}):
            raise InvalidInput(f"the predictions are for classes that the data does not have: {', '.join(unknown[:5])}")
        probabilities = np.zeros((len(self.files), len(every)))
        probabilities[:, [position[name] for name in self.classes]] = self.probabilities
        return Predictions(every, np.array([position[name] for name in names], np.int64), probabilities, self.files)

    def of(self, files: Sequence[str]) -> Predictions:
        """The predictions for `files`, in their order.

        Raises:
            InvalidInput: If there is none for one of them.
        """
        row = {file: index for index, file in enumerate(self.files)}
        if missing := [file for file in files if file not in row]:
            raise InvalidInput(f"there is no prediction for {missing[0]} and {len(missing) - 1} more files")
        rows = [row[file] for file in files]
        return Predictions(self.classes, self.labels[rows], self.probabilities[rows], tuple(files))


def from_answers(lines: Iterable[str], images: Path, truth: dict[str, str], classes: Sequence[str]) -> Predictions:
    """Predictions from the JSON lines of `volvox.worker.scoring`.

    Args:
        lines: One answer each.
        images: The folder that the files lie in.
        truth: True class name of each file, by its path below `images`.
        classes: Class names to count in; others that were answered are put behind them.

    Raises:
        InvalidInput: If a true class is not among `classes`.
    """
    answers = [json.loads(line) for line in lines]
    named = (label for answer in answers for label in answer["labels"])
    every = tuple(dict.fromkeys([*classes, *named]))
    position = {name: index for index, name in enumerate(every)}
    probabilities = np.zeros((len(answers), len(every)))
    for row, answer in enumerate(answers):
        for label, probability in zip(answer["labels"], answer["probabilities"], strict=True):
            probabilities[row, position[label]] = probability
    files = tuple(Path(answer["file"]).relative_to(images).as_posix() for answer in answers)
    labels = np.array([position[truth[file]] for file in files], np.int64)
    return Predictions(every, labels, probabilities, files).over(classes)


def held_out(folder: Path) -> dict[str, str]:
    """True class name of each file of a held-out tree, by its path below `images/`.

    Raises:
        InvalidInput: If the tree has no list of its test part, or a line of it cannot be read.
    """
    lists = folder / "dataset_files"
    try:
        classes = lists.joinpath("classes.txt").read_text().splitlines()
        truth = {}
        for line in lists.joinpath("test.txt").read_text().splitlines():
            file, _, label = line.rpartition(" ")
            truth[file] = classes[int(label)]
    except (OSError, ValueError, IndexError) as error:
        raise InvalidInput(f"{lists} does not list a test part: {error}") from error
    return truth
