"""The files of the work pools: those of the installation, and an operator's in VOLVOX_HOME, which go first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from volvox.disks import replace_text, telling_full_disks
from volvox.errors import InvalidInput, NotFound
from volvox.pools import yaml_editing
from volvox.pools.definition import HERE, NAME, Offers, PoolDefinition, PoolType
from volvox.settings import Home

# Beside this package, in a checkout and where it is installed; its name is known here, it is not imported.
SHIPPED = Path(__file__).parent.parent.parent / "deployments" / "pools"

_FOLDER = "pools"
_SUFFIX = ".yaml"


@dataclass(frozen=True)
class Change:
    """What `enable` and `disable` do, or would do.

    Attributes:
        path: The operator's file.
        text: What it holds afterwards.
        changed: Whether that is something new.
        pool: What the text says.
    """

    path: Path
    text: str
    changed: bool
    pool: PoolDefinition


def read_pools(home: Home, shipped: Path = SHIPPED) -> dict[str, PoolDefinition]:
    """Every pool that has a file, also those that are switched off, by name.

    Args:
        home: Whose own files replace the shipped ones of the same name.
        shipped: The folder of the installation's files.

    Raises:
        InvalidInput: If a file is wrong; the message names file, line and key, and what is allowed.
    """
    return {name: read_pool(path) for name, path in sorted(pool_paths(home, shipped).items())}


def read_pool(path: Path) -> PoolDefinition:
    """The pool that one file defines.

    Raises:
        InvalidInput: As for `read_pools`.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    return parse_pool(text, path)


def parse_pool(text: str, path: Path) -> PoolDefinition:
    """The pool that `text` defines, which stands or shall stand in the file `path`.

    Raises:
        InvalidInput: As for `read_pools`.
    """
    try:
        told = yaml.safe_load(text)
        lines = yaml_editing.positions(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InvalidInput(f"{place}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(told, dict):
        raise InvalidInput(f"{path}: a pool's file holds keys and values; {', '.join(PoolDefinition.model_fields)}")
    told = {str(key): value for key, value in told.items()}
    told.setdefault("name", path.stem)
    try:
        pool = PoolDefinition.model_validate(told)
    except ValidationError as error:
        sentences = [_sentence(path, lines, each) for each in error.errors()]
        raise InvalidInput("; ".join(dict.fromkeys(sentences))) from error
    place = f"{path}:{lines.get(('name',), 1)}"
    if pool.name == HERE:
        raise InvalidInput(f"{place}: {HERE!r} is the process that asks, which needs no file; choose another name")
    if pool.name != path.stem:
        raise InvalidInput(f"{place}: the file of pool {pool.name!r} must be named {pool.name}{_SUFFIX}")
    return pool


def known_pool(name: str, pools: Mapping[str, PoolDefinition]) -> PoolDefinition:
    """The pool `name`.

    Raises:
        NotFound: If there is none; the message suggests the nearest name.
    """
    if name not in pools:
        raise NotFound(f"there is no pool {name!r}{_near(name, list(pools))}; there are {', '.join(sorted(pools))}")
    return pools[name]


def enable(
    home: Home,
    name: str,
    changes: Mapping[str, Any] | None = None,
    *,
    like: str = "",
    dry_run: bool = False,
    shipped: Path = SHIPPED,
) -> Change:
    """Switch a pool on for this home, with `changes`; a second time nothing changes.

    The operator's file begins as a copy of the shipped one with its comments; one that is there already is changed.

    Args:
        home: Whose file is written.
        name: The pool.
        changes: Dotted key -> value, e.g. `{"offers.gpus": 1}`.
        like: Another pool whose file a new one begins as.
        dry_run: Whether to write nothing.
        shipped: The folder of the installation's files.

    Raises:
        NotFound: If there is no such pool.
        InvalidInput: If the file would be wrong; nothing is written then.
    """
    paths = pool_paths(home, shipped)
    wanted = {"enabled": True, **(changes or {})}
    if not like or name in paths:
        return _change(home, name, _text(paths, name), wanted, dry_run)
    if not NAME.fullmatch(name) or name == HERE:
        raise InvalidInput(f"{name!r} cannot name a pool: use lower case letters, digits and '-', and not {HERE!r}")
    return _change(home, name, yaml_editing.with_value(_text(paths, like), ("name",), name), wanted, dry_run, new=True)


def disable(home: Home, name: str, *, dry_run: bool = False, shipped: Path = SHIPPED) -> Change:
    """Switch a pool off for this home; what its file says stays for the next time.

    Raises:
        NotFound: If there is no such pool.
        InvalidInput: If its file is wrong.
    """
    return _change(home, name, _text(pool_paths(home, shipped), name), {"enabled": False}, dry_run)


def pool_paths(home: Home, shipped: Path = SHIPPED) -> dict[str, Path]:
    """The file of every pool, by name; an operator's goes first."""
    folders = (shipped, home.root / _FOLDER)
    return {path.stem: path for folder in folders for path in sorted(folder.glob(f"*{_SUFFIX}"))}


def _text(paths: Mapping[str, Path], name: str) -> str:
    if name not in paths:
        near = _near(name, list(paths))
        raise NotFound(f"there is no pool {name!r}{near}; there are {', '.join(sorted(paths))}")
    return paths[name].read_text()


def _change(
    home: Home, name: str, before: str, changes: Mapping[str, Any], dry_run: bool, *, new: bool = False
) -> Change:
    path, text = home.root / _FOLDER / f"{name}{_SUFFIX}", before
    parse_pool(text, path)  # its own mistakes are told before those of the changes
    for key, value in changes.items():
        keys = tuple(key.split("."))
        if _standing(text, keys) != (value,):
            text = yaml_editing.with_value(text, keys, value)
    pool = parse_pool(text, path)
    changed = new or text != before
    if changed and not dry_run:
        with telling_full_disks(home.root):
            replace_text(path, text)
    return Change(path, text, changed, pool)


def _standing(text: str, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """The value under `keys`, or nothing."""
    found = yaml.safe_load(text)
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return ()
        found = found[key]
    return (found,)


def _sentence(path: Path, lines: Mapping[tuple[str, ...], int], error: Any) -> str:
    """One of pydantic's errors with file, line, key and what is allowed."""
    place: tuple[str, ...] = tuple(map(str, error["loc"]))
    line = next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)
    where, key = f"{path}:{line}" if line else str(path), ".".join(place)
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "extra_forbidden":
        last, allowed = str(error["loc"][-1]), list((Offers if len(place) > 1 else PoolDefinition).model_fields)
        return f"{where}: there is no key {key!r}{_near(last, allowed)}; allowed are {', '.join(allowed)}"
    if kind == "missing":
        return f"{where}: {key!r} is missing"
    if kind == "literal_error":
        allowed = list(get_args(PoolType))
        return f"{where}: {key} is {given!r}{_near(str(given), allowed)}; allowed are {', '.join(allowed)}"
    if kind == "value_error":
        return f"{where}: {key}: {context['error']}"
    if kind in ("greater_than_equal", "greater_than"):
        bound = f"{'more than' if kind == 'greater_than' else 'at least'} {next(iter(context.values()))}"
        return f"{where}: {key} is {given!r}; it must be {bound}"
    return f"{where}: {key} is {given!r}; {error['msg'][0].lower()}{error['msg'][1:]}"


def _near(name: str, allowed: list[str]) -> str:
    near = get_close_matches(name, allowed, n=1)
    return f", did you mean {near[0]!r}?" if near else ""
