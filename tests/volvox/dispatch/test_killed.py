"""Every uploaded file is answered exactly once, whatever is lost, doubled, shuffled or killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.volvox.dispatch.conftest import Site
from tests.volvox.runtimes.tiny import write_tiny
from volvox.inbox import ENDED, Arrival, open_inbox

ROOT = Path(__file__).parents[3]


class Killable:
    """A dispatcher's process that is started again after each kill."""

    def __init__(self, site: Site, tmp_path: Path) -> None:
        modules = write_tiny(tmp_path / "site")
        path = os.pathsep.join(filter(None, [str(modules), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self._environment = {**os.environ, "PYTHONPATH": path, "VOLVOX_SWEEP_SECONDS": "2"}
        self._arguments = [str(one) for one in (site.home.root, site.source, site.target, tmp_path / "models")]
        self._log = (tmp_path / "log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.volvox.dispatch.process", *self._arguments],
            env=self._environment, stdout=subprocess.PIPE, stderr=self._log, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self.start()

    def memory_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(60) == 0
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._log.close()


@contextmanager
def running(site: Site, tmp_path: Path) -> Iterator[Killable]:
    killable = Killable(site, tmp_path)
    try:
        yield killable
    finally:
        killable.end()


class Watched(threading.Thread):
    """Looks at the outputs all the time: one that is another file later was written twice."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._end = folder, threading.Event()
        self.seen: dict[str, int] = {}
        self.twice: list[str] = []

    def run(self) -> None:
        while not self._end.wait(0.5):
            for entry in os.scandir(self._folder):
                if self.seen.setdefault(entry.name, entry.inode()) != entry.inode():
                    self.twice.append(entry.name)

    def end(self) -> None:
        self._end.set()
        self.join(30)


def dropped(site: Site, staging: Path, count: int) -> list[str]:
    """Put the files there; the names that somebody tells of: 5 % are lost and 5 % doubled, in another order."""
    chance = random.Random(7)
    staging.mkdir()
    names = [f"{number:05}.txt" for number in range(count)]
    for name in names:
        (staging / name).write_text(f"fine {name}")
        (staging / name).rename(site.source / name)
    told = [name for name in names if chance.random() >= 0.05]
    told += [name for name in told if chance.random() < 0.05]
    chance.shuffle(told)
    return told


@pytest.mark.parametrize(
    ("count", "kills", "seconds"), [(300, 2, 100.0), pytest.param(10_000, 5, 900.0, marks=pytest.mark.soak)]
)
@pytest.mark.timeout(1200)
def test_every_file_is_answered_once_though_the_dispatcher_is_killed(
    site: Site, tmp_path: Path, count: int, kills: int, seconds: float
) -> None:
    watched = Watched(site.target)
    watched.start()
    inbox = open_inbox(site.home)
    killed, memory = 0, []
    try:
        with running(site, tmp_path) as dispatcher:
            began = time.monotonic()
            told = dropped(site, tmp_path / "staging", count)
            for start in range(0, len(told), 50):
                some = told[start : start + 50]
                inbox.record([Arrival(f"file://{site.source}", name, source="webhook") for name in some])
            while (done := inbox.counts().get("f", {}).get("SUCCEEDED", 0)) < count:
                assert not inbox.jobs(states=["FAILED"], limit=3)
                assert time.monotonic() - began < seconds, f"{done} of {count} after {seconds} s"
                memory.append(dispatcher.memory_mb())
                if killed < kills and done >= (killed + 1) * count / (kills + 2):
                    dispatcher.kill()
                    killed += 1
                time.sleep(0.1)
            took = time.monotonic() - began
        speed = f"{count} files in {took:.1f} s, {count / took:.0f} a second"
        print(f"{speed}; killed {killed} times; memory {min(memory):.0f} to {max(memory):.0f} MB")
        jobs = inbox.jobs(limit=2 * count)
        assert killed == kills
        assert len(jobs) == count
        assert all(job.state in ENDED for job in jobs)
        assert {path.name for path in site.target.iterdir()} == {f"{job.key}.{job.id[:8]}.json" for job in jobs}
        assert max(memory) < 1.5 * min(memory) + 50, "memory does not grow with the files"
    finally:
        watched.end()
        inbox.close()
    assert not watched.twice
