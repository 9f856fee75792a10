"""What happens to a job, live, as server-sent events: `log`, `progress` and `state`.

Every event's id says how much of each of the three was told with it, `<bytes of the log>-<bytes of the progress>-
<number of the state>`, all of which are on disk: a client that comes back with Last-Event-ID misses nothing and gets
nothing twice, also after a restart of the server.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from volvox.errors import VolvoxError
from volvox.serving import job_files
from volvox.serving.job_store import FINISHED, Change, Store
from volvox.serving.jobs import Jobs

_LOOK_SECONDS = 0.2
_QUIET_SECONDS = 10.0  # proxies close a connection on which nothing comes
_PIECE = 1 << 16
_ID = re.compile(r"(\d{1,15})-(\d{1,15})-(\d{1,15})")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r(?!\Z))")  # a progress bar ends its lines with a carriage return


class Follower:
    """One client's reading of one job."""

    def __init__(self, jobs: Jobs, uuid: str, last: str) -> None:
        """Go on after the event with the id `last`; from the beginning if that is none."""
        self._jobs, self._uuid = jobs, uuid
        found = _ID.fullmatch(last)
        self._log, self._progress, self._state = (int(told) for told in found.groups()) if found else (0, 0, 0)

    async def at_end(self) -> bool:
        """Whether the client was told everything, and nothing will come any more."""
        job = await self._jobs.get(self._uuid)
        return job.state in FINISHED and not await self._jobs.ask(Store.changes, self._uuid, self._state)

    async def events(self) -> AsyncIterator[bytes]:
        """The events until the job has finished or is removed, or the server ends."""
        quiet = 0.0
        while not self._jobs.services.ending:
            try:
                await self._jobs.get(self._uuid)
            except VolvoxError:
                return
            # Asked for before the files are read: what was written until the job finished is told before its end.
            changes = await self._jobs.ask(Store.changes, self._uuid, self._state)
            last = changes.pop() if changes and changes[-1].state in FINISHED else None
            quiet += _LOOK_SECONDS
            for events in (self._changes(changes), self._lines(last is not None), self._steps()):
                for event in events:
                    yield event
                    quiet = 0.0
            if last is not None:
                yield b"".join(self._changes([last]))
                return
            if quiet >= _QUIET_SECONDS:
                yield b": still here\n\n"
                quiet = 0.0
            await asyncio.sleep(_LOOK_SECONDS)

    def _changes(self, changes: list[Change]) -> Iterator[bytes]:
        for change in changes:
            self._state = change.number
            told = {"state": change.state, "time": change.time, "reason": change.reason}
            yield self._event("state", json.dumps(told, ensure_ascii=False))

    def _lines(self, finished: bool) -> Iterator[bytes]:
        path = self._jobs.files.log(self._uuid)
        while piece := _read(path, self._log):
            told = b""
            at = 0
            for found in _LINE.finditer(piece):
                at = found.end()
                line = found.group()
                self._log += len(line)
                if line != b"\r":
                    told += self._event("log", line.rstrip(b"\r\n").decode(errors="replace"))
            if not at:
                if not finished and len(piece) < _PIECE:  # the line goes on
                    return
                self._log += len(piece)
                told = self._event("log", re.sub(r"[\r\n]", "", piece.decode(errors="replace")))
            if told:
                yield told

    def _steps(self) -> Iterator[bytes]:
        path = self._jobs.files.progress_file(self._uuid)
        if path.exists() and path.stat().st_size < self._progress:
            self._progress = 0  # a training that began anew
        while lines := _read(path, self._progress).split(b"\n")[:-1]:
            told = b""
            for line in lines:
                self._progress += len(line) + 1
                if (step := job_files.step(line)) is not None:
                    told += self._event("progress", json.dumps(step, ensure_ascii=False))
            if told:
                yield told

    def _event(self, kind: str, data: str) -> bytes:
        number = f"{self._log}-{self._progress}-{self._state}"
        return f"id: {number}\nevent: {kind}\ndata: {data}\n\n".encode()


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(_PIECE)
    except OSError:
        return b""
