"""Run a script on this machine or in this container, watch over it, and say what became of it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from volvox.runner.work import Paths, Work, command_of, prepare, variables

GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.1
_SIZE_SECONDS = 1.0
ANSWER_BYTES = 1 << 20
_LOG_BYTES = 64 << 20
_FULL_BYTES = 256 << 10
_PIECE = 1 << 16
_KEPT = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "SHELL")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass
class Ended:
    """What became of a run; the kinds are those of `volvox.runtimes.interface`.

    Attributes:
        kind: Empty if the script said that it did its work, by exit code 0.
        reason: One sentence; empty if it did.
        exit_code: Of the script; of one that a signal ended 128 and its number; None if it was not started.
        seconds: How long it ran.
        printed: The beginning of what it wrote to standard output.
    """

    kind: str = ""
    reason: str = ""
    exit_code: int | None = None
    seconds: float = 0.0
    printed: str = ""

    def as_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))


class Stopped(Exception):
    """This process was told to end."""


def run(work: Work) -> Ended:
    """Run `work` to its end; no process of it is left when this returns."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return _run(work)
    finally:
        if callable(before):  # whoever called us goes on, and is told what came while the script was being ended
            signal.signal(signal.SIGTERM, before)
            if _late:
                _late.clear()
                os.kill(os.getpid(), signal.SIGTERM)


def _run(work: Work) -> Ended:
    prepare(work)
    paths = Paths.of(work)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the script leaves behind becomes ours to end
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    kept.update({name: value for name, value in os.environ.items() if name.startswith("LC_")})
    environment = {**kept, "TMPDIR": paths.tmp, **variables(work, paths)}
    command, began, before = command_of(work, paths), time.monotonic(), oom_kills()
    with _Log(work.log) as log, open(paths.event, "rb") as event:  # noqa: PTH123 - texts here
        try:
            process = subprocess.Popen(
                command, stdin=event, stdout=subprocess.PIPE, stderr=log.fileno(), env=environment, cwd=work.folder,
                start_new_session=True, preexec_fn=_end_with_parent,  # noqa: PLW1509 - there is one thread here
            )  # fmt: skip
        except OSError as error:
            log.write(f"{command[0]}: {error.strerror}\n".encode())
            return Ended("failed", _cannot_start(command[0], error), 127)
        ended = _Watch(work, process, log).until_its_end()
    ended.seconds = round(time.monotonic() - began, 3)
    if ended.kind == "failed" and oom_kills() > before:
        ended.kind, ended.reason = "memory", "the kernel ended it since there was no memory left"
    elif ended.kind == "failed" and (full := without_space(work)):
        ended.kind, ended.reason = "storage", f"{ended.reason}; the disk of {full} is full"
    return ended


