"""Start, find, wait for and end the services of one machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.identity import process_started
from volvox.settings import Home
from volvox.stack import health, processes
from volvox.stack.services import LOCAL, Context, ServiceSpec, discover, replacement
from volvox.stack.state import State, addresses, forget, last_ports, locked, read, remember_port, token, write

_HOST = "127.0.0.1"
_PORTS_TRIED = 50
_LOG_LINES = 8
# A Popen that is forgotten warns that its process still runs, which is what a detached service is for.
_started: list[subprocess.Popen[bytes]] = []

# How this machine's Prefect and MLflow behave, in one place; what the environment says already goes first.
_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # the least that Prefect takes; a dead run is told after 90 s
    "PREFECT_CLIENT_MAX_RETRIES": "8",  # SQLite answers "database is locked" in bursts
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",  # the local server has none
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",  # it is the same installation
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # all is in the run's log in Prefect; errors are told once
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # else each event that a lost server missed is printed whole
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Status:
    """What is true of one service now.

    Attributes:
        name: The service.
        title: What people call it.
        state: `ready`, `starting`, `stopped`, `died`, or `external` where the environment gives an address.
        url: Its address, or empty.
        pid: Its process, or 0.
        since: When it was started, ISO 8601, or empty.
        memory_bytes: Memory of its process and their children.
        log: The file with what it prints, or empty.
    """

    name: str
    title: str
    state: str
    url: str = ""
    pid: int = 0
    since: str = ""
    memory_bytes: int = 0
    log: str = ""


def ensure(
    home: Home,
    names: Iterable[str] | None = None,
    tell: Callable[[str], None] | None = None,
    *,
    local: bool = False,
) -> dict[str, State]:
    """Start the services that are missing and return at once, without waiting until they are ready.

    Args:
        home: Whose stack.
        names: Which services; all of them by default.
        tell: Gets a sentence on whatever a person would want to know, e.g. a port that was taken.
        local: Whether to start a service though the environment gives another address for it.

    Returns:
        A state for each service asked for; pid 0 where the environment gives an address.

    Raises:
        NotFound: If there is no service of such a name.
        InvalidInput: If the home cannot be written.
    """
    home.ensure()
    wanted = [spec for spec in _chosen(names) if names is not None or spec.wanted(home)]
    tell = tell or (lambda _: None)
    with locked(home):
        token(home)  # before the first service asks for it
        found: dict[str, State] = {}
        missing: list[ServiceSpec] = []
        for spec in wanted:
            state = read(home, spec.name)
            if not local and (external := replacement(spec)):
                found[spec.name] = State(spec.name, pid=0, started=0.0, url=external)
            elif state is not None and state.alive:
                found[spec.name] = state
            else:
                missing.append(spec)
        if missing:
            found |= _start_all(home, missing, tell)
    return found


def stop(home: Home, names: Iterable[str] | None = None) -> list[str]:
    """End every process of this home's stack, those that need others first; return the names of what was ended.

    Args:
        home: Whose stack.
        names: Which services; all of them by default.
    """
    if not home.root.is_dir():
        return []
    ended: list[str] = []
    with locked(home):
        left = _chosen(names)
        while left:
            level = [spec for spec in left if not any(spec.name in other.after for other in left)] or left
            ended += _end(home, [spec.name for spec in level])
            left = [spec for spec in left if spec not in level]
        if names is None:
            ended += _end(home, list(processes.marked(home)))  # of services that this installation knows no more
    return ended


def wait_ready(home: Home, name: str, timeout_seconds: float | None = None) -> State:
    """Wait until service `name` answers.

    Raises:
        NotFound: If there is no such service.
        Unavailable: If it was not started, died, or does not answer in time (default: what its kind may need).
    """
    spec = _chosen([name])[0]
    if external := replacement(spec):
        return State(name, pid=0, started=0.0, url=external)
    seconds = timeout_seconds if timeout_seconds is not None else spec.start_seconds
    deadline = time.monotonic() + seconds
    while True:
        state = read(home, name)
        if state is None:
            raise Unavailable(f"{spec.title} is not running; start it with `volvox up`")
        if _ready(home, spec, state):
            return state
        if not state.alive:
            raise Unavailable(f"{spec.title} ended while it started; the end of {state.log}:\n{log_end(state)}")
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{spec.title} does not answer after {seconds:.0f} s; the end of {state.log}:\n{log_end(state)}"
            )
        time.sleep(0.05)


async def wait_ready_async(home: Home, name: str, timeout_seconds: float | None = None) -> State:
    """The same as `wait_ready`, for a coroutine."""
    return await asyncio.to_thread(wait_ready, home, name, timeout_seconds)


def environment(home: Home) -> dict[str, str]:
    """Variables for a process that shall talk to this stack, to be set before it imports Prefect or MLflow."""
    found = {name: os.environ.get(name) or value for name, value in _SETTINGS.items()}
    found |= {"VOLVOX_HOME": str(home.root), "PREFECT_HOME": str(home.folder("prefect"))}
    found |= _without_proxy()
    here = addresses(home)
    for spec in discover():
        if spec.replaced_by and spec.name in here:
            found[spec.replaced_by] = here[spec.name] + spec.suffix
    found[LOCAL] = ",".join(spec.name for spec in discover() if spec.name in here and not replacement(spec))
    return found


def status(home: Home) -> list[Status]:
    """What is true of each service of this home; nothing is started or changed."""
    members = processes.marked(home) if home.root.is_dir() else {}
    found: list[Status] = []
    for spec in discover():
        state = read(home, spec.name)
        if external := replacement(spec):
            found.append(Status(spec.name, spec.title, "external", url=external))
        elif state is None:
            if spec.wanted(home):
                found.append(Status(spec.name, spec.title, "stopped"))
        elif not state.alive:
            found.append(Status(spec.name, spec.title, "died", log=state.log))
        else:
            word = "ready" if _ready(home, spec, state) else "starting"
            memory = processes.memory_bytes(members.get(spec.name, {state.pid: 0.0}))
            found.append(Status(spec.name, spec.title, word, state.url, state.pid, state.since, memory, state.log))
    return found


def wait_marked(home: Home, name: str, timeout_seconds: float) -> None:
    """Wait until service `name` said that it is ready, without asking it, which would start one that rests."""
    spec, deadline = _chosen([name])[0], time.monotonic() + timeout_seconds
    while not (replacement(spec) or _ready_file(home, spec).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)


def reachable(home: Home, name: str, timeout_seconds: float = 0.2) -> bool:
    """Whether service `name` answers now; one that is starting accepts connections but does not answer in time."""
    spec = _chosen([name])[0]
    state = read(home, name)
    if replacement(spec):
        return True
    return state is not None and not resting(home, name) and _ready(home, spec, state, timeout_seconds)


def resting(home: Home, name: str) -> bool:
    """Whether service `name` of this home has not started its work yet and would do so if it were asked."""
    spec = _chosen([name])[0]
    return spec.rests and not replacement(spec) and not _ready_file(home, spec).exists()


def log_end(state: State, lines: int = _LOG_LINES) -> str:
    """The last lines that a service printed."""
    try:
        text = Path(state.log).read_text(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.strip().splitlines()[-lines:]) or "(it printed nothing)"


# -- inside ------------------------------------------------------------------------------------------------------


def _chosen(names: Iterable[str] | None) -> list[ServiceSpec]:
    specs = discover()
    if names is None:
        return list(specs)
    names = list(names)
    known = {spec.name for spec in specs}
    if unknown := [name for name in names if name not in known]:
        raise NotFound(f"there is no service {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return [spec for spec in specs if spec.name in names]


def _start_all(home: Home, specs: list[ServiceSpec], tell: Callable[[str], None]) -> dict[str, State]:
    unrecorded = processes.marked(home)  # of a starter that was killed before it wrote its file
    for spec in specs:
        processes.end(unrecorded.get(spec.name, {}))
        forget(home, spec.name)
    with contextlib.ExitStack() as stack:
        # All sockets are bound first: a service may need the address of one that is started after it.
        sockets = {
            spec.name: stack.enter_context(_bound(home, spec, tell))
            for spec in specs
            if spec.preferred_port is not None
        }
        ports = {name: int(bound.getsockname()[1]) for name, bound in sockets.items()}
        known = addresses(home) | {name: f"http://{_HOST}:{port}" for name, port in ports.items()}
        return {spec.name: _start(home, spec, sockets.get(spec.name), known) for spec in specs}


def _start(home: Home, spec: ServiceSpec, bound: socket.socket | None, known: dict[str, str]) -> State:
    port = int(bound.getsockname()[1]) if bound else 0
    passed = bound.fileno() if bound and spec.takes_socket else -1
    context = Context(home, port=port, descriptor=passed, addresses=known)
    log = home.stack / f"{spec.name}.log"
    ready = _ready_file(home, spec)
    ready.unlink(missing_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    variables = {
        **os.environ,
        **_settings_with(home, known),
        **spec.environment(context),
        **processes.mark(home, spec.name),
        "VOLVOX_READY_FILE": str(ready),
        "PYTHONUNBUFFERED": "1",
    }
    if bound is not None and not spec.takes_socket:
        bound.close()  # it binds the port itself
    with log.open("wb") as stream:
        child = subprocess.Popen(
            spec.argv(context), env=variables, cwd=home.stack, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True, pass_fds=[passed] if passed >= 0 else [],
        )  # fmt: skip
    _started.append(child)
    state = State(
        name=spec.name,
        pid=child.pid,
        started=process_started(child.pid) or 0.0,
        port=port,
        url=known.get(spec.name, ""),
        log=str(log),
        since=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
    )
    write(home, state)
    if port:
        remember_port(home, spec.name, port)
    return state


def _settings_with(home: Home, known: dict[str, str]) -> dict[str, str]:
    """The environment of a process of the stack while the stack is being started."""
    local = [spec for spec in discover() if spec.replaced_by and spec.name in known and not replacement(spec)]
    return {
        **environment(home),
        **{spec.replaced_by: known[spec.name] + spec.suffix for spec in local},
        LOCAL: ",".join(spec.name for spec in local),
    }


def _bound(home: Home, spec: ServiceSpec, tell: Callable[[str], None]) -> socket.socket:
    """A socket that listens on the port of `spec`: the one of its last start, the preferred one, or the next free."""
    preferred = spec.preferred_port or 0
    variable = f"VOLVOX_{spec.name.upper()}_PORT"
    if asked := os.environ.get(variable, ""):
        if not asked.isdecimal() or int(asked) > 65535:
            raise InvalidInput(f"{variable} is {asked!r}; give a port number, or 0 for any free one")
        preferred = int(asked)
    last = last_ports(home).get(spec.name)
    first = last if last and not asked else preferred
    tried = [first] if first == 0 else [first, *range(preferred, min(preferred + _PORTS_TRIED, 65536)), 0]
    for port in tried:
        # asyncio turns Nagle's algorithm off (40 ms an answer) only for sockets that name their protocol.
        candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((_HOST, port))
            candidate.listen(2048)
        except OSError:
            candidate.close()
            continue
        taken = candidate.getsockname()[1]
        if first and taken != first:
            tell(f"port {first} is taken by another program; {spec.title} uses {taken}")
        return candidate
    raise Unavailable(f"no port is free on {_HOST} for {spec.title}; end what uses them or set {variable}")


def _end(home: Home, names: list[str]) -> list[str]:
    members = processes.marked(home)
    recorded = {name: read(home, name) for name in names}
    ending = {name: dict(members.get(name, {})) for name in names}
    for name, state in recorded.items():
        if state is not None and state.alive:
            ending[name][state.pid] = state.started
    processes.end({pid: started for group in ending.values() for pid, started in group.items()})
    late = processes.marked(home)  # children that were born while their parents were being ended
    processes.end({pid: started for name in names for pid, started in late.get(name, {}).items()}, 0.0)
    for child in _started:
        child.poll()
    _started[:] = [child for child in _started if child.returncode is None]
    for name in names:
        forget(home, name)
    return [name for name in names if ending[name]]


def _ready(home: Home, spec: ServiceSpec, state: State, timeout_seconds: float = 2.0) -> bool:
    if not state.alive:
        return False
    if state.url:
        return health.answers(state.url + spec.health_path, timeout_seconds)
    return _ready_file(home, spec).exists()


def _ready_file(home: Home, spec: ServiceSpec) -> Path:
    return home.stack / f"{spec.name}.ready"


def _without_proxy() -> dict[str, str]:
    """A proxy is not asked for this machine's own addresses."""
    kept = [item for item in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if item]
    value = ",".join(dict.fromkeys([*kept, "127.0.0.1", "localhost"]))
    return {"NO_PROXY": value, "no_proxy": value}
