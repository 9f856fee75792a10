"""Places with the credentials that a definition names for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from volvox.dispatch.publishing import Open
from volvox.errors import InvalidInput, NotFound
from volvox.functions import registry
from volvox.places import Place, open_place
from volvox.settings import Home

_POINTS = "volvox.credentials"


def opener(home: Home) -> Open:
    """A function that opens a place by URL and the name of its credentials; what it opened it keeps."""
    kept: dict[tuple[str, str], tuple[str, Place]] = {}
    lock = threading.Lock()

    def opened(url: str, provider: str = "") -> Place:
        reference = _reference(home, provider) if provider else ""
        with lock:
            found = kept.get((url, provider))
        if found and found[0] == reference:
            return found[1]
        place = open_place(url, credentials(reference))
        with lock:
            kept[url, provider] = reference, place
        return place

    return opened


def credentials(reference: str) -> Mapping[str, Any] | None:
    """What a reference stands for: `file:PATH#KEY.KEY` a map in a YAML file, `block:NAME` a saved block.

    Raises:
        NotFound: If nothing is there.
        InvalidInput: If it is no reference.
    """
    if not reference:
        return None
    kind, _, rest = reference.partition(":")
    if kind == "file":
        path, _, keys = rest.partition("#")
        return _in_file(Path(path), keys)
    if kind == "block":
        return _block(rest)
    raise InvalidInput(f"{reference!r} names no credentials; write block:NAME or file:PATH#KEY")


def _reference(home: Home, provider: str) -> str:
    """Where the credentials of a provider stand, as the function that names it says; empty: in the environment."""
    for one in registry.functions(home).values():
        if reference := one.filled.providers.get(provider):
            return reference
    return ""


def _in_file(path: Path, keys: str) -> Mapping[str, Any]:
    try:
        found: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NotFound(f"the credentials in {path} cannot be read ({type(error).__name__})") from error
    for key in keys.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise NotFound(f"there are no credentials under {keys} in {path}")
    return found


def _block(name: str) -> Mapping[str, Any]:
    from importlib.metadata import distribution

    points = distribution("volvox").entry_points.select(group=_POINTS, name="block")
    for point in points:
        return point.load()(name)
    raise InvalidInput(f"block:{name} cannot be read here: pip install 'volvox[cycle]'")
