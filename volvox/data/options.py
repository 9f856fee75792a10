"""What a caller may say about how labelled data is read and split."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from volvox.errors import InvalidInput
from volvox.records import Split

PARTS: tuple[Split, Split, Split] = ("train", "val", "test")
NONE = "none"


@dataclass(frozen=True)
class Options:
    """How labelled data is read and split.

    Attributes:
        label_column: Column of `labels.csv` that holds the label; default: `label`, else `class`.
        time_column: Column of `labels.csv` or `groups.csv` with the time of capture; default: found by its name;
            `none`: times keep nothing together.
        group_column: Column of `groups.csv` or `labels.csv` that says which images belong together; default: `group`
            of `groups.csv`; `none`: no column does.
        time_gap_seconds: Images that follow each other no later than this belong together.
        fractions: Shares of train, val and test; each above 0, 1 in all.
        seed: Another seed, another split.

    Raises:
        InvalidInput: If a value cannot be used.
    """

    label_column: str = ""
    time_column: str = ""
    group_column: str = ""
    time_gap_seconds: float = 60.0
    fractions: tuple[float, ...] = (0.7, 0.15, 0.15)
    seed: int = 0

    def __post_init__(self) -> None:
        given = " ".join(f"{fraction:g}" for fraction in self.fractions)
        if len(self.fractions) != 3 or not all(fraction > 0 for fraction in self.fractions):
            raise InvalidInput(f"the fractions of train, val and test are {given}; give three numbers above 0")
        if not math.isclose(sum(self.fractions), 1, abs_tol=1e-3):
            raise InvalidInput(f"the fractions of train, val and test are {given}; they must add up to 1")
        if not (math.isfinite(self.time_gap_seconds) and self.time_gap_seconds >= 0):
            raise InvalidInput(f"the time gap is {self.time_gap_seconds:g} seconds; give 0 or more")
        if all(column not in ("", NONE) for column in (self.time_column, self.group_column)):
            raise InvalidInput(
                f"both a time column ({self.time_column}) and a group column ({self.group_column}) are to keep images "
                "together; give one of them"
            )

    @property
    def shares(self) -> dict[Split, float]:
        """The fraction of each part."""
        return dict(zip(PARTS, self.fractions, strict=True))


def checked_sha256(sha256: str) -> str:
    """The sum in lower case and without `sha256:` before it; empty stays empty.

    Raises:
        InvalidInput: If it is no sha256.
    """
    wanted = sha256.strip().lower().removeprefix("sha256:")
    if wanted and not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise InvalidInput(f"{sha256!r} is not a sha256: it has 64 hexadecimal digits")
    return wanted
