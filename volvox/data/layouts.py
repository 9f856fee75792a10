"""Which file of a folder is an image of which class: a folder a class, split files, or a table of labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from volvox.data.folder import Folder, Found, plain_path
from volvox.data.options import PARTS, Options
from volvox.data.tables import FILE_COLUMN, Table, read_table
from volvox.errors import InvalidInput
from volvox.records import Rejected, Split

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
TABLES = ("labels.csv", "groups.csv")
_LABEL_COLUMNS = ("label", "class")
_SPLIT_FILES = "dataset_files"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A file that is said to be an image of a class.

    Attributes:
        found: The file.
        file: Its name among the images of the dataset.
        label: The name of its class.
        part: The part of the split that it was given to, or None.
    """

    found: Found
    file: str
    label: str
    part: Split | None = None


@dataclass
class Layout:
    """What a folder says of its images.

    Attributes:
        classes: Names of the classes, in the order of their labels.
        images: Files that should be images with a label.
        rejected: Files that cannot be.
        tables: `labels.csv` and `groups.csv`, where they have a column `file`.
        given: Parts of the split that the folder fixes.
        notes: Sentences for people.
    """

    classes: tuple[str, ...] = ()
    images: list[Labelled] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    tables: tuple[Table, ...] = ()
    given: frozenset[Split] = frozenset()
    notes: list[str] = field(default_factory=list)

    def reject(self, file: str, reason: str) -> None:
        """Leave `file` out."""
        self.rejected.append(Rejected(file=file, reason=reason))

    def take(self, found: Found, file: str, label: str, part: Split | None = None) -> None:
        """Take `found` in if it can be an image of class `label`."""
        if reason := found.problem or _not_an_image(found.path):
            self.reject(found.path, reason)
        elif not label:
            self.reject(found.path, "it has no label")
        elif any(ord(letter) < 32 for letter in label):
            self.reject(found.path, "its label holds control characters")
        else:
            self.images.append(Labelled(found, file, label, part))


def read_layout(folder: Folder, options: Options) -> Layout:
    """Find out how `folder` is laid out and which label each of its files has.

    Raises:
        InvalidInput: If a table or a split file contradicts itself or the options.
    """
    tables = tuple(table for name in TABLES if (table := read_table(folder, name)) is not None)
    for base in ("", "data/"):
        if any(f"{base}{_SPLIT_FILES}/{part}.txt" in folder.by_path for part in ("classes", *PARTS)):
            layout = _split_files(folder, base)
            break
    else:
        table = next((table for table in tables if table.name == TABLES[0]), None)
        column = _label_column(table, options)
        layout = _class_folders(folder) if table is None or not column else _labels_table(folder, table, column)
    for table in tables:
        if FILE_COLUMN not in table.columns:
            layout.notes.append(f"{table.name} has no column {FILE_COLUMN!r} and is not used")
    layout.tables = tuple(table for table in tables if FILE_COLUMN in table.columns)
    return layout


# -- FOLDER/<class>/**/*.png ---------------------------------------------------------------------------------------


def _class_folders(folder: Folder) -> Layout:
    layout, prefix = Layout(), _image_prefix(folder)
    inside = [(found, found.path[len(prefix) :]) for found in folder.files if found.path.startswith(prefix)]
    classes = {file.partition("/")[0] for found, file in inside if "/" in file and not _not_an_image(file)}
    for found, file in inside:
        top, separator, _ = file.partition("/")
        if found.path.endswith("/"):
            layout.reject(found.path, found.problem)
        elif not separator:
            if not _not_an_image(file):
                layout.reject(found.path, "it lies in no class folder, so it has no label")
        elif top in classes:
            layout.take(found, file, top)
        else:
            layout.reject(found.path, _not_an_image(file))
    for path in folder.empty:
        if path.startswith(prefix) and path[len(prefix) :].partition("/")[0] not in classes:
            layout.reject(f"{path}/", "the folder is empty; it is no class")
    layout.classes = tuple(sorted(classes))
    return layout


def _image_prefix(folder: Folder) -> str:
    """`images/` where all images of the folder lie below it, else empty."""
    tops = {top if below else "" for top, below in _images(folder)}
    return "images/" if tops == {"images"} else ""


def _images(folder: Folder) -> Iterator[tuple[str, str]]:
    for found in folder.files:
        if not _not_an_image(found.path):
            top, _, below = found.path.partition("/")
            yield top, below


def _not_an_image(path: str) -> str:
    """Why a file of this name is not taken for an image, or empty."""
    if path.lower().endswith(SUFFIXES):
        return ""
    suffix = PurePosixPath(path).suffix
    told = f"its name ends in {suffix!r}" if suffix else "its name has no ending"
    return f"it is not an image: {told}, not in {', '.join(SUFFIXES)}"


# -- labels.csv ----------------------------------------------------------------------------------------------------


