"""`volvox serve` and `volvox web`."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option("--module", required=True, help="Entry-point name of the model module.")
@click.option(
    "--weights",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("VOLVOX_WEIGHTS"),
    help="Folder of the version's weights (default: VOLVOX_WEIGHTS).",
)
@click.option("--name", help="The model's name in URLs (default: the module's).")
@click.option("--listen-ip", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--listen-port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--client-max-size", default=0, type=click.IntRange(0), help="Largest request in bytes (0: 256 MiB).")
@click.option(
    "--deadline", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Seconds an answer takes."
)
@click.option("--queue", default=64, show_default=True, type=click.IntRange(1), help="Requests that may wait.")
def serve(
    *,
    module: str,
    weights: Path | None,
    name: str | None,
    listen_ip: str,
    listen_port: int,
    client_max_size: int,
    deadline: float,
    queue: int,
) -> None:
    """Serve one model module behind REST, in the foreground."""
    from pydantic import ValidationError

    from volvox.errors import InvalidInput, UnknownModule
    from volvox.identity import digest_of
    from volvox.modules.discovery import installed
    from volvox.serving.limits import Limits
    from volvox.serving.running import serve_module
    from volvox.serving.served import Deployed

    if module not in (found := installed()):
        raise UnknownModule(module, found)
    limits = Limits(deadline_seconds=deadline, queue=queue, upload_bytes=client_max_size or Limits.upload_bytes)
    try:
        deployed = Deployed(name=name or module, module=module, model_version=digest_of([module, str(weights)]))
    except ValidationError as error:
        raise InvalidInput(
            f"{name or module!r} cannot be a name in URLs; give --name with letters, digits, '.', '_' or '-'"
        ) from error
    serve_module(deployed, weights, listen_ip, listen_port, limits)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
def web(host: str, port: int) -> None:
    """Serve models, pages and catalogue of VOLVOX_HOME, in the foreground."""
    from volvox.serving.running import serve_home
    from volvox.settings import Home

    serve_home(Home.current().ensure().root, host, port)
