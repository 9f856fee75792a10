"""What became of the files of a list, told in the store while a run goes on.

    records/batch-told/<list>.json         how many, and the pieces in which the outcomes lie
    records/batch-cancelled/<list>.json    jobs that somebody cancelled meanwhile, for the run to pass over

A dispatcher reads the pieces it has not seen yet, so that a job ends when its file is answered and not with the run. A
run that is begun again reads all of them, so that it does nothing twice.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from volvox.identity import canonical_json
from volvox.runtimes.interface import Outcome
from volvox.store import Store

TOLD, CANCELLED = "batch-told", "batch-cancelled"
_FIRST_PAUSE_SECONDS = 1.0
_SHARE = 0.01  # of the time that has passed: an hour's run tells every half minute, in some hundred pieces

_NOTHING = asdict(Outcome(""))


@dataclass(frozen=True, slots=True)
class Told:
    """How far a run is.

    Attributes:
        pieces: Digests of the objects with outcomes, in order.
        done: How many outcomes there are.
    """

    pieces: tuple[str, ...] = ()
    done: int = 0


class Telling:
    """The outcomes of one list, as the run that answers it tells them."""

    def __init__(self, store: Store, listing: str, total: int) -> None:
        """Go on after what an earlier run told."""
        self._store, self._listing, self._total = store, listing, total
        before = told(store, listing)
        self.begun_before = before is not None
        self._pieces: list[str] = [*(before.pieces if before else ())]
        self.known = {one.job: one for one in read(store, self._pieces)}
        self._new: list[Outcome] = []
        self._done = len(self.known)
        self._lock = threading.Lock()
        self._began = self._last = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Another outcome; a job has one."""
        if outcome.job not in self.known:
            self.known[outcome.job] = outcome
            self._new.append(outcome)

    @property
    def due(self) -> bool:
        """Whether it is time to tell again."""
        now = time.monotonic()
        return bool(self._new) and now - self._last >= max(_FIRST_PAUSE_SECONDS, _SHARE * (now - self._began))

    def tell(self) -> None:
        """Keep what is new; it may be called in a thread, while outcomes are added.

        Raises:
            Unavailable: If the store does not answer; nothing is lost, and the next time tells it.
        """
        with self._lock:
            new = [*self._new]
            pieces = [*self._pieces, *([_keep(self._store, new)] if new else [])]
            done = self._done + len(new)
            self._store.put_record(TOLD, self._listing, {"pieces": pieces, "done": done, "total": self._total})
            self._pieces, self._done, self._last = pieces, done, time.monotonic()
            del self._new[: len(new)]

    def whole(self) -> str:
        """Keep all outcomes as one object; its digest."""
        return _keep(self._store, self.known.values())

    def cancelled(self) -> set[str]:
        """Jobs that nobody wants any more."""
        return {str(one) for one in (self._store.record(CANCELLED, self._listing) or {}).get("jobs", [])}


def told(store: Store, listing: str) -> Told | None:
    """How far the run of a list is; None if it has not begun."""
    found = store.record(TOLD, listing)
    return None if found is None else Told(tuple(found["pieces"]), int(found["done"]))


def read(store: Store, pieces: Iterable[str]) -> Iterator[Outcome]:
    """The outcomes in pieces."""
    for digest in pieces:
        for one in json.loads(store.path(digest).read_bytes()):
            yield _outcome(one)


def pass_over(store: Store, listing: str, jobs: Iterable[str]) -> None:
    """Have the run of a list begin none of these jobs; what it is at, it finishes."""
    before = (store.record(CANCELLED, listing) or {}).get("jobs", [])
    store.put_record(CANCELLED, listing, {"jobs": sorted({*before, *jobs})})


def _keep(store: Store, outcomes: Iterable[Outcome]) -> str:
    told = [{name: value for name, value in asdict(one).items() if value != _NOTHING[name]} for one in outcomes]
    return store.put_bytes(canonical_json(told))


def _outcome(told: dict[str, Any]) -> Outcome:
    known = {name: value for name, value in told.items() if name in _NOTHING}
    return Outcome(**{**known, "outputs": tuple(known.get("outputs", ())), "notes": tuple(known.get("notes", ()))})