def _label_column(table: Table | None, options: Options) -> str:
    """The column that holds the labels; empty where folders do."""
    wanted = options.label_column
    if table is None or FILE_COLUMN not in table.columns:
        if not wanted:
            return ""
        has = "there is no labels.csv" if table is None else f"labels.csv has no column {FILE_COLUMN!r}"
        raise InvalidInput(f"labels shall be read from column {wanted!r} of labels.csv, but {has}")
    if wanted and wanted not in table.columns:
        raise InvalidInput(f"labels.csv has no column {wanted!r}; its columns are {', '.join(table.columns)}")
    return wanted or next((column for column in _LABEL_COLUMNS if column in table.columns), "")


def _labels_table(folder: Folder, table: Table, column: str) -> Layout:
    layout, prefix = Layout(), _image_prefix(folder)
    labels: dict[str, set[str]] = {}
    for number, row in enumerate(table.rows, start=2):
        named = row[FILE_COLUMN]
        found = folder.by_path.get(named) or folder.by_path.get(f"images/{named}")
        if found is None:
            reason = (
                "labels.csv names it, but it is not there" if named else "labels.csv names a file outside the folder"
            )
            layout.reject(named or f"labels.csv, line {number}", reason)
        else:
            labels.setdefault(found.path, set()).add(row[column])
    for path, names in sorted(labels.items()):
        if len(names) > 1:
            layout.reject(path, f"labels.csv gives it {len(names)} labels: {', '.join(sorted(names))}")
        else:
            layout.take(folder.by_path[path], path.removeprefix(prefix), names.pop())
    for found in folder.files:
        if found.path not in labels and (not _not_an_image(found.path) or found.path.endswith("/")):
            layout.reject(found.path, found.problem or "labels.csv does not name it, so it has no label")
    layout.classes = tuple(sorted({image.label for image in layout.images}))
    return layout


# -- dataset_files/{classes,train,val,test}.txt --------------------------------------------------------------------


def _split_files(folder: Folder, base: str) -> Layout:
    """The layout of DEEP's image classifier: lines `relative/path.jpg <label from 0>`."""
    layout, classes = Layout(), _classes(folder, f"{base}{_SPLIT_FILES}/classes.txt")
    prefix = f"{base}images/"
    if not any(found.path.startswith(prefix) for found in folder.files):
        prefix = base
    files: dict[str, Split] = {}
    for part in reversed(PARTS):  # an image that is in two parts stays in the one that is held out
        source = f"{base}{_SPLIT_FILES}/{part}.txt"
        lines = _lines(folder, source) if source in folder.by_path else []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            named, label, problem = _split_line(line, classes)
            path = f"{prefix}{named}"
            found = folder.by_path.get(path)
            if problem:
                layout.reject(f"{part}.txt, line {number}", problem)
            elif found is None:
                layout.reject(path, f"{part}.txt names it, but it is not there")
            elif path in files:
                layout.reject(path, f"{part}.txt names it again; it is kept in {files[path]}.txt")
            else:
                files[path] = part
                layout.take(found, path.removeprefix(prefix), label, part)
    for found in folder.files:
        if found.path.startswith(prefix) and found.path not in files and not _not_an_image(found.path):
            layout.reject(found.path, found.problem or "no split file names it, so it has no label")
    if "train" not in files.values():
        raise InvalidInput(f"{_SPLIT_FILES}/train.txt names no image that is there; its lines are `path <label>`")
    layout.classes, layout.given = tuple(classes), frozenset(files.values())
    return layout


def _classes(folder: Folder, path: str) -> list[str]:
    if path not in folder.by_path:
        raise InvalidInput(f"{path} is missing; it names one class a line, in the order of the labels")
    classes = [line.strip() for line in _lines(folder, path)]
    while classes and not classes[-1]:
        classes.pop()
    if len(set(classes)) < len(classes) or not all(classes):
        raise InvalidInput(f"{path} names a class twice or has an empty line; give one name a line")
    return classes


def _split_line(line: str, classes: list[str]) -> tuple[str, str, str]:
    """Path, class and problem of one line; paths may hold spaces."""
    *before, number = line.rsplit(maxsplit=1)
    named = plain_path(before[0]) if before else ""
    if not before or not number.isdecimal():
        problem = f"{line.strip()!r} has no label"
    elif not named:
        problem = f"{before[0]!r} lies outside the folder"
    elif int(number) >= len(classes):
        problem = f"label {number} is not one of the {len(classes)} in classes.txt, counted from 0"
    else:
        return named, classes[int(number)], ""
    return named, "", problem


def _lines(folder: Folder, path: str) -> list[str]:
    found = folder.by_path[path]
    if found.problem:
        raise InvalidInput(f"{path} cannot be used: {found.problem}")
    try:
        text = Path(found.location).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not text in UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror})") from error
    return unicodedata.normalize("NFC", text).split("\n")
