"""What a caller may say about data."""

import pytest

from volvox.data.options import Options
from volvox.errors import InvalidInput


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fractions": (0.5, 0.5)}, "give three numbers above 0"),
        ({"fractions": (1.0, 0.0, 0.0)}, "give three numbers above 0"),
        ({"fractions": (0.9, 0.2, -0.1)}, "give three numbers above 0"),
        ({"fractions": (0.5, 0.5, 0.5)}, "must add up to 1"),
        ({"fractions": (float("nan"), 0.5, 0.5)}, "give three numbers above 0"),
        ({"time_gap_seconds": -1}, "give 0 or more"),
        ({"time_gap_seconds": float("nan")}, "give 0 or more"),
        ({"time_column": "t", "group_column": "g"}, "give one of them"),
    ],
)
def test_what_cannot_be_used_is_refused(given, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        Options(**given)


def test_shares_are_named_by_part() -> None:
    assert Options().shares == {"train": 0.7, "val": 0.15, "test": 0.15}
