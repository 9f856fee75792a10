"""`labels.csv` and `groups.csv`: what is known of each image beside its pixels."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from volvox.data.folder import Folder, plain_path
from volvox.errors import InvalidInput

FILE_COLUMN = "file"
_LARGEST = 1 << 30
_NUMBER = re.compile(r"\d+(\.\d+)?")
_COMPACT = re.compile(r"((?:19|20)\d{6})(\d{6})?")
_EXIF_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d)(?=\D)")


@dataclass(frozen=True)
class Table:
    """A CSV file with a column `file`.

    Attributes:
        name: `labels.csv` or `groups.csv`.
        columns: Its columns, in order.
        rows: Column -> cell, stripped, of each line; `file` is a plain relative path, empty if it leaves the folder.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def column(self, name: str) -> dict[str, str]:
        """File -> cell of column `name`, where it is not empty."""
        return {row[FILE_COLUMN]: row[name] for row in self.rows if row[name]}


def read_table(folder: Folder, name: str) -> Table | None:
    """The table `name` of `folder`, or None where there is none; comma, semicolon or tab between cells.

    Raises:
        InvalidInput: If it cannot be read as a table.
    """
    found = folder.by_path.get(name)
    if found is None:
        return None
    if found.problem:
        raise InvalidInput(f"{name} cannot be used: {found.problem}")
    if found.size > _LARGEST:
        raise InvalidInput(f"{name} has {found.size:,} bytes; at most {_LARGEST:,} are read")
    try:
        text = Path(found.location).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not text in UTF-8; save it as CSV with that encoding") from error
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read ({error.strerror})") from error
    text = unicodedata.normalize("NFC", text)
    heading = text.partition("\n")[0]
    delimiter = max(",;\t", key=heading.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        columns = tuple((column or "").strip() for column in reader.fieldnames or ())
        reader.fieldnames = columns
        rows = [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except csv.Error as error:
        raise InvalidInput(f"{name} is not a CSV table: {error}") from error
    for row in rows:
        if FILE_COLUMN in row:
            row[FILE_COLUMN] = plain_path(row[FILE_COLUMN])
    return Table(name, columns, tuple(rows))


def seconds_of(value: str) -> float | None:
    """A time as seconds since 1970 (UTC where it names no zone), or None if `value` is no time.

    Read are ISO 8601 with any number of decimals, EXIF's `2020:05:14 16:00:12`, `20200514` and `20200514160012`, and
    other numbers: seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
    """
    if compact := _COMPACT.fullmatch(value):
        value = f"{compact[1]}T{compact[2] or '000000'}"
    elif _NUMBER.fullmatch(value):
        number = float(value)
        while number > 1e11:  # the year 5138 in seconds
            number /= 1000
        return number
    try:
        time = datetime.fromisoformat(_EXIF_DATE.sub(r"\1-\2-\3", value))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
