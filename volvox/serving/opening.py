"""Where the stack's other servers are, and whether they answer yet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote, urlsplit

from volvox.settings import Home

TITLES = {"prefect": "Prefect", "mlflow": "MLflow"}
_HEALTH = {"prefect": "/api/health", "mlflow": "/health"}
_PATIENCE_SECONDS = 1.0


def addresses(home: Path) -> dict[str, str]:
    """Service -> base URL of everything that the stack of `home` has started, answering or not."""
    from volvox.stack import state

    try:
        return state.addresses(Home(home))
    except ImportError:  # a serving image has no stack, and not the libraries of its services
        return {}


async def answers(url: str, service: str) -> bool:
    """Whether the service's health path answers 200 now."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return True  # behind TLS it is somebody else's server: the browser will find out
    path = parts.path.rstrip("/") + _HEALTH.get(service, "/")
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return len(status) > 1 and status[1] == b"200"


def target(url: str, path: str, query: str) -> str:
    """The address to send a browser to: `path` below `url`; a `#` in it (sent as %23) begins the fragment."""
    return url.rstrip("/") + "/" + quote(path.lstrip("/"), safe="/#?=&:@,;+~!$'()*") + (f"?{query}" if query else "")
