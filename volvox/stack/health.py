"""Whether an address answers, asked with the standard library so that waiting costs no imports."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit


def answers(url: str, timeout_seconds: float = 2.0) -> bool:
    """Whether a GET of `url` gives 200; proxies of the environment are not asked."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_seconds)
    except (ValueError, http.client.InvalidURL):
        return False
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
