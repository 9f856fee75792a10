"""Places with the credentials that a definition names for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from volvox.dispatch.publishing import Open
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.providers import given
from volvox.places import Place, open_place

_POINTS = "volvox.credentials"


def opener() -> Open:
    """A function that opens a place by URL, for a function and by the name of its credentials; it keeps what it opened.

    Credentials that stand in a file are read again each time, so that a key that was changed there counts at once.
    """
    kept: dict[tuple[str, str, str], tuple[dict[str, Any], Place]] = {}
    lock = threading.Lock()

    def opened(url: str, function: Function, provider: str = "") -> Place:
        told = given(function, provider, _block) if provider else {}
        key = (url, function.name, provider)
        with lock:
            found = kept.get(key)
        if found and found[0] == told:
            return found[1]
        place = open_place(url, told)
        with lock:
            kept[key] = told, place
        return place

    return opened


def _block(name: str) -> Mapping[str, Any]:
    """What a saved block holds; the room that may import Prefect brings it by entry point."""
    from importlib.metadata import distribution

    for point in distribution("volvox").entry_points.select(group=_POINTS, name="block"):
        return point.load()(name)
    raise InvalidInput(f"block:{name} cannot be read here: pip install 'volvox[cycle]'")
