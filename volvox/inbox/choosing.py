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
_AT_WORK = """
SELECT owner, count(*) AS it FROM jobs WHERE function = ? AND state IN ('STARTING', 'RUNNING') GROUP BY owner
"""


def choose(
    here: Transaction, function: str, count: int, per_user: int = 0, served: Mapping[str, int] | None = None
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
        for place, row in enumerate(here.read(_FIRST, (function, user, room))):
            turns.append((-row["priority"], has + place, served.get(user, 0), row["number"], row["id"], user))
    return [one[-2:] for one in heapq.nsmallest(count, turns)]