class _Watch:
    """Takes what a process prints, and looks at its time, memory and disk."""

    def __init__(self, work: Work, process: subprocess.Popen[bytes], log: _Log) -> None:
        self._work, self._process, self._log = work, process, log
        self._printed = bytearray()

    def until_its_end(self) -> Ended:
        try:
            kind, reason = self._looked_after()
        except Stopped:
            kind, reason = "cancelled", "it was cancelled"
        finally:
            self._end(self._process.pid)
        self._take_rest()
        code = self._process.returncode
        if code is not None and code < 0:
            code = 128 - code
        if not kind and code:
            kind, reason = "failed", how_it_ended(code, bytes(self._printed), last_line(self._work.log))
        return Ended(kind, reason, code, printed=self._printed.decode(errors="replace"))

    def _looked_after(self) -> tuple[str, str]:
        work, process = self._work, self._process
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        deadline, look_at_size, open_ = time.monotonic() + work.timeout_seconds, time.monotonic() + _SIZE_SECONDS, True
        while process.poll() is None:
            if open_:
                open_ = not self._readable(_LOOK_SECONDS) or self._take()
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
            now = time.monotonic()
            if now > deadline:
                return "timeout", f"it took longer than {work.timeout_seconds:g} s"
            if work.memory_mb and (used := memory_mb_of_all()) > work.memory_mb:
                return "memory", f"it used {used:.0f} MB of memory, more than the {work.memory_mb} MB it may"
            if work.storage_mb and now > look_at_size:
                look_at_size = now + _SIZE_SECONDS
                if (used := size_mb(work.output) + size_mb(work.folder)) > work.storage_mb:
                    return "storage", f"it wrote {used:.0f} MB, more than the {work.storage_mb} MB it may"
        return "", ""

    def _take(self) -> bool:
        """Take what it printed; False once there will be no more."""
        assert self._process.stdout is not None
        try:
            piece = os.read(self._process.stdout.fileno(), _PIECE)
        except BlockingIOError:
            return True
        self._printed += piece[: max(0, ANSWER_BYTES - len(self._printed))]
        self._log.write(piece)
        return bool(piece)

    def _take_rest(self) -> None:
        while self._readable(0) and self._take():
            pass
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _readable(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def _end(self, group: int) -> None:
        """End the process with its group, politely first, and whatever else it started."""
        signal.signal(signal.SIGTERM, _note)  # it is being done
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while self._process.poll() is None and time.monotonic() < deadline:
                if self._readable(_LOOK_SECONDS) and not self._take():
                    time.sleep(_LOOK_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self._process.wait()
        while left := _descendants():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.01)


class _Log:
    """The file that what a script prints is added to, of a bounded size; for its errors it has a descriptor."""

    def __init__(self, path: str) -> None:
        self._stream = open(path or os.devnull, "ab", buffering=0)  # noqa: PTH123, SIM115 - closed by `__exit__`
        self._size = 0

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, piece: bytes) -> None:
        if self._size >= _LOG_BYTES:
            return
        self._size += len(piece)
        with contextlib.suppress(OSError):  # a full disk ends the log, not the script
            self._stream.write(piece)
            if self._size >= _LOG_BYTES:
                self._stream.write(b"\n(what follows is left out: the log is full)\n")

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def how_it_ended(code: int, printed: bytes, last: str) -> str:
    """How a script ended, and the last thing it said; `code` as a shell has it, 128 and the signal's number."""
    said = last or next((line for line in reversed(printed.decode(errors="replace").splitlines()) if line.strip()), "")
    how = f"exit code {code}" if code <= 128 else f"exit code {code} ({_signal_name(code - 128)})"
    return f"the script ended with {how}" + (f"; it said: {said[-300:]}" if said else "")


def last_line(log: str) -> str:
    """The last line that was printed to a log; empty if there is none."""
    if log:
        with contextlib.suppress(OSError), open(log, "rb") as stream:  # noqa: PTH123
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 2000))
            lines = stream.read().decode(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")[-300:]
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _cannot_start(program: str, error: OSError) -> str:
    return f"the script's interpreter {program} cannot be started ({error.strerror})"


def _stop(*_: object) -> None:
    raise Stopped


_late: list[int] = []


def _note(number: int, _: object) -> None:
    _late.append(number)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def without_space(work: Work) -> str:
    """The folder of the work whose disk has nothing left; or empty."""
    for folder in (work.output, work.folder):
        with contextlib.suppress(OSError):
            told = os.statvfs(folder)
            if told.f_bavail * told.f_frsize < _FULL_BYTES or (told.f_files and not told.f_favail):
                return folder
    return ""


def oom_kills() -> int:
    """How many processes of this container the kernel has ended for lack of memory; 0 where nobody counts."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(path).read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return 0


def _descendants() -> list[int]:
    """The processes that this one started, and those that these did."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                with open(f"/proc/{name}/stat") as stream:  # noqa: PTH123
                    fields = stream.read().rpartition(")")[2].split()
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    waiting = list(children.get(os.getpid(), ()))
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def memory_mb_of_all() -> float:
    """What the processes that this one started have in memory, with theirs; pages of several count for each."""
    pages = 0
    for pid in _descendants():
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/statm") as stream:  # noqa: PTH123
            pages += int(stream.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def size_mb(folder: str) -> float:
    """What the files below a folder take of the disk, in MB."""
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118
    return size / (1 << 20)
