"""Whose turn it is: by priority, then in turn by user, then in the order in which jobs came."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from volvox.inbox.database import Transaction

# Steps from user to user on the index, so that a user with a hundred thousand waiting jobs costs as much as one job.
_USERS = """
WITH RECURSIVE users (owner) AS (
    SELECT min(owner) FROM jobs WHERE function = ? AND state = 'RUNNABLE'
    UNION ALL
    SELECT (SELECT min(owner) FROM jobs WHERE function = ? AND state = 'RUNNABLE' AND owner > users.owner)
    FROM users WHERE users.owner IS NOT NULL
)
SELECT owner FROM users WHERE owner IS NOT NULL
"""
_FIRST = """
SELECT id, priority, number FROM jobs WHERE function = ? AND state = 'RUNNABLE' AND owner = ?
ORDER BY priority DESC, number LIMIT ?
"""
# Not tried before, and nobody waits for the answer of a call.
_FRESH = "attempts = 0 AND source <> 'call' AND (deadline = 0 OR deadline > ?)"
_FIRST_BUT_FRESH = f"""
SELECT id, priority, number FROM jobs WHERE function = ? AND state = 'RUNNABLE' AND owner = ? AND NOT ({_FRESH})
ORDER BY priority DESC, number LIMIT ?
"""  # noqa: S608 - all of it stands here
_FIRST_FRESH = f"""
SELECT id FROM jobs WHERE function = ? AND state = 'RUNNABLE' AND owner = ? AND {_FRESH}
ORDER BY priority DESC, number LIMIT ?
"""  # noqa: S608
_COUNT_FRESH = f"SELECT count(*) AS it FROM ({_FIRST_FRESH}) AS these"  # noqa: S608
_AT_WORK = """
SELECT owner, count(*) AS it FROM jobs WHERE function = ? AND state IN ('STARTING', 'RUNNING') GROUP BY owner
"""


def choose(
    here: Transaction,
    function: str,
    count: int,
    per_user: int = 0,
    served: Mapping[str, int] | None = None,
    *,
    crowd_from: int = 0,
    now: float = 0.0,
) -> list[tuple[str, str]]:
    """The ids of up to `count` jobs whose turn it is, and whose each is.

    Of equal priority, the user goes first who has the fewest under way, those just chosen counted; of several such
    users the one whose last turn is longest ago.

    Args:
        here: The transaction in which they will be taken.
        function: Its name.
        count: How many at most.
        per_user: How many of one user may be under way at a time; 0: any.
        served: When each user had its last turn, as numbers that rise; one who had none is left out.
        crowd_from: Of a user of whom so many wait that nobody tried before, none of these, and no fewer: they are for
            `together`. 0: there are no crowds.
        now: Seconds since the epoch.
    """
    served = served or {}
    users = [row["owner"] for row in here.read(_USERS, (function, function))]
    at_work = {row["owner"]: row["it"] for row in here.read(_AT_WORK, (function,))} if users else {}
    turns: list[tuple[int, int, int, int, str, str]] = []
    for user in users:
        has = at_work.get(user, 0)
        room = min(count, per_user - has) if per_user and user else count
        if room <= 0:
            continue
        crowded = crowd_from and _fresh(here, function, user, crowd_from, now) >= crowd_from
        query, values = (_FIRST_BUT_FRESH, (now,)) if crowded else (_FIRST, ())
        for place, row in enumerate(here.read(query, (function, user, *values, room))):
            turns.append((-row["priority"], has + place, served.get(user, 0), row["number"], row["id"], user))
    return [one[-2:] for one in heapq.nsmallest(count, turns)]


def crowd(here: Transaction, function: str, least: int, most: int, now: float) -> tuple[str, int] | None:
    """The user of whom most jobs wait that nobody tried before, and how many; None if of nobody `least` do.

    Counted up to `most`; calls, and what is too late, are not counted.
    """
    users = [row["owner"] for row in here.read(_USERS, (function, function))]
    found = [(_fresh(here, function, user, most, now), user) for user in users]
    count, user = max(found, default=(0, ""))
    return (user, count) if count >= least else None


def _fresh(here: Transaction, function: str, user: str, most: int, now: float) -> int:
    return here.read(_COUNT_FRESH, (function, user, now, most))[0]["it"]


def together(here: Transaction, function: str, user: str, count: int, now: float) -> list[str]:
    """The ids of up to `count` such jobs of one user, in their order."""
    return [row["id"] for row in here.read(_FIRST_FRESH, (function, user, now, count))]
