"""A folder of labelled images becomes a dataset: every image opened once, checked, split and kept in the store."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.data.folder import Folder
from volvox.data.groups import Groups, read_groups
from volvox.data.images import Inspected, inspect_all
from volvox.data.layouts import Labelled, Layout, read_layout
from volvox.data.options import PARTS, Options
from volvox.data.split import by_group, by_stratum
from volvox.errors import InvalidInput
from volvox.identity import canonical_json, digest_of
from volvox.records import Dataset, Rejected, Split
from volvox.store import Store

FEWEST_IMAGES = 3
FEWEST_CLASSES = 2
MOST_REJECTED = 1000
FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a dataset: what was said of it, what it is, and where the split put it."""

    labelled: Labelled
    inspected: Inspected
    part: Split
    group: str = ""

    @property
    def file(self) -> str:
        """Its name among the images of the dataset."""
        return self.labelled.file


@dataclass(frozen=True, slots=True)
class Checked:
    """What a dataset is made of: its images by name, its classes in order, and what was left out."""

    images: tuple[Image, ...]
    classes: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]
    grouped_by: str


def prepare(
    folder: Folder, options: Options, store: Store, *, name: str, source: str, cancelled: threading.Event | None = None
) -> Dataset:
    """Check the images of `folder`, split them and keep them in `store`.

    Files that cannot be used are left out, each with a reason; that is never fatal while every class keeps
    `FEWEST_IMAGES` images.

    Raises:
        InvalidInput: If there are too few images or classes, or the folder contradicts itself or the options.
        Cancelled: If `cancelled` was set meanwhile.
    """
    cancelled = cancelled or threading.Event()
    layout = read_layout(folder, options)
    if not layout.images:
        raise InvalidInput(_no_images(source, layout))
    if len(layout.classes) < FEWEST_CLASSES:
        raise InvalidInput(
            f"{source} holds one class, {layout.classes[0]!r}; telling classes apart takes at least {FEWEST_CLASSES}: "
            "one folder of images for each"
        )
    groups = read_groups(layout, options)
    results = inspect_all([image.found for image in layout.images], cancelled)
    usable = _usable(layout, results)
    _refuse_small_classes(layout, [image.label for image, _ in usable])
    split, split_notes = _split(layout, usable, groups, options)
    images = [Image(labelled, seen, split[seen.sha256], groups.of.get(labelled.file, "")) for labelled, seen in usable]
    images.sort(key=lambda image: image.file)
    rejected = sorted(layout.rejected, key=lambda left_out: (left_out.file, left_out.reason))
    notes = [*layout.notes, *groups.notes, *split_notes]
    if rejected:
        first = rejected[0]
        notes.append(f"{len(rejected)} files were left out, for example {first.file}: {first.reason}")
    for sentence in notes:
        progress.note(sentence)
    checked = Checked(tuple(images), layout.classes, tuple(rejected), tuple(notes), groups.grouped_by)
    return _kept(checked, store, name, source, cancelled)


def content_digest(images: Sequence[Image], classes: Sequence[str]) -> str:
    """The identity of a dataset: its classes in order, and path, sha256, label and part of every image."""
    entries = sorted([image.file, image.inspected.sha256, image.labelled.label, image.part] for image in images)
    return digest_of(["images", list(classes), entries])


# -- what can be used ------------------------------------------------------------------------------------------------


def _usable(layout: Layout, results: Sequence[Inspected | str]) -> list[tuple[Labelled, Inspected]]:
    """Images that decode, each once; the others are rejected."""
    twins: dict[str, list[tuple[Labelled, Inspected]]] = defaultdict(list)
    for image, result in zip(layout.images, results, strict=True):
        if isinstance(result, str):
            layout.reject(image.found.path, result)
        else:
            twins[result.sha256].append((image, result))
    usable = []
    for same in twins.values():
        labels = sorted({image.label for image, _ in same})
        if len(labels) > 1:
            for image, _ in same:
                layout.reject(image.found.path, f"the same image has several labels: {', '.join(labels)}")
            continue
        # Of twins, the one that is held out stays: what a model is tested on must not be learned.
        first, *others = sorted(same, key=lambda twin: (-PARTS.index(twin[0].part or "train"), twin[0].file))
        usable.append(first)
        for image, _ in others:
            layout.reject(image.found.path, f"it is the same image as {first[0].found.path}")
    return usable


def _refuse_small_classes(layout: Layout, labels: Sequence[str]) -> None:
    has, said = Counter(labels), Counter(image.label for image in layout.images)
    small = [label for label in layout.classes if has[label] < FEWEST_IMAGES]
    if not small:
        return
    told = ", ".join(f"{label!r} has {has[label]} (of {said[label]} files)" for label in small[:5])
    more = f" and {len(small) - 5} more" if len(small) > 5 else ""
    reasons = {left_out.file: left_out.reason for left_out in layout.rejected}
    left_out = next((image.found.path for image in layout.images
                     if image.label in small and image.found.path in reasons), None)  # fmt: skip
    example = f"; {left_out} was left out: {reasons[left_out]}" if left_out else ""
    raise InvalidInput(
        f"every class needs at least {FEWEST_IMAGES} usable images, one for each part of the split, but {told}{more}"
        f"{example}; add images or take the class away"
    )


