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
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
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

    def begin(self, spares: Spares | None = None) -> None:
        """Make it empty; what an earlier attempt left is removed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if spares is None or not spares.take(self.folder):
            (self.folder / "in").mkdir(parents=True)
            self.output.mkdir()

    def answered(self, told: dict[str, Any]) -> None:
        """Note that what lies in `output` is the whole answer.

        It outlives this process. Nothing is waited for until it is on the disk, so of an answer from before the machine
        went down nobody knows how much is there: it counts no more, and the job is begun again.
        """
        temporary = self.folder / ".done"
        temporary.write_text(json.dumps({**told, "boot": _boot()}))
        temporary.replace(self.folder / "done.json")

    def answer(self) -> dict[str, Any] | None:
        """What `answered` noted since the machine was started, or None."""
        try:
            told = json.loads((self.folder / "done.json").read_bytes())
        except (OSError, ValueError):
            return None
        return told if told.get("boot") == _boot() else None

    def files(self) -> list[tuple[str, Path]]:
        """What was written: path below `output`, and the file. Links and what is no file are left out."""
        found: list[Path] = []
        for place, _, names in os.walk(self.output):
            found += [path for name in names if (path := Path(place, name)).is_file() and not path.is_symlink()]
        return [(path.relative_to(self.output).as_posix(), path) for path in sorted(found)]

    def end(self, spares: Spares | None = None) -> None:
        """Remove the folder, or put it to the `spares`; the log stays."""
        if spares is None or not spares.keep(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)


class Spares:
    """Folders of jobs that have ended, emptied, for those that follow.

    Before ext4 gives an inode away it looks at each one that was freed in the last seconds: where three folders are
    made and removed for each of a hundred jobs a second, that is half of all that the machine does.
    """

    def __init__(self, home: Home) -> None:
        """Have none; what an earlier dispatcher had is removed."""
        self._place = home.root / "dispatch" / "jobs" / ".spare"
        self._names: deque[str] = deque()
        shutil.rmtree(self._place, ignore_errors=True)

    def take(self, folder: Path) -> bool:
        """Let `folder` be one of them; False if there is none."""
        try:
            (self._place / self._names.popleft()).rename(folder)
        except (IndexError, OSError):
            return False
        return True

    def keep(self, folder: Path) -> bool:
        """Empty `folder` and keep it; False if there is more in it than files."""
        try:
            for place in (folder, folder / "in", folder / "out"):
                with os.scandir(place) as entries:
                    for one in entries:
                        if place != folder or one.name not in ("in", "out"):
                            Path(one.path).unlink()
            self._place.mkdir(parents=True, exist_ok=True)
            folder.rename(self._place / folder.name)
        except OSError:
            return False
        self._names.append(folder.name)
        return True


@cache
def _boot() -> str:
    """What tells this start of the machine from those before; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


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
