"""Places with the credentials that a definition names for them."""

from __future__ import annotations

import threading
from typing import Any

from volvox.dispatch.publishing import Open
from volvox.functions.definition import Function
from volvox.functions.providers import given, saved
from volvox.places import Place, open_place


def opener() -> Open:
    """A function that opens a place by URL, for a function and by the name of its credentials; it keeps what it opened.

    Credentials that stand in a file are read again each time, so that a key that was changed there counts at once.
    """
    kept: dict[tuple[str, str, str], tuple[dict[str, Any], Place]] = {}
    lock = threading.Lock()

    def opened(url: str, function: Function, provider: str = "") -> Place:
        told = given(function, provider, saved) if provider else {}
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
