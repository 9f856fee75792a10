"""When a function's own schedule wants it warm: `0 8 * * 1-5 for 10h`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from volvox.errors import InvalidInput

_FORM = re.compile(r"\s*(\S+\s+\S+\s+\S+\s+\S+\s+\S+)\s+for\s+(\d+)\s*(m|min|h|d)\s*")
_MINUTES = {"m": 1, "min": 1, "h": 60, "d": 1440}
_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_LONGEST = 7 * 1440


def in_a_window(windows: Sequence[str], now: float) -> bool:
    """Whether one of the windows is open at `now` (seconds since the epoch), in this machine's time zone.

    Raises:
        InvalidInput: If one cannot be read.
    """
    moment = datetime.fromtimestamp(now).replace(second=0, microsecond=0)
    return any(_open(one, moment) for one in windows)


def checked_window(text: str) -> str:
    """The window, if it can be read.

    Raises:
        InvalidInput: If not; it says how one is written.
    """
    _parsed(text)
    return text


def _open(text: str, moment: datetime) -> bool:
    """Whether it began within its length before `moment`, which is looked for minute by minute, a week at most."""
    fields, minutes = _parsed(text)
    return any(_fits(fields, moment - timedelta(minutes=back)) for back in range(minutes))


def _fits(fields: tuple[frozenset[int], ...], moment: datetime) -> bool:
    weekday = moment.isoweekday() % 7
    minute, hour, day, month, week = fields
    if moment.minute not in minute or moment.hour not in hour or moment.month not in month:
        return False
    # As cron has it: where both are restricted, either is enough.
    any_day, any_week = len(day) == 31, len(week) == 7
    if any_day or any_week:
        return moment.day in day and weekday in week
    return moment.day in day or weekday in week


@cache
def _parsed(text: str) -> tuple[tuple[frozenset[int], ...], int]:
    found = _FORM.fullmatch(text)
    if not found:
        raise InvalidInput(
            f"{text!r} is no time to be warm; write minute hour day month weekday, as in `0 8 * * 1-5 for 10h`"
        )
    minutes = int(found[2]) * _MINUTES[found[3]]
    if not 0 < minutes <= _LONGEST:
        raise InvalidInput(f"{text!r} is open for {found[2]}{found[3]}; a minute to seven days are possible")
    fields = tuple(_field(part, *limits, text) for part, limits in zip(found[1].split(), _LIMITS, strict=True))
    week = frozenset(value % 7 for value in fields[4])
    return (*fields[:4], week), minutes


def _field(part: str, low: int, high: int, text: str) -> frozenset[int]:
    values: set[int] = set()
    for piece in part.split(","):
        found = re.fullmatch(r"(\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", piece)
        if not found:
            raise InvalidInput(f"{piece!r} in {text!r} is no field of a cron expression")
        first = low if found[1] == "*" else int(found[2])
        last = high if found[1] == "*" or (found[4] and not found[3]) else int(found[3] or found[2])
        step = int(found[4] or 1)
        if not (low <= first <= last <= high and step):
            raise InvalidInput(f"{piece!r} in {text!r} is not within {low} to {high}")
        values |= {*range(first, last + 1, step)}
    return frozenset(values)
