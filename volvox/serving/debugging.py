"""What the modules print, for those who debug them: `/v2/debug/`."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from volvox.serving.routing import with_and_without_slash

_MOST_BYTES = 1 << 20


def routes() -> list[Route]:
    """`/v2/debug/`: 204 unless the server was started with it."""
    return with_and_without_slash("/v2/debug/", _debug)


async def _debug(request: Request) -> Response:
    if not request.app.state.offered.debug:
        return Response(status_code=204)
    return PlainTextResponse(await asyncio.to_thread(_printed, list(request.app.state.services)))


def _printed(models: list) -> str:
    """What the workers of each model wrote on standard output and error, the newest part of it."""
    parts = [f"--- DEBUG MARKER {datetime.now().astimezone().isoformat(timespec='seconds')} ---\n"]  # DEEPaaS' own word
    for model in models:
        title = f"--- {model.deployed.name} ---\n" if len(models) > 1 else ""
        parts.append(title + _end_of(model.folder / "log"))
    return "".join(parts)


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _MOST_BYTES))
            return stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
