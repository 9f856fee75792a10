"""A made-up cloud: a program whose nodes are processes that really run, and that notes what it was asked.

FOLDER/asked            a line for each thing it was asked to do: `start a-1`
FOLDER/NAME.pid         the process that is the node
FOLDER/NAME.on          the node is on; until then it boots
FOLDER/NAME.work        how many instances are on it
FOLDER/breaks           what it says, with exit code 3, instead of doing anything
FOLDER/never            no node comes, though it says that one will
FOLDER/kills            whoever asks for a node is killed when it has been started
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

PROGRAM = """#!/usr/bin/env python3
import os, signal, subprocess, sys
from pathlib import Path

folder, word, *rest = Path(sys.argv[1]), *sys.argv[2:]

def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

def read(name, otherwise=""):
    path = folder / name
    return path.read_text().strip() if path.exists() else otherwise

if said := read("breaks"):
    sys.exit(print(said, file=sys.stderr) or 3)
if word == "list":
    for path in sorted(folder.glob("*.pid")):
        name = path.stem
        if alive(path.read_text()):
            print(name, "on" if (folder / f"{name}.on").exists() else "booting", read(f"{name}.work", "0"))
    sys.exit()
with (folder / "asked").open("a") as stream:
    stream.write(f"{word} {rest[0]}\\n")
name = rest[0]
pid = read(f"{name}.pid")
if word == "start" and not (folder / "never").exists() and not (pid and alive(pid)):
    nothing = subprocess.DEVNULL
    made = subprocess.Popen(["sleep", "3600"], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    (folder / f"{name}.pid").write_text(str(made.pid))
    with (folder / "made").open("a") as stream:
        stream.write(f"{made.pid}\\n")
if word == "stop" and pid and alive(pid):
    os.kill(int(pid), signal.SIGKILL)
    for suffix in ("pid", "on", "work"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)
if word == "start" and (folder / "kills").exists():
    (folder / "kills").unlink()
    os.kill(os.getppid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class MadeUp:
    """The cloud, seen from outside.

    Attributes:
        folder: Where it keeps everything.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> MadeUp:
        """A new one."""
        folder.mkdir(parents=True)
        (folder / "cloud.py").write_text(PROGRAM)
        return cls(folder)

    def words(self, word: str) -> list[str]:
        """The command for `list`, `start` or `stop`."""
        return [sys.executable, str(self.folder / "cloud.py"), str(self.folder), word]

    def file(self, **more: object) -> str:
        """The file of a node group that is of this cloud."""
        told = {"runtime": "local", "look_seconds": 0.1, **more}
        commands = {"list": self.words("list"), "start": self.words("start"), "stop": self.words("stop"), "seconds": 5}
        return yaml.safe_dump({**told, "command": commands})

    def asked(self) -> list[str]:
        """What it was asked to do, in order."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def running(self) -> list[int]:
        """The processes that run as nodes."""
        path = self.folder / "made"
        made = path.read_text().split() if path.exists() else []
        return [int(pid) for pid in made if _is_sleeping(int(pid))]

    def comes(self, *names: str) -> None:
        """These nodes have booted."""
        for name in names:
            (self.folder / f"{name}.on").touch()

    def works(self, name: str, count: int) -> None:
        """So many instances are on a node."""
        (self.folder / f"{name}.work").write_text(str(count))

    def becomes(self, what: str, said: str = "") -> None:
        """It breaks, or no node comes, or who asks is killed."""
        (self.folder / what).write_text(said)

    def heals(self, what: str) -> None:
        """That is over."""
        (self.folder / what).unlink()

    def end(self) -> None:
        """End every node."""
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)


def _is_sleeping(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    return state != "Z" and (not command or "sleep\x003600" in command)  # it has none in the moment it begins