def _no_images(source: str, layout: Layout) -> str:
    wanted = "give a folder with one subfolder of images for each class (FOLDER/<class>/*.png)"
    if not layout.rejected:
        return f"{source} holds no images; {wanted}"
    first = layout.rejected[0]
    return f"{source} holds no image that can be used, for example {first.file}: {first.reason}; {wanted}"


# -- the split -------------------------------------------------------------------------------------------------------


def _split(
    layout: Layout, usable: Sequence[tuple[Labelled, Inspected]], groups: Groups, options: Options
) -> tuple[dict[str, Split], list[str]]:
    """Where each image goes, by its sha256, and what people should know of it."""
    split: dict[str, Split] = {seen.sha256: image.part for image, seen in usable if image.part}
    notes: list[str] = []
    missing = [part for part in PARTS if part not in layout.given]
    if missing:
        open_parts: list[Split] = [part for part in PARTS if part == "train" or part in missing]
        whole = sum(options.shares[part] for part in open_parts)
        shares: dict[Split, float] = {part: options.shares[part] / whole for part in open_parts}
        free = {seen.sha256: image.label for image, seen in usable if image.part in (None, "train")}
        if groups.of:
            group_of = {seen.sha256: groups.of[image.file] for image, seen in usable}
            split |= by_group(free, group_of, shares, options.seed)
        else:
            split |= by_stratum(free, shares, options.seed)
        if layout.given:
            given = ", ".join(f"{part}.txt" for part in PARTS if part in layout.given)
            notes.append(f"the split of {given} is kept; {' and '.join(missing)} are taken from train")
    has = Counter((split[seen.sha256], image.label) for image, seen in usable)
    if unlearned := [label for label in layout.classes if not has["train", label]]:
        raise InvalidInput(f"no image of class {unlearned[0]!r} is left in the train part; a model could not learn it")
    for part in PARTS[1:]:
        if not any(has[part, label] for label in layout.classes):
            raise InvalidInput(_empty_part(part, layout, groups))
        if lacking := [label for label in layout.classes if not has[part, label]]:
            why = "they have too few groups" if groups.of else "the given split has none"
            notes.append(f"the {part} part lacks {len(lacking)} classes ({', '.join(lacking[:5])}): {why}")
    if groups.of:
        together = len({groups.of[image.file] for image, _ in usable})
        notes.append(f"split by {groups.grouped_by}: {len(usable)} images in {together} groups that stay together")
    return split, notes


def _empty_part(part: Split, layout: Layout, groups: Groups) -> str:
    if part in layout.given or not groups.of:
        return f"the {part} part has no image that can be used; give it some in {part}.txt, or take that file away"
    together = len(set(groups.of.values()))
    return (
        f"nothing is left for the {part} part: by {groups.grouped_by} all {len(groups.of)} images belong to {together} "
        "groups, and a split takes at least 3; give a smaller time gap or another column, or 'none' as the column to "
        "split without groups"
    )


# -- what is kept ----------------------------------------------------------------------------------------------------


def _kept(checked: Checked, store: Store, name: str, source: str, cancelled: threading.Event) -> Dataset:
    images, classes = checked.images, checked.classes
    counts = Counter((image.part, image.labelled.label) for image in images)
    return Dataset(
        name=name,
        source=source,
        classes=classes,
        counts={part: tuple(counts[part, label] for label in classes) for part in PARTS},
        content=content_digest(images, classes),
        learning_tree=_put_tree(store, checked, ("train", "val"), cancelled),
        held_out_tree=_put_tree(store, checked, ("test",), cancelled),
        manifest_object=store.put_bytes(canonical_json(_manifest(checked))),
        rejected=checked.rejected[:MOST_REJECTED],
        rejected_total=len(checked.rejected),
        grouped_by=checked.grouped_by,
        bytes=sum(image.inspected.bytes for image in images),
    )


def _manifest(checked: Checked) -> dict[str, Any]:
    return {
        "content": content_digest(checked.images, checked.classes),
        "classes": list(checked.classes),
        "grouped_by": checked.grouped_by,
        "files": [
            {
                "file": image.file,
                "label": image.labelled.label,
                "part": image.part,
                "group": image.group,
                **dataclasses.asdict(image.inspected),
            }
            for image in checked.images
        ],
        "rejected": [left_out.model_dump() for left_out in checked.rejected],
        "notes": list(checked.notes),
    }


def _put_tree(store: Store, checked: Checked, parts: Sequence[Split], cancelled: threading.Event) -> str:
    numbers = {label: number for number, label in enumerate(checked.classes)}
    members: dict[str, Path | bytes | Callable[[], bytes]] = {"dataset_files/classes.txt": _text(checked.classes)}
    for part in parts:
        chosen = [image for image in checked.images if image.part == part]
        members[f"dataset_files/{part}.txt"] = _text(
            f"{image.file} {numbers[image.labelled.label]}" for image in chosen
        )
        members |= {f"images/{image.file}": functools.partial(_unchanged, image, cancelled) for image in chosen}
    return store.put_members(members)


def _unchanged(image: Image, cancelled: threading.Event) -> bytes:
    """The image's bytes, which must still be those that were inspected."""
    if cancelled.is_set():
        raise Cancelled
    location = Path(image.labelled.found.location)
    try:
        data = location.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{location} went away while the data was read ({error.strerror}); run it again") from error
    if hashlib.sha256(data).hexdigest() != image.inspected.sha256:
        raise InvalidInput(f"{location} was changed while the data was read; run it again when nothing writes there")
    return data


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
