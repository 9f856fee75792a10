"""Which images belong together, so that the split must not part them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from volvox.data.layouts import Labelled, Layout
from volvox.data.options import NONE, Options
from volvox.data.tables import Table, seconds_of
from volvox.errors import InvalidInput

GROUP_COLUMN = "group"
TIME_COLUMNS = ("captured_utc", "captured_at", "capture_time", "timestamp", "datetime")


@dataclass
class Groups:
    """Which images belong together.

    Attributes:
        of: Name of an image -> name of its group; every image has one, or none has.
        grouped_by: `groups.csv`, the name of a column, or empty.
        notes: Sentences for people.
    """

    of: dict[str, str] = field(default_factory=dict)
    grouped_by: str = ""
    notes: list[str] = field(default_factory=list)


def read_groups(layout: Layout, options: Options) -> Groups:
    """Find out which images of `layout` belong together: a group column, else times, else nothing.

    Raises:
        InvalidInput: If the options name a column that is not there, or one that holds no times.
    """
    labels, groups = (next((t for t in layout.tables if t.name == name), None) for name in ("labels.csv", "groups.csv"))
    if options.group_column not in ("", NONE):
        table = _with_column(options.group_column, groups, labels)
        return _by_column(layout.images, table, options.group_column, options.group_column)
    if options.time_column not in ("", NONE):
        table = _with_column(options.time_column, groups, labels)
        return _by_time(layout.images, table, options.time_column, options)
    if not options.group_column and groups is not None and GROUP_COLUMN in groups.columns:
        return _by_column(layout.images, groups, GROUP_COLUMN, groups.name)
    if not options.time_column:
        for table in filter(None, (groups, labels)):
            column = next((column for column in TIME_COLUMNS if column in table.columns), None)
            if column and any(seconds_of(value) is not None for value in table.column(column).values()):
                return _by_time(layout.images, table, column, options)
    return Groups()


def _with_column(column: str, *tables: Table | None) -> Table:
    there = [table for table in tables if table is not None]
    for table in there:
        if column in table.columns:
            return table
    told = "; ".join(f"{table.name} has {', '.join(table.columns)}" for table in there)
    raise InvalidInput(f"there is no column {column!r}: {told or 'the folder has neither groups.csv nor labels.csv'}")


def _by_column(images: list[Labelled], table: Table, column: str, grouped_by: str) -> Groups:
    named = table.column(column)
    groups = {image.file: _cell(named, image) for image in images}
    alone = sorted(file for file, group in groups.items() if not group)
    of = {file: f"{column}: {group}" if group else f"file: {file}" for file, group in groups.items()}
    notes = [f"{len(alone)} images have no group in {table.name} and count as one each"] if alone else []
    return Groups(of, grouped_by, notes)


def _by_time(images: list[Labelled], table: Table, column: str, options: Options) -> Groups:
    named = table.column(column)
    times = {image.file: seconds_of(_cell(named, image)) for image in images}
    of: dict[str, str] = {}
    last, group = None, ""
    for time, file in sorted((time, file) for file, time in times.items() if time is not None):
        if last is None or time - last > options.time_gap_seconds:
            group = f"time: {datetime.fromtimestamp(time, UTC).isoformat(timespec='milliseconds')}"
        last, of[file] = time, group
    if not of:
        raise InvalidInput(
            f"column {column!r} of {table.name} holds no time that can be read, like 2020-05-14T16:00:12Z"
        )
    alone = [file for file, time in times.items() if time is None]
    of |= {file: f"file: {file}" for file in alone}
    notes = [f"{len(alone)} images have no time in {table.name} and belong to nothing"] if alone else []
    return Groups(of, column, notes)


def _cell(named: Mapping[str, str], image: Labelled) -> str:
    """The image's cell; tables may name it from the folder or from its `images/`."""
    return named.get(image.found.path) or named.get(image.file) or ""
