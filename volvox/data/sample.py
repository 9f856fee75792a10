"""A few images of a dataset, to find out in a moment how fast a module learns from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain, zip_longest
from pathlib import Path

from volvox.identity import digest_of
from volvox.records import Dataset
from volvox.store import Store

SUFFIX = " (sample)"


def sample(dataset: Dataset, store: Store, images: int, mark: str = "") -> Dataset:
    """A dataset of at most so many training images of `dataset`, and as many others to validate on as it has a share.

    Always the same ones, of every class in turn; its record is kept, like that of any dataset.

    Args:
        dataset: What they are taken from.
        store: Where it is, and where they are put.
        images: How many training images.
        mark: What tells two samples of the same images apart.
    """
    folder = store.tree(dataset.learning_tree)
    lists = {part: _in_turns((folder / "dataset_files" / f"{part}.txt").read_text()) for part in ("train", "val")}
    share = min(1.0, images / max(1, len(lists["train"])))
    chosen = {
        "train": lists["train"][:images],
        "val": lists["val"][: max(1, round(len(lists["val"]) * share))],
    }
    members: dict[str, Path | bytes] = {"dataset_files/classes.txt": folder / "dataset_files" / "classes.txt"}
    for part, lines in chosen.items():
        members[f"dataset_files/{part}.txt"] = "".join(f"{line}\n" for line in sorted(lines)).encode()
        members |= {f"images/{_file(line)}": folder / "images" / _file(line) for line in lines}
    made = dataset.model_copy(
        update={
            "name": dataset.name + SUFFIX,
            "counts": {
                "train": _counts(chosen["train"], len(dataset.classes)),
                "val": _counts(chosen["val"], len(dataset.classes)),
                "test": (0,) * len(dataset.classes),
            },
            "content": digest_of(["sample", dataset.content, len(chosen["train"]), mark]),
            "learning_tree": store.put_members(dict(members)),
        }
    )
    store.put_record("data", digest_of(["sample", made.content]), made.model_dump(mode="json"))
    return made


def is_sample(dataset: Dataset) -> bool:
    """Whether `sample` made it."""
    return dataset.name.endswith(SUFFIX)  # no name that a person can give ends so


def _in_turns(text: str) -> list[str]:
    """The lines of a split file, one of each class after the other, in an order that is always the same."""
    of_label: dict[str, list[str]] = {}
    for line in sorted(filter(None, text.splitlines()), key=lambda line: hashlib.sha256(line.encode()).digest()):
        of_label.setdefault(line.rpartition(" ")[2], []).append(line)
    turns = zip_longest(*(of_label[label] for label in sorted(of_label)))
    return [line for line in chain.from_iterable(turns) if line is not None]


def _file(line: str) -> str:
    return line.rpartition(" ")[0]


def _counts(lines: Iterable[str], classes: int) -> tuple[int, ...]:
    labels = [int(line.rpartition(" ")[2]) for line in lines]
    return tuple(labels.count(label) for label in range(classes))
