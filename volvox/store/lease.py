"""Locks in a bucket: a lease is a small object that its holder writes anew every few seconds.

It is taken by a conditional write: created only if it is not there, or overwritten only if it is still what was read.
Clocks of machines need not agree. Who wants a lease that another holds looks at it again and again; it is taken over
when it has not changed for `LAPSE_SECONDS` of the watcher's own time. The holder, who must write it for that, knows
sooner that it is lost: when it could not for `LOST_SECONDS` of its own time, counted from before its last write.

A server that ignores conditions is found out by asking it. There, who takes a lease writes it, waits for
`SETTLE_SECONDS`, and has it if it still stands there. That fails if two take it at once and the write of one is under
way for longer; then both do the same work, which costs time but harms nothing: objects are named by their content, and
equal keys give equal records.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from volvox.buckets import ONCE, Bucket, Unsupported
from volvox.errors import Unavailable, VolvoxError
from volvox.store.interface import Lock

_LOG = logging.getLogger(__name__)

RENEW_SECONDS = 5.0
LOST_SECONDS = 20.0
LAPSE_SECONDS = 30.0
SETTLE_SECONDS = 2.0
_LOOK_SECONDS = (0.2, 2.0)  # from the first look again to the last
_PROBE = "locks/.probe"
_NO_ETAG = '"00000000000000000000000000000000"'

_probing = threading.Lock()
_conditional: dict[tuple[str, str], bool] = {}  # of address and server, for the time of this process


@dataclass(frozen=True)
class Times:
    """How long things take that leases are about; tests have less of it."""

    renew: float = RENEW_SECONDS
    lost: float = LOST_SECONDS
    lapse: float = LAPSE_SECONDS
    settle: float = SETTLE_SECONDS


@dataclass
class _Watched:
    """A lease of another: since when it stands there as it is, and when to look again, in `_now()`."""

    etag: str
    since: float
    again: float


class Leases:
    """The leases of one store, as this process sees them."""

    def __init__(self, bucket: Bucket, times: Times | None = None) -> None:
        self._bucket = bucket
        self._times = times or Times()
        self._watched: dict[str, _Watched] = {}
        self._mutex = threading.Lock()

    def take(self, name: str) -> Lease | None:
        """The lease `name`, or None where another holds it, or it is not yet time to look at it again.

        Raises:
            InvalidInput: If the bucket is not there, or refuses.
            Unavailable: If the server does not answer.
        """
        with self._mutex:
            watched = self._watched.get(name)
            if watched and _now() < watched.again:
                return None
        found = self._bucket.get(name)
        etag = ""
        if found is not None:
            etag = found[1]
            holder, lapse = _read(found[0])
            if holder and not self._lapsed(name, etag, lapse):
                return None
        lease = Lease(self._bucket, name, self._times, conditional=self.conditional)
        if not lease.taken(etag):
            return None
        with self._mutex:
            self._watched.pop(name, None)
        return lease

    def _lapsed(self, name: str, etag: str, seconds: float) -> bool:
        now = _now()
        with self._mutex:
            watched = self._watched.get(name)
            if watched is None or watched.etag != etag:
                watched = self._watched[name] = _Watched(etag, now, now)
            waited = now - watched.since
            least, most = _LOOK_SECONDS
            watched.again = now + min(most, least + waited / 10)
            return waited >= seconds

    @property
    def conditional(self) -> bool:
        """Whether the server heeds conditions; it is asked once."""
        key = (self._bucket.address, self._bucket.server)
        with _probing:
            if key not in _conditional:
                _conditional[key] = self._probed()
                if not _conditional[key]:
                    _LOG.warning(
                        "%s ignores conditional writes, so that two runs which start the same work at one moment may "
                        "both do it (%s); results stay right",
                        self._bucket.server,
                        self._bucket.address,
                    )
            return _conditional[key]

    def _probed(self) -> bool:
        for tries_left in (2, 1, 0):
            try:
                return self._heeds_conditions()
            except Unavailable:  # Ceph answers 500 where two write at one moment
                if not tries_left:
                    raise
                time.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - so that those two part
        raise AssertionError

    def _heeds_conditions(self) -> bool:
        try:
            made = self._bucket.put_if(_PROBE, b"{}")
            if made is not None:  # it was not there; now it is
                made = self._bucket.put_if(_PROBE, b"{}")
            if made is not None or self._bucket.put_if(_PROBE, b"{}", _NO_ETAG) is not None:
                return False
            found = self._bucket.get(_PROBE)
            return found is not None and self._bucket.put_if(_PROBE, b"{}", found[1]) is not None
        except Unsupported:
            return False


class Lease(Lock):
    """One lease; once taken, it is renewed by a thread until it is closed or lost."""

    def __init__(self, bucket: Bucket, name: str, times: Times, *, conditional: bool) -> None:
        self.name = name
        self._bucket = bucket
        self._times = times
        self._conditional = conditional
        self._holder = uuid.uuid4().hex
        self._count = 0
        self._etag = ""
        self._renewed = 0.0
        self._lost = ""
        self._calls: list[Callable[[], object]] = []
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def taken(self, etag: str) -> bool:
        """Take it where it is still what `etag` says; whether that went well."""
        self._etag = etag
        before = _now()
        try:
            written = self._write() if self._conditional else self._written_weakly()
        except (
            Unavailable
        ):  # perhaps only the answer was lost, and it is ours; or Ceph's, where two write at one moment
            written = self._write() if self._conditional else self._written_weakly()
        if not written:
            return False
        self._renewed = before
        self._thread.start()
        return True

    @property
    def lost(self) -> str:
        """Why it is lost; empty while it is held."""
        if not self._lost and not self._ended.is_set() and _now() - self._renewed > self._times.lost:
            self._lose("the store did not answer for too long")
        return self._lost

    def when_lost(self, call: Callable[[], object]) -> None:
        """Have `call` called once it is lost."""
        with self._mutex:
            if not self._lost:
                self._calls.append(call)
                return
        call()

    def close(self) -> None:
        """Let go: others find it free at once, or lapsed where the store does not answer now."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        if not self._lost:
            try:
                self._release()
            except VolvoxError as error:
                _LOG.warning("a lease was not given back, and lapses: %s", error)

    def _keep(self) -> None:
        wait = self._times.renew
        while not self._ended.wait(wait):
            before = _now()
            try:
                mine = self._write() if self._conditional else self._is_mine() and self._write()
            except VolvoxError:
                mine = None  # not known; asked again until time is up
            if mine:
                self._renewed, wait = before, self._times.renew
            elif mine is None and _now() - self._renewed <= self._times.lost:
                wait = self._times.renew / 5
            else:
                self._lose("the store did not answer for too long" if mine is None else "another run has taken it")
                return

    def _lose(self, why: str) -> None:
        with self._mutex:
            if self._lost:
                return
            self._lost = f"the lock {self.name} of {self._bucket.address} was lost: {why}; run the same command again"
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def _write(self) -> bool:
        """Write it anew if it is still ours, or free to be taken; whether it was."""
        self._count += 1
        data = _content(self._holder, self._count, self._times.lapse)
        if not self._conditional:
            self._bucket.put(self.name, data, ONCE)
            return True
        etag = self._bucket.put_if(self.name, data, self._etag)
        if etag is None:  # another was quicker, or it was us and the answer did not come through
            found = self._bucket.get(self.name, ONCE)
            if found is None or _read(found[0])[0] != self._holder:
                return False
            etag = found[1]
        self._etag = etag
        return True

    def _written_weakly(self) -> bool:
        self._write()
        time.sleep(self._times.settle)
        return self._is_mine()

    def _is_mine(self) -> bool:
        found = self._bucket.get(self.name, ONCE)
        return found is not None and _read(found[0])[0] == self._holder

    def _release(self) -> None:
        free = _content("", self._count, self._times.lapse)
        if self._conditional:
            self._bucket.put_if(self.name, free, self._etag)
        elif self._is_mine():
            self._bucket.put(self.name, free, ONCE)


def _content(holder: str, count: int, lapse: float) -> bytes:
    return json.dumps({"holder": holder, "count": count, "lapse_seconds": lapse}).encode()


def _read(data: bytes) -> tuple[str, float]:
    """Holder (empty: it is free), and after how many seconds without a change it lapses."""
    try:
        found = json.loads(data)
        return str(found["holder"]), float(found["lapse_seconds"])
    except (ValueError, KeyError, TypeError):  # not ours, or of another release: waited for as for any other
        return "unknown", LAPSE_SECONDS


def _now() -> float:
    """Seconds that go on while the machine sleeps: then a lease is lost, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
