"""The services of one machine, as data: Prefect, MLflow and the web server. Other rooms bring theirs by entry point."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from volvox.settings import Home
from volvox.stack import prefect_database

GROUP = "volvox.services"
# Names those of PREFECT_API_URL, MLFLOW_TRACKING_URI, ... in the environment that point into this very stack.
LOCAL = "VOLVOX_LOCAL_SERVICES"


_IDLE_SECONDS = 5.0
_SLOW_SECONDS = 10.0  # after which a request that Prefect did not answer is in its log


@dataclass(frozen=True)
class Context:
    """What a service is told when it is started.

    Attributes:
        home: Where it keeps its state.
        port: The port it shall listen on, on 127.0.0.1; 0 for a service that listens on nothing.
        descriptor: File descriptor of the socket that is bound to this port, for a service that takes it over.
        addresses: Name -> address of all services of the stack, running or about to.
    """

    home: Home
    port: int = 0
    descriptor: int = -1
    addresses: dict[str, str] = field(default_factory=dict)


def _nothing(_: Context) -> dict[str, str]:
    return {}


def _always(_: Home) -> bool:
    return True


@dataclass(frozen=True)
class ServiceSpec:
    """How to start a service and how to know that it is ready.

    Attributes:
        name: Its name in commands and files.
        title: What people call it.
        argv: Its command line.
        environment: Variables beyond those every process of the stack gets (see `stack.environment`).
        preferred_port: The port it gets if it is free; None if it listens on nothing.
        takes_socket: Whether it takes over the bound socket, so that callers queue while it starts.
        health_path: Answers 200 as soon as it is ready. A service without a port writes the file that
            `VOLVOX_READY_FILE` names instead.
        start_seconds: How long a start may take on a slow machine.
        after: Services that it needs; it waits for them itself, and is ended before them.
        rests: Whether it starts its work when it is first asked, and marks it with the file `VOLVOX_READY_FILE`.
        replaced_by: The variable whose address replaces it: then it is not started.
        suffix: What that variable's value has beyond the service's address.
        wanted: Whether a home has work for it; it is started by its name all the same.
    """

    name: str
    title: str
    argv: Callable[[Context], list[str]]
    environment: Callable[[Context], dict[str, str]] = _nothing
    preferred_port: int | None = None
    takes_socket: bool = False
    health_path: str = "/"
    start_seconds: float = 120.0
    after: tuple[str, ...] = ()
    rests: bool = False
    replaced_by: str = ""
    suffix: str = ""
    wanted: Callable[[Home], bool] = _always


@cache
def discover() -> tuple[ServiceSpec, ...]:
    """All services that this installation brings, each after those that it needs."""
    from importlib.metadata import distribution

    points = distribution("volvox").entry_points.select(group=GROUP)
    found: dict[str, ServiceSpec] = {spec.name: spec for spec in (point.load() for point in points)}
    order: list[ServiceSpec] = []

    def add(spec: ServiceSpec) -> None:
        for needed in spec.after:
            if needed in found:
                add(found[needed])
        if spec not in order:
            order.append(spec)

    for spec in found.values():
        add(spec)
    return tuple(order)


def replacement(spec: ServiceSpec) -> str:
    """The address that the environment gives in place of this service, or empty."""
    if not spec.replaced_by or spec.name in os.environ.get(LOCAL, "").split(","):
        return ""
    return os.environ.get(spec.replaced_by, "").rstrip("/").removesuffix(spec.suffix)


def python(*arguments: str) -> list[str]:
    """A command line of this interpreter that does not look for modules in the working directory."""
    return [sys.executable, "-P", *arguments]


def asgi(context: Context, *arguments: str) -> list[str]:
    """A command line of `volvox.stack.asgi` on the socket of this context."""
    return python("-m", "volvox.stack.asgi", "--descriptor", str(context.descriptor), *arguments)


def _prefect_argv(context: Context) -> list[str]:
    return asgi(
        context, "--factory", "prefect.server.api.server:create_app",
        "--sockets-pass", "prefect.server.api.server:RequestLimitMiddleware", "--slow-seconds", str(_SLOW_SECONDS),
        "--when-ready", str(prefect_database.marker(context.home)), prefect_database.key(),
    )  # fmt: skip


def _prefect_environment(context: Context) -> dict[str, str]:
    address = context.addresses["prefect"]
    return {
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_UI_API_URL": f"{address}/api",
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(context.port),
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        **prefect_database.environment(context.home),
    }


def _mlflow_argv(context: Context) -> list[str]:
    database = _mlflow_database(context.home)
    return asgi(
        context, "mlflow.server.fastapi_app:app",
        "--prepare", "mlflow.server.handlers:initialize_backend_stores", database, database, "mlflow-artifacts:/",
        # On two cores its start would double the time until Prefect answers, which everything else waits for; and a
        # cycle in which nothing is new never asks for it.
        *(("--after", context.addresses["prefect"] + "/api/health") if "prefect" in context.addresses else ()),
        "--idle-seconds", str(_IDLE_SECONDS), "--when-ready", str(context.home.stack / "mlflow.ready"), "ready",
    )  # fmt: skip


def _mlflow_environment(context: Context) -> dict[str, str]:
    # What `mlflow server` sets for its own worker process. That command starts twelve processes and needs three times
    # as long, most of it for jobs of language model evaluation.
    return {
        "_MLFLOW_SERVER_FILE_STORE": _mlflow_database(context.home),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(context.home.folder("mlflow", "artifacts")),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _mlflow_database(home: Home) -> str:
    return os.environ.get("MLFLOW_BACKEND_STORE_URI") or f"sqlite:///{home.folder('mlflow') / 'mlflow.db'}"


def _web_argv(context: Context) -> list[str]:
    return python("-m", "volvox", "web", "--port", str(context.port), "--descriptor", str(context.descriptor))


prefect = ServiceSpec(
    name="prefect",
    title="Prefect",
    argv=_prefect_argv,
    environment=_prefect_environment,
    preferred_port=4200,
    takes_socket=True,
    health_path="/api/health",
    replaced_by="PREFECT_API_URL",
    suffix="/api",
)
mlflow = ServiceSpec(
    name="mlflow",
    title="MLflow",
    argv=_mlflow_argv,
    environment=_mlflow_environment,
    preferred_port=5500,
    takes_socket=True,
    health_path="/health",
    after=("prefect",),
    rests=True,
    replaced_by="MLFLOW_TRACKING_URI",
)
web = ServiceSpec(
    name="web",
    title="Models and catalogue",
    argv=_web_argv,
    preferred_port=8080,
    takes_socket=True,
    health_path="/health/live",
    start_seconds=60.0,
    replaced_by="VOLVOX_WEB_URL",
)
