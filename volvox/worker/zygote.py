"""A process that has libraries imported and is forked: `python bootstrap.py zygote --socket FD --libraries FILE`.

A process that is forked from it holds a model module in the time that the module itself and its weights take. It has
no module and no weights, starts no thread, and refuses to be used where a library did: a thread that held a lock when
the process was forked would never let go of it in the new one.

Both sides send JSON over a socket that keeps messages apart:

* Once, from here: `{"ready": PID, "missing": [names that cannot be imported], "folders": {FOLDER: time of change}}`,
  or `{"unsafe": REASON, "blame": [libraries that did it]}` and the end: without these it may be safe. When a
  distribution is installed or removed, its folder gets another time.
* To here: `{"loop": [arguments of volvox.worker.loop], "environment": {}}` with three descriptors: the socket and the
  page of memory of that loop, and the file that gets what it prints. Answered, in order, by `{"forked": PID}`.
* From here, when such a process has ended: `{"ended": PID, "code": N}`; a signal's number is negative.

When the other side closes, this process ends, and with it every process that was forked from it.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from volvox.worker import finding
from volvox.worker.__main__ import end_with_parent

_LARGEST = 1 << 18


class Forked(Exception):
    """This is the new process; what it shall do is the argument."""


class Zygote:
    """Waits for what to fork, and tells what became of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._children: set[int] = set()

    def run(self) -> None:
        """Until the other side closes.

        Raises:
            Forked: In each process that is forked.
        """
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # with a handler, a child's end is written to the pipe
        signal.set_wakeup_fd(wake)
        while True:
            readable, _, _ = select.select([self._connection, woken], [], [])
            if woken in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                self._tell_ended()
            if self._connection not in readable:
                continue
            message, descriptors = _received(self._connection)
            if not message:
                return
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (woken, wake):
                    os.close(end)
                self._connection.close()
                raise Forked(json.loads(message), descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            self._children.add(pid)
            self._tell({"forked": pid})

    def end(self) -> None:
        """End every process that was forked."""
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _tell_ended(self) -> None:
        for pid in [*self._children]:
            with contextlib.suppress(ChildProcessError):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self._children.discard(pid)
                    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                    self._tell({"ended": pid, "code": code})

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the other side is gone: the next turn ends this one too
            self._connection.send(json.dumps(message).encode())


def main(arguments: list[str] | None = None) -> int:
    """Import the libraries, fork when asked to; the exit code."""
    parser = argparse.ArgumentParser(prog="volvox.worker.zygote")
    parser.add_argument("--socket", required=True, type=int)
    parser.add_argument("--libraries", required=True, type=Path)
    parser.add_argument("--parent", type=int, default=0)
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    if asked.parent:
        end_with_parent(asked.parent)
    connection = socket.socket(fileno=asked.socket)
    folders = {
        folder: os.stat(folder).st_mtime_ns  # noqa: PTH116 - before anything of them is imported
        for folder in sys.path
        if folder.endswith(("site-packages", "dist-packages")) and os.path.isdir(folder)  # noqa: PTH112
    }
    missing, blamed = preload(json.loads(asked.libraries.read_text()))
    if reason := unsafe():
        connection.send(json.dumps({"unsafe": reason, "blame": blamed}).encode())
        return 1
    gc.collect()
    gc.freeze()  # what is here stays shared with those that are forked
    connection.send(json.dumps({"ready": os.getpid(), "missing": missing[:20], "folders": folders}).encode())
    zygote = Zygote(connection)
    try:
        zygote.run()
    except Forked as forked:
        message, descriptors = forked.args
    else:
        zygote.end()
        return 0
    return _loop(message, descriptors)


def preload(names: list[str]) -> tuple[list[str], list[str]]:
    """Import modules; the names of those that cannot be, and the packages whose import started a thread that stays."""
    from volvox.worker import loop  # noqa: F401 - what every worker needs

    missing, blamed = [], []
    threads = staying = _threads()
    for name in names:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except (Exception, SystemExit):
                missing.append(name)
            if (now := _threads()) > threads:
                threads = _staying_threads()
                if threads > staying:
                    blamed.append(name.partition(".")[0])
                staying = threads
            else:
                threads = now
    return missing, blamed


def unsafe() -> str:
    """Why this process must not be forked; empty if it may."""
    if threading.active_count() > 1:
        return f"importing its libraries started {threading.active_count() - 1} threads of Python"
    if (threads := _staying_threads()) > 1:
        return f"importing its libraries started {threads - 1} threads"
    torch = sys.modules.get("torch")
    if torch is not None and getattr(torch, "cuda", None) is not None and torch.cuda.is_initialized():
        return "importing its libraries took hold of a GPU"
    return ""


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - Python 3.8 reads this


def _staying_threads() -> int:
    """Threads that are there after a fork; libraries that know of forking end theirs before one."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return _threads()


def _loop(message: dict[str, Any], descriptors: list[int]) -> int:
    """Become a worker: as if `volvox.worker.loop` had just been started with these arguments."""
    from volvox.worker import loop

    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection, page, log = descriptors
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for descriptor in (nothing, log):
        os.close(descriptor)
    os.environ.update(message["environment"])
    _reseed()
    arguments = [*message["loop"], "--socket", str(connection), "--control", str(page), "--parent", str(os.getppid())]
    if hidden := _hidden(arguments):
        print(f"{hidden} would hide what the module brings itself", file=sys.stderr, flush=True)
        return 1
    sys.argv = [sys.argv[0], "loop", *arguments]
    return loop.main(arguments)


def _hidden(arguments: list[str]) -> str:
    """A library that is imported already, and that the module's own folder has one of the same name of; or empty."""
    place = finding.parse(arguments[arguments.index("--module") + 1])
    for folder in place.folders[:1]:
        with contextlib.suppress(OSError):
            brought = {name.partition(".")[0] for name in os.listdir(folder)}  # noqa: PTH208
            for name in [*sys.modules]:
                if "." not in name and name in brought and name not in sys.builtin_module_names and name != "__main__":
                    file = str(getattr(sys.modules[name], "__file__", None) or "")
                    if file and not file.startswith(folder):
                        return f"the library {name} that is imported already"
    return ""


def _reseed() -> None:
    """Random numbers of NumPy would be the same in all that are forked; those of Python see to that themselves."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        with contextlib.suppress(Exception):
            random.seed()


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One message and its descriptors; `socket.recv_fds` is newer than Python 3.8."""
    descriptors = array.array("i")
    room = socket.CMSG_LEN(3 * descriptors.itemsize)
    message, ancillary, _, _ = connection.recvmsg(_LARGEST, room)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, [*descriptors]


if __name__ == "__main__":
    sys.exit(main())
