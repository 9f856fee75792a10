"""How long to wait before another try."""

from __future__ import annotations

import random

from volvox.functions.definition import Retries

_PLACE = Retries(first_pause_seconds=0.5, longest_pause_seconds=60.0)


def pause(tries: int, retries: Retries = _PLACE) -> float:
    """Seconds to wait after the try number `tries` (1: the first) failed: doubled each time, with jitter.

    Jitter takes up to half of it away, so that what failed together is not tried together.
    """
    longest = min(retries.first_pause_seconds * 2 ** min(tries - 1, 30), retries.longest_pause_seconds)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret hangs on it
