"""What is known of the services of one home: a small file each, and a lock so that two starters start one stack.

stack/<name>.json   pid, start of the process, port, address, log, since when
stack/<name>.log    what it printed since its last start; `<name>.log.1` what it printed before that
stack/ports.json    the port each service had last, so that links keep working
stack/token         a secret that local processes share
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from volvox.identity import process_started
from volvox.settings import Home


@dataclass(frozen=True)
class State:
    """A service that was started here, or an address that replaces it.

    Attributes:
        name: Its name, e.g. `prefect`.
        pid: Its process, which leads a session of its own; 0 for an address that the environment gave.
        started: When that process began, in clock ticks since boot: with the pid it names one process for good.
        port: The port it listens on, or 0.
        url: Its address, or empty for a service that listens on nothing.
        log: The file with what it prints.
        since: When it was started, ISO 8601 with a zone.
    """

    name: str
    pid: int
    started: float
    port: int = 0
    url: str = ""
    log: str = ""
    since: str = ""

    @property
    def alive(self) -> bool:
        """Whether this very process runs; an external address counts as alive."""
        return self.pid == 0 or process_started(self.pid) == self.started


def read(home: Home, name: str) -> State | None:
    """What is recorded of service `name`, alive or not; None if nothing or nothing legible is."""
    try:
        return State(**json.loads(_file(home, name).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write(home: Home, state: State) -> None:
    """Record a service; readers see the old record or the new one."""
    _replace(_file(home, state.name), json.dumps(asdict(state), indent=1))


def forget(home: Home, name: str) -> None:
    """Remove the record of service `name`."""
    _file(home, name).unlink(missing_ok=True)


def addresses(home: Home) -> dict[str, str]:
    """Name -> address of every service that runs and listens; an address of the environment goes first."""
    from volvox.stack.services import discover, replacement

    found: dict[str, str] = {}
    for spec in discover():
        state = read(home, spec.name)
        if external := replacement(spec):
            found[spec.name] = external
        elif state is not None and state.alive and state.url:
            found[spec.name] = state.url
    return found


def ended(home: Home, name: str, url: str) -> bool:
    """Whether `url` is where service `name` of this home listened last, and its process is gone."""
    state = read(home, name)
    if state is not None and state.alive:
        return False
    return url == (state.url if state is not None else f"http://127.0.0.1:{last_ports(home).get(name)}")


def last_ports(home: Home) -> dict[str, int]:
    """The port each service had when it was started last."""
    try:
        return {str(name): int(port) for name, port in json.loads((home.stack / "ports.json").read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def remember_port(home: Home, name: str, port: int) -> None:
    """Keep the port of service `name` for its next start."""
    _replace(home.stack / "ports.json", json.dumps({**last_ports(home), name: port}))


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the stack's lock; whoever comes second waits. A killed holder lets go."""
    # Closed on exec, so that no service inherits the lock.
    with (home.stack / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def token(home: Home) -> str:
    """The secret that processes of this home share, made on first use and readable by its owner only."""
    path = home.stack / "token"
    if not path.exists():
        temporary = path.with_name(f".token-{os.getpid()}-{secrets.token_hex(4)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):  # someone was first: theirs counts
            os.link(temporary, path)
        temporary.unlink()
    return path.read_text()


def _file(home: Home, name: str) -> Path:
    return home.root / "stack" / f"{name}.json"


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    temporary.write_text(text)
    temporary.replace(path)
