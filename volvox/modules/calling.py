"""Call a function of a model module in a child process, and watch it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from volvox import disks
from volvox.distributed.together import Together
from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable
from volvox.modules import interpreter
from volvox.modules.discovery import Module
from volvox.settings import Home
from volvox.worker.__main__ import result_name

_TAIL = 4000
_GRACE_SECONDS = 3.0
_LAUNCHER = "volvox.distributed: "
PLACES = ("data", "output", "checkpoints", "weights")


class ArgumentsRefused(InvalidInput):
    """The module's own validation refuses the arguments.

    Attributes:
        messages: What it says: `{argument: [message, ...]}`.
    """

    def __init__(self, message: str, messages: Any) -> None:
        super().__init__(message)
        self.messages = messages


class FunctionFailed(ModuleFailed):
    """A function of the module raised an exception.

    Attributes:
        said: What the exception itself says.
    """

    def __init__(self, message: str, trace: str, said: str) -> None:
        super().__init__(message, trace)
        self.said = said


async def call_module(
    module: str,
    function: str,
    arguments: dict[str, Any] | None = None,
    *,
    request: dict[str, Any] | None = None,
    places: dict[str, Path] | None = None,
    environment: dict[str, str] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    log: Path | None = None,
    nice: int = 0,
    python: str = "",
    processes: int = 1,
    together: Together | None = None,
) -> Any:
    """Call `function` of `module` in a process of its own and return its result.

    Args:
        module: The module, a text that `volvox.worker.finding` reads.
        function: One of the module's functions, or `describe`.
        arguments: Raw values by wire name; the module's own fields turn them into keywords.
        request: In place of `arguments`: a request as `volvox.worker.answering` takes it, files by path.
        places: `data`, `output`, `checkpoints`, `weights`: passed where the function names them, and always in the
            environment as `VOLVOX_DATA` and so on.
        environment: More variables for the child.
        on_progress: Gets each line of `progress.jsonl` in the `output` place while the call runs.
        log: File that gets what the module prints.
        nice: How much the process gives way to others, 0 to 19.
        python: The interpreter that the module needs (default: this one).
        processes: How many processes call it together, each told its place among them; the first one's result is it.
        together: Which of several nodes this one is, each of which has so many processes; on all but the first one
            there is no result.

    Raises:
        ArgumentsRefused: If the module refuses the arguments.
        InvalidInput: If `python` is no Python to run it.
        NotFound: If it has no such function.
        FunctionFailed: If it raises.
        ModuleFailed: If its process dies.
        VolvoxError: If it fails because the disk of one of the places is full.
        Unavailable: If the kernel killed it, which is nearly always a lack of memory.

    Of several processes it is the one that failed first that counts.
    """
    places = places or {}
    if python:
        python = (await asyncio.to_thread(interpreter.inspect, python)).path
    with tempfile.TemporaryDirectory(prefix="volvox-call-") as folder:
        result, asked = Path(folder, "result.json"), Path(folder, "request.json")
        asked.write_text(
            json.dumps(
                {
                    "module": module,
                    "function": function,
                    "arguments": arguments or {},
                    "request": request,
                    "nice": nice,
                    "places": {name: str(path) for name, path in places.items()},
                    "result": str(result),
                    "parent": os.getpid(),
                }
            )
        )
        log = log or Path(folder, "log")
        child_environment = {
            **interpreter.environment(python),
            **{f"VOLVOX_{name.upper()}": str(path) for name, path in places.items()},
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        command = interpreter.command(python, "call", str(asked))
        report = Path(folder, "failure.json")
        if processes > 1 or together:
            command = _launched(command, processes, report, together)
        with log.open("ab") as stream:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream,
                env=child_environment, start_new_session=True,
            )  # fmt: skip
            async with _following(places.get("output"), on_progress), _ending(child):
                code = await child.wait()
        failure = _first_failure(report) if code else None
        if together:
            return _outcome_of_node(module, function, together, code, failure, result=result, log=log)
        if failure:
            code = failure["code"]
            result = result.with_name(result_name(failure["rank"])) if failure["rank"] is not None else Path(os.devnull)
        try:
            return _outcome(module, function, result, code, log)
        except ModuleFailed as error:  # torch, for one, says nothing of a disk where it cannot write a file
            if place := next((path for name, path in places.items() if name != "data" and disks.is_full(path)), None):
                raise disks.full(place) from error
            raise


def _launched(command: list[str], processes: int, report: Path, together: Together | None) -> list[str]:
    options = ["--processes", str(processes), "--report", str(report), "--parent", str(os.getpid())]
    options += together.options() if together else []
    return [sys.executable, "-P", "-m", "volvox.distributed.launch", *options, "--", *command]


def _first_failure(report: Path) -> dict[str, Any] | None:
    """What the launcher of several processes says of the one that failed first."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(report.read_text())
    return None


