"""Folders of the jobs that are under way, and their logs.

    dispatch/jobs/<job>/in/<name>     the object, fetched
    dispatch/jobs/<job>/out/...       what the model or script wrote
    dispatch/jobs/<job>/done.json     it has answered, and this is what it wrote: what remains is to publish it
    dispatch/logs/<job>.log           what it printed
    dispatch/kept/<job>/...           answers of calls, and of a function that has no output place
    dispatch/calls/<id>/<name>        the file of a call, see `volvox.dispatch.calls`

A dispatcher that is killed leaves them; the next one goes on from `done.json`, or begins the job again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from volvox.inbox import Job
from volvox.settings import Home

CALLS = "calls"
_LONGEST_NAME = 200  # bytes; a file's name is 255 at most on every disk, and a suffix may follow


@dataclass(frozen=True, slots=True)
class Work:
    """The folder of one job.

    Attributes:
        folder: Of this job alone.
        log: What it prints goes there.
        kept: Where an answer is kept that has no other place.
    """

    folder: Path
    log: Path
    kept: Path

    @property
    def output(self) -> Path:
        """What the model or script writes."""
        return self.folder / "out"

    def input(self, key: str) -> Path:
        """The file that the object `key` is fetched into, named as the object is."""
        return self.folder / "in" / file_name(key)

    def begin(self) -> None:
        """Make it empty; what an earlier attempt left is removed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "in").mkdir(parents=True)
        self.output.mkdir()

    def answered(self, told: dict[str, Any]) -> None:
        """Note that what lies in `output` is the whole answer."""
        temporary = self.folder / ".done"
        with temporary.open("w") as stream:
            json.dump(told, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.folder / "done.json")

    def answer(self) -> dict[str, Any] | None:
        """What `answered` noted, or None."""
        try:
            return json.loads((self.folder / "done.json").read_bytes())
        except (OSError, ValueError):
            return None

    def files(self) -> list[tuple[str, Path]]:
        """What was written: path below `output`, and the file. Links and what is no file are left out."""
        found = []
        for path in sorted(self.output.rglob("*")):
            if path.is_file() and not path.is_symlink():
                found.append((path.relative_to(self.output).as_posix(), path))
        return found

    def end(self) -> None:
        """Remove the folder; the log stays."""
        shutil.rmtree(self.folder, ignore_errors=True)


def work_of(home: Home, job: str) -> Work:
    """The folders of job `job`."""
    root = home.root / "dispatch"
    return Work(root / "jobs" / job, root / "logs" / f"{job}.log", root / "kept" / job)


def forget(home: Home, jobs: Iterable[Job]) -> None:
    """Remove everything that is kept of these jobs, and the files of those that were called."""
    calls = home.root / "dispatch" / CALLS
    for job in jobs:
        work = work_of(home, job.id)
        work.end()
        work.log.unlink(missing_ok=True)
        shutil.rmtree(work.kept, ignore_errors=True)
        if job.place == f"file://{calls}" and job.inside.strip("/"):
            shutil.rmtree(calls / job.inside.strip("/"), ignore_errors=True)


def file_name(key: str) -> str:
    """The last part of a key as a file's name here: never empty, never hidden, never too long, its suffix kept."""
    name = PurePosixPath(key).name.replace("\0", "_")
    if name in ("", ".", ".."):
        return "object"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    room = _LONGEST_NAME - len(suffix.encode())
    return name.removesuffix(suffix).encode()[:room].decode(errors="ignore") + suffix
