"""What a failure is told as: a sentence, an exit code, and whether a trace would help.

Exit codes: 0 done; 1 a bug, or anything unforeseen; 2 wrong input or a wrong command line; 3 refused by the gate;
4 a service did not answer; 5 a model module failed; 130 stopped by Ctrl-C; 143 ended by SIGTERM.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import click

from volvox.disks import full_behind
from volvox.errors import ModuleFailed, VolvoxError

# What the extra `cycle` brings and the base installation does not.
_CYCLE = frozenset(
    {"prefect", "prefect_aws", "prefect_docker", "prefect_kubernetes", "mlflow", "fastapi", "matplotlib", "numpy"}
    | {"PIL", "sklearn", "obstore", "docker", "markdown", "cyclonedx", "hatchling", "psutil", "pydantic_settings"}
)


@dataclass(frozen=True)
class Failure:
    """How an exception is told.

    Attributes:
        message: One sentence.
        exit_code: The process's exit code.
        word: What goes before the message, or empty.
        traced: Whether `--debug` shows a trace.
        unexpected: Whether nobody foresaw it, so that the trace is what helps.
        trace: A trace from elsewhere: a model module's, say.
    """

    message: str
    exit_code: int
    word: str = "error"
    traced: bool = True
    unexpected: bool = False
    trace: str = ""


def failure_of(error: BaseException) -> Failure:
    """How `error` is told; groups of one are unwrapped, and a full disk is found behind whatever wrapped it."""
    error = _alone(error)
    if isinstance(error, KeyboardInterrupt | click.Abort) or _cancelled(error):
        return Failure("stopped; run the same command again to go on", 130, word="", traced=False)
    if type(error).__name__ == "TerminationSignal":  # what Prefect makes of SIGTERM; it is imported only where needed
        return Failure("ended; run the same command again to go on", 143, word="", traced=False)
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "volvox"
        told = "`volvox" in error.format_message()  # the message says already what to do
        asked = "" if told else f" ({command} --help says how)"
        return Failure(_sentence(error.format_message()) + asked, 2, traced=False)
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), error.exit_code, traced=False)
    if isinstance(error, VolvoxError):
        return Failure(str(error), error.exit_code, trace=error.trace if isinstance(error, ModuleFailed) else "")
    if full := full_behind(error):
        where = f" of {full.filename}" if full.filename else ""
        return Failure(f"the disk{where} is full; free some space, then run the same command again", 1)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _CYCLE:
        return Failure(
            f"this command needs {(error.name or '').partition('.')[0]!r}, which is not installed; "
            "install it with: pip install 'volvox[cycle]'",
            2,
        )
    text = " ".join(str(error).split())
    return Failure(f"{type(error).__name__}: {text}" if text else type(error).__name__, 1, unexpected=True)


def _alone(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _cancelled(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")  # not imported: no coroutine can have been cancelled
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return text[:1].lower() + text[1:] if text[:2].istitle() and not text.isupper() else text