async def describe(module: Module, home: Home) -> dict[str, Any]:
    """What `module` says of its functions and arguments, remembered as long as its code stays the same."""
    kept = home.cache / "descriptions" / f"{module.name}-{module.code}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(kept.read_text())
    told = await call_module(module.name, "describe")
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(told))
    temporary.replace(kept)
    return told


def _outcome(module: str, function: str, result: Path, code: int, log: Path) -> Any:
    try:
        said = json.loads(result.read_text())
    except (OSError, ValueError):
        tail = log.read_text(errors="replace")[-_TAIL:] if log.exists() else ""
        if code == -signal.SIGKILL:
            raise Unavailable(
                f"{function}() of module {module!r} was killed, most likely for lack of memory; "
                "run it again with a smaller batch or on a larger machine"
            ) from None
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise ModuleFailed(f"the process of {function}() of module {module!r} ended with {how}", trace=tail) from None
    if "error" not in said:
        return said["result"]
    error = said["error"]
    if error["kind"] == "refused":
        raise ArgumentsRefused(f"module {module!r} refuses its arguments: {_messages(error)}", error.get("messages"))
    if error["kind"] == "missing":
        raise NotFound(f"module {module!r}: {error['message']}")
    message = f"{function}() of module {module!r} failed: {error['message']}"
    raise FunctionFailed(message, error.get("trace") or "", error.get("said") or error["message"])


def _outcome_of_node(
    module: str,
    function: str,
    together: Together,
    code: int,
    failure: dict[str, Any] | None,
    *,
    result: Path,
    log: Path,
) -> Any:
    """The result on the first node, None on the others; what failed on any of them fails on all.

    Never as what may be tried again: the other nodes are gone by then, and it is for who started them to do so anew.
    """
    if not code:
        return None if together.node else _outcome(module, function, result, code, log)
    tail = log.read_text(errors="replace")[-_TAIL:] if log.exists() else ""
    if failure is None:  # the nodes did not meet; the launcher's last words say why
        said = [line for line in tail.splitlines() if line.startswith(_LAUNCHER)]
        raise ModuleFailed(
            f"{function}() of module {module!r}: {(said or ['?'])[-1].removeprefix(_LAUNCHER)}", trace=tail
        )
    if failure["node"] == together.node and failure["rank"] is not None:
        own = result.with_name(result_name(failure["rank"]))
        if own.exists():
            return _outcome(module, function, own, failure["code"], log)
    where = (
        f"node {failure['node']}" if failure["rank"] is None else f"rank {failure['rank']} on node {failure['node']}"
    )
    raise ModuleFailed(
        f"{function}() of module {module!r}: {where} {failure['message']}; all others were ended", trace=tail
    )


def _messages(error: dict[str, Any]) -> str:
    messages = error.get("messages")
    if not isinstance(messages, dict):
        return str(error["message"])
    return "; ".join(f"{name}: {' '.join(map(str, said)) if isinstance(said, list) else said}"
                     for name, said in sorted(messages.items()))  # fmt: skip


@contextlib.asynccontextmanager
async def _ending(child: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Whatever ends the wait - a result, an error, a cancel, Ctrl-C - ends the child and its own children too."""
    try:
        yield
    finally:
        for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            if child.returncode is not None:
                break
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(child.wait()), patience)


@contextlib.asynccontextmanager
async def _following(output: Path | None, on_progress: Callable[[dict[str, Any]], None] | None) -> AsyncIterator[None]:
    if output is None or on_progress is None:
        yield
        return
    follower = _Follower(output / "progress.jsonl", on_progress)
    task = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        follower.read()


class _Follower:
    """Reads the whole lines that were added to a file since the last look."""

    def __init__(self, path: Path, tell: Callable[[dict[str, Any]], None]) -> None:
        self.path, self.tell, self.position = path, tell, 0

    async def run(self) -> None:
        while True:
            self.read()
            await asyncio.sleep(0.2)

    def read(self) -> None:
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as stream:
            stream.seek(self.position)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self.position += len(line)
                with contextlib.suppress(ValueError):
                    self.tell(json.loads(line))
