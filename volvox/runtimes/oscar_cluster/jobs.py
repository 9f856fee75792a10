"""The jobs of a service: which one is of which call, in what state, and what it has printed.

A cluster that is sent an event does not say which job it makes of it. Each call of ours prints its token first, so a
job is known by its log as soon as it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from volvox.errors import NotFound, VolvoxError
from volvox.runtimes.oscar_cluster import program
from volvox.runtimes.oscar_cluster.client import OscarCluster

PENDING = ("Pending", "Suspended")
ENDED = ("Succeeded", "Failed")
_LOOK_SECONDS = 0.4
_UNKNOWN_SECONDS = 1.0  # after so long the log of a job that is not known is read again
_MOST_PAGES = 1000


@dataclass
class Job:
    """A job of the service.

    Attributes:
        name: As the cluster calls it.
        status: `Pending`, `Suspended`, `Running`, `Succeeded`, `Failed`, `Unknown`.
        token: Of the call that it is of; empty: that is not known yet, or it is of none.
        read: When its log was read last, by the monotonic clock.
    """

    name: str
    status: str
    token: str = ""
    read: float = 0.0


class Jobs:
    """Those of one service, looked at together for all calls that wait.

    Attributes:
        said: The last line of the last one that ended and was of no known call.
    """

    def __init__(self, cluster: OscarCluster, service: str) -> None:
        self.said = ""
        self._cluster, self._service = cluster, service
        self._path = f"/system/logs/{quote(service)}"
        self._all: dict[str, Job] = {}
        self._unwanted: set[str] = set()
        self._looked = 0.0
        self._turn = asyncio.Lock()

    async def of(self, token: str) -> Job | None:
        """The job of a call, as it is now; None if none is known to be.

        Raises:
            Unavailable, AccessRefused: As the cluster.
        """
        await self._look()
        return next((job for job in self._all.values() if job.token == token), None)

    @property
    def unknown(self) -> bool:
        """Whether there is one that may be of any call: it has not begun, or has said nothing yet."""
        return any(not job.token and job.status not in ENDED for job in self._all.values())

    async def log(self, job: Job) -> bytes:
        """What a job has printed; empty while there is nothing."""
        try:
            return (await self._cluster.ask("GET", f"{self._path}/{quote(job.name)}")).content
        except NotFound:
            return b""

    async def delete(self, job: Job) -> None:
        """End a job and forget it."""
        await self._cluster.write("DELETE", f"{self._path}/{quote(job.name)}")
        self._all.pop(job.name, None)

    def unwanted(self, token: str) -> None:
        """Delete the job of a call as soon as it is known."""
        self._unwanted.add(token)

    @property
    def cleaning(self) -> bool:
        """Whether jobs are to be deleted that are not known yet."""
        return bool(self._unwanted)

    async def clean(self) -> None:
        """Look once for those that are to be deleted."""
        await self._look()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        async with self._turn:
            if time.monotonic() - self._looked < _LOOK_SECONDS:
                return
            there = {name: str(told.get("status", "")) async for name, told in self._listed()}
            for name in [name for name in self._all if name not in there]:
                del self._all[name]
            for name, status in there.items():
                self._all.setdefault(name, Job(name, status)).status = status
            for job in [*self._all.values()]:
                await self._known(job)
            self._looked = time.monotonic()

    async def _listed(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        page = ""
        for _ in range(_MOST_PAGES):
            told = await self._cluster.get(self._path, {"page": page} if page else None)
            for each in _jobs(told):
                yield each
            page = str(told.get("next_page") or "")
            if not page or not told.get("remaining_jobs"):
                return

    async def _known(self, job: Job) -> None:
        """Find out whose it is, and delete it if nobody wants it any more."""
        now = time.monotonic()
        if not job.token and job.status not in PENDING and now - job.read >= _UNKNOWN_SECONDS and job.read >= 0:
            over, log = job.status in ENDED, await self.log(job)
            job.token = program.token_of(log)
            if over and not job.token:
                lines = log[-2000:].decode(errors="replace").split("\n")
                self.said = next((line.strip() for line in reversed(lines) if line.strip()), "")[-300:]
            job.read = -1.0 if over and not job.token else now  # one that has ended says nothing more
        if job.token and job.token in self._unwanted:
            with contextlib.suppress(VolvoxError):
                await self.delete(job)
                self._unwanted.discard(job.token)


def _jobs(told: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    jobs = told.get("jobs") if isinstance(told, dict) else None
    for name, each in jobs.items() if isinstance(jobs, dict) else ():
        yield str(name), each if isinstance(each, dict) else {}
