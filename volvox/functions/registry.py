"""The functions of a home: every version that was applied, and which of them is active.

Below `VOLVOX_HOME/functions/<name>/` lies `versions/<digest>.json` for each version and `active.json`, which says which
of them counts and which did before. Both appear by a rename, the second one last: whoever is killed in between leaves
what was active before. One lock keeps two changes apart, since a loop may go through functions of both.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from volvox.disks import replace_text, telling_full_disks
from volvox.errors import InvalidInput, NotFound
from volvox.functions.chains import refuse_loops
from volvox.functions.definition import NAME, Function
from volvox.functions.filling import from_catalogue
from volvox.settings import Home

Fill = Callable[[Home, Function], Function]

_FOLDER, _VERSIONS, _ACTIVE, _LOCK = "functions", "versions", "active.json", ".lock"
_REMEMBERED = 100  # activations

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a function as the home has it.

    Attributes:
        function: As its file states it.
        filled: With what it leaves open taken from the model's metadata when it was applied: what runtimes are given.
        version: `Function.version` of `function`.
        source: The file it was read from, or empty.
        applied: Seconds since the epoch at which it was applied first.
        active: Whether it is the one that counts.
    """

    function: Function
    filled: Function
    version: str
    source: str
    applied: float
    active: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What applying, activating or removing did, or would do.

    Attributes:
        name: The function.
        kind: `added`, `changed`, `unchanged`, `activated` or `removed`.
        version: The active version afterwards; empty if there is none.
        before: The active version before; empty if there was none.
        fields: Names of what differs from before, as in `Function`; `filled` where only the model's metadata does.
    """

    name: str
    kind: Literal["added", "changed", "unchanged", "activated", "removed"]
    version: str
    before: str
    fields: tuple[str, ...] = ()


def functions(home: Home) -> dict[str, Registered]:
    """The active version of every function, by name; one whose record cannot be read is left out, and logged."""
    found: dict[str, Registered] = {}
    for name in _names(home):
        try:
            found[name] = get(home, name)
        except (InvalidInput, NotFound) as error:
            log.warning("%s", error)
    return found


def get(home: Home, name: str, version: str = "") -> Registered:
    """The active version of the function `name`, or the stated one.

    Args:
        home: Whose functions.
        name: The function.
        version: A version, or enough of its beginning; empty: the active one.

    Raises:
        NotFound: If there is no such function or version; the message suggests the nearest name.
        InvalidInput: If its record cannot be read.
    """
    active = _active(home, name)
    if active is None:
        raise NotFound(_unknown(name, _names(home)))
    return _version(home, name, _named(home, name, version) if version else active["version"], active)


def versions(home: Home, name: str) -> list[Registered]:
    """Every version of the function `name` that can be read, the one that was applied last first.

    Raises:
        NotFound: If there is no such function.
    """
    active = _active(home, name)
    if active is None:
        raise NotFound(_unknown(name, _names(home)))
    found = []
    for digest in _digests(home, name):
        with contextlib.suppress(InvalidInput, NotFound):
            found.append(_version(home, name, digest, active))
    return sorted(found, key=lambda each: each.applied, reverse=True)


def apply(
    home: Home, function: Function, *, source: str = "", dry_run: bool = False, fill: Fill = from_catalogue
) -> Change:
    """Make the function the active version of its name; a second time nothing changes.

    Args:
        home: Where.
        function: As its file states it.
        source: The file it was read from.
        dry_run: Whether to write nothing.
        fill: What knows the model's metadata.

    Raises:
        InvalidInput: If its outputs lead back to its inputs, through other functions or not; nothing is written then.
    """
    return apply_all(home, [function], source=source, dry_run=dry_run, fill=fill)[0]


def apply_all(
    home: Home,
    wanted: Sequence[Function],
    *,
    source: str | Sequence[str] = "",
    dry_run: bool = False,
    fill: Fill = from_catalogue,
) -> list[Change]:
    """As `apply`, for several that are checked together; killed in between, the next call does the rest.

    Args:
        home: Where.
        wanted: The functions; a name stands once.
        source: The file of all of them, or of each.
        dry_run: Whether to write nothing.
        fill: What knows the models' metadata.

    Raises:
        InvalidInput: As for `apply`.
    """
    sources = [source] * len(wanted) if isinstance(source, str) else source
    with _locked(home, dry_run):
        present = functions(home)
        future = {name: each.function for name, each in present.items()} | {each.name: each for each in wanted}
        refuse_loops(future, [each.name for each in wanted])
        changes = []
        for function, origin in zip(wanted, sources, strict=True):
            made = Registered(function, fill(home, function), function.version, origin, time.time(), active=True)
            changes.append(change := _compared(made, present.get(function.name), _active_if_whole(home, function.name)))
            if change.kind != "unchanged" and not dry_run:
                _keep(home, made)
                _point(home, function.name, made.version)
        return changes


def activate(home: Home, name: str, version: str = "", *, dry_run: bool = False) -> Change:
    """Make an earlier version the active one again.

    Args:
        home: Where.
        name: The function.
        version: Which one, or enough of its beginning; empty: the one that was active before the present one.
        dry_run: Whether to write nothing.

    Raises:
        NotFound: If there is no such function or version.
        InvalidInput: If it would make a loop with what there is now, or there is no version before.
    """
    with _locked(home, dry_run):
        active = _active(home, name)
        if active is None:
            raise NotFound(_unknown(name, _names(home)))
        digest = _named(home, name, version) if version else _one_before(name, active)
        chosen = _version(home, name, digest, active)
        if chosen.active:
            return Change(name, "unchanged", digest, digest)
        present = functions(home)
        refuse_loops({each: found.function for each, found in present.items()} | {name: chosen.function}, [name])
        if not dry_run:
            _point(home, name, digest)
        before = present.get(name)
        fields = _differing(chosen.function, before.function) if before else ()
        return Change(name, "activated", digest, active["version"], fields)


def remove(home: Home, name: str, *, dry_run: bool = False) -> Change:
    """Forget the function and its versions; what lies in its places stays.

    Raises:
        NotFound: If there is no such function.
    """
    with _locked(home, dry_run):
        active = _active(home, name)
        if active is None:
            raise NotFound(_unknown(name, _names(home)))
        if not dry_run:
            folder = home.root / _FOLDER / name
            (folder / _ACTIVE).unlink()  # from here on it is gone; the rest is tidied, now or when it is applied again
            shutil.rmtree(folder, ignore_errors=True)
        return Change(name, "removed", "", active["version"])


def stamp(home: Home) -> str:
    """Changes whenever something is applied, activated or removed; cheap enough to be asked every second."""
    parts = []
    for name in _names(home):
        with contextlib.suppress(OSError):
            told = (home.root / _FOLDER / name / _ACTIVE).stat()
            parts.append(f"{name}:{told.st_ino}:{told.st_mtime_ns}")
    return " ".join(parts)


# -- what lies there --------------------------------------------------------------------------------------------------


def _names(home: Home) -> list[str]:
    with contextlib.suppress(OSError):
        folders = [path for path in (home.root / _FOLDER).iterdir() if NAME.fullmatch(path.name)]
        return sorted(path.name for path in folders if (path / _ACTIVE).is_file())
    return []


def _digests(home: Home, name: str) -> list[str]:
    return sorted(path.stem for path in (home.root / _FOLDER / name / _VERSIONS).glob("*.json"))


def _active(home: Home, name: str) -> dict[str, Any] | None:
    if not NAME.fullmatch(name):
        return None
    path = home.root / _FOLDER / name / _ACTIVE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {"version": str(told["version"]), "history": [str(each) for each in told["history"]]}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} cannot be read ({error}); apply function {name!r} again") from error


def _active_if_whole(home: Home, name: str) -> dict[str, Any] | None:
    """None too where what lies there cannot be read: applying again mends it."""
    with contextlib.suppress(InvalidInput):
        return _active(home, name)
    return None


def _version(home: Home, name: str, digest: str, active: dict[str, Any]) -> Registered:
    path = home.root / _FOLDER / name / _VERSIONS / f"{digest}.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Registered(
            Function.model_validate(told["function"]), Function.model_validate(told["filled"]), digest,
            str(told["source"]), float(told["applied"]), active=digest == active["version"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = "it is of another release" if type(error).__name__ == "ValidationError" else str(error)
        raise InvalidInput(
            f"version {digest[:12]} of function {name!r} cannot be read ({why}); apply it again"
        ) from error


def _named(home: Home, name: str, version: str) -> str:
    fitting = [digest for digest in _digests(home, name) if digest.startswith(version.lower())]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(digest[:12] for digest in fitting or _digests(home, name))
    what = f"several versions of function {name!r} begin" if fitting else f"no version of function {name!r} begins"
    raise NotFound(f"{what} with {version!r}; there are {there}")


def _one_before(name: str, active: dict[str, Any]) -> str:
    earlier = [digest for digest in active["history"] if digest != active["version"]]
    if not earlier:
        raise InvalidInput(f"function {name!r} has had one version only; there is none to go back to")
    return earlier[-1]


def _unknown(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return (
        f"there is no function {name!r}{hint}; there are {', '.join(names)}"
        if names
        else (f"there is no function {name!r}, and no other; `volvox functions apply FILE` makes one")
    )


# -- changes ----------------------------------------------------------------------------------------------------------


def _compared(made: Registered, present: Registered | None, active: dict[str, Any] | None) -> Change:
    name, before = made.function.name, active["version"] if active else ""
    if present is None:
        return Change(name, "changed" if active else "added", made.version, before)
    fields = _differing(made.function, present.function)
    if not fields and made.filled != present.filled:
        fields = ("filled",)
    return Change(name, "changed" if fields else "unchanged", made.version, before, fields)


def _differing(one: Function, other: Function) -> tuple[str, ...]:
    return tuple(field for field in Function.model_fields if getattr(one, field) != getattr(other, field))


def _keep(home: Home, made: Registered) -> None:
    folder = home.root / _FOLDER / made.function.name / _VERSIONS
    path = folder / f"{made.version}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        made = replace(made, applied=float(json.loads(path.read_text(encoding="utf-8"))["applied"]))
    told = {
        "function": made.function.model_dump(mode="json"),
        "filled": made.filled.model_dump(mode="json"),
        "source": made.source,
        "applied": made.applied,
    }
    _replace(path, told, home)


def _point(home: Home, name: str, version: str) -> None:
    active = _active_if_whole(home, name)
    history = active["history"] if active else []
    told = {"version": version, "history": [*history, *([version] if history[-1:] != [version] else [])][-_REMEMBERED:]}
    _replace(home.root / _FOLDER / name / _ACTIVE, told, home)


def _replace(path: Path, told: dict[str, Any], home: Home) -> None:
    with telling_full_disks(home.root):
        replace_text(path, json.dumps(told, indent=1, ensure_ascii=False))


@contextlib.contextmanager
def _locked(home: Home, dry_run: bool) -> Iterator[None]:
    """Alone with the registry; what only looks waits for nobody and makes nothing."""
    if dry_run:
        yield
        return
    folder = home.root / _FOLDER
    with telling_full_disks(home.root):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stream = (folder / _LOCK).open("w")
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for left in folder.glob("*/**/.incoming-*"):  # by a process that was killed: nobody else writes here now
            left.unlink(missing_ok=True)
        yield
