"""The HTTP route that SCAR's `api_gateway` gives a function: the same on AWS and on our own server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from volvox.errors import InvalidInput
from volvox.functions.definition import Function

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PROXY = "{proxy+}"
_LONGEST_MS = 29_000  # as API Gateway has it


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """How a function is called over HTTP: `STAGE/PATH` below the address of its API.

    Attributes:
        name: The API's.
        stage: The first part of the path.
        path_part: The rest of it; `{proxy+}`: anything but nothing.
        method: `ANY`, or the only one that it takes.
        is_open: Whether everybody may; else who has the right.
        seconds: How long a caller waits.
    """

    name: str
    stage: str = "scar"
    path_part: str = PROXY
    method: str = "ANY"
    is_open: bool = False
    seconds: float = _LONGEST_MS / 1000

    def takes(self, method: str) -> bool:
        """Whether requests of this method are for the function."""
        return self.method in ("ANY", method)

    def leads(self, path: str) -> bool:
        """Whether a path below the stage is the function's."""
        return bool(path) if self.path_part == PROXY else path == self.path_part


def route_of(function: Function) -> HttpRoute | None:
    """The function's route; None: it has none.

    Raises:
        InvalidInput: If what its file says of it cannot be.
    """
    given = function.settings.get("api_gateway")
    if not isinstance(given, Mapping) or not given.get("name"):
        return None
    said: dict[str, Any] = {str(name): value for name, value in given.items() if value not in (None, "")}
    method = said.get("method")
    kind = str(method.get("authorizationType") or "") if isinstance(method, Mapping) else ""
    path = str(said.get("path_part", PROXY)).strip("/")
    if "/" in path or not path:
        raise InvalidInput(
            f"api_gateway.path_part of function {function.name!r} is {said['path_part']!r}; give one part of a path, "
            f"or {PROXY} for any"
        )
    return HttpRoute(
        str(said["name"]),
        str(said.get("stage_name", "scar")).strip("/"),
        path,
        str(said.get("http_method", "ANY")).upper(),
        kind.upper() == "NONE",
        _seconds(function, said.get("integration")),
    )


def _seconds(function: Function, integration: Any) -> float:
    given = integration.get("timeoutInMillis") if isinstance(integration, Mapping) else None
    if given in (None, ""):
        return _LONGEST_MS / 1000
    try:
        milliseconds = int(str(given))
    except ValueError:
        milliseconds = 0
    if not 50 <= milliseconds <= _LONGEST_MS:
        raise InvalidInput(
            f"api_gateway.integration.timeoutInMillis of function {function.name!r} is {given}; give 50 to "
            f"{_LONGEST_MS:,}, which is the most that API Gateway waits"
        )
    return milliseconds / 1000
