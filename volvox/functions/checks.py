"""What a function needs and what of it is missing, before a job fails on it.

Rooms that know more (runtimes: the engine, the image; places: the bucket) add checks of their own by an entry point of
the group `volvox.function_checks` that names a `Checks`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from volvox.bulk.reaching import unreached
from volvox.errors import VolvoxError
from volvox.functions import secrecy
from volvox.functions.chains import doubts
from volvox.functions.definition import Function
from volvox.functions.entries import Missing
from volvox.functions.filling import catalogued
from volvox.functions.locations import parts_of, place_of
from volvox.pools.files import read_pools
from volvox.settings import Home

GROUP = "volvox.function_checks"
ARCHIVE = "docker-archive:"


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of looking for one thing.

    Attributes:
        name: The thing, in a word or two.
        ok: Whether it is as it must be; None: nobody looked, or could tell.
        said: What is true, in a sentence.
        mend: What to do where it is not; empty otherwise.
        made: Whether applying the function makes it.
    """

    name: str
    ok: bool | None
    said: str
    mend: str = ""
    made: bool = False

    def line(self) -> str:
        """The finding for people."""
        word = {True: "ok", False: "missing", None: "unknown"}[self.ok]
        mend = f"\n{' ' * 20}-> {self.mend}" if self.mend and self.ok is not True else ""
        return f"{word:<8} {self.name:<11} {self.said}{mend}"

    def values(self) -> dict[str, Any]:
        """The finding for machines."""
        return asdict(self)


class Checks(Protocol):
    """Looks for some of what a function needs; each look is bounded in time and leaves nothing behind."""

    def __call__(self, function: Function, home: Home, *, offline: bool) -> Iterable[Finding]:
        """Look.

        Args:
            function: Whose needs.
            home: Where it is, or would be.
            offline: Whether to ask neither an engine nor a server and use no credentials; what would need that is
                found `None`: not looked for.
        """
        ...


def findings(
    function: Function, home: Home, *, offline: bool = False, missing: Iterable[Missing] = ()
) -> Iterator[Finding]:
    """Everything that was looked for, those of other rooms last; one of theirs that fails is a finding.

    Args:
        function: Whose needs.
        home: Where it is, or would be.
        offline: As for `Checks`.
        missing: Files that its definition names and that are not there.
    """
    gone = list(missing)
    for each in gone:
        yield Finding(each.what, False, each.message.partition(": ")[2], f"put it at {each.path}")
    if function.script and not gone:
        yield Finding("script", True, f"{len(function.script.splitlines())} lines are kept with it")
    yield from _model(function, home)
    yield from _image(function)
    for kind, places in (("input", function.inputs), ("output", function.outputs)):
        for place in places:
            yield _place(kind, place.url)
    yield from _credentials(function)
    yield from _bulk(function, home)
    yield from (Finding("chain", None, told.partition(": ")[2]) for told in doubts(function))
    for name, check in _of_other_rooms():
        try:
            yield from check(function, home, offline=offline)
        except VolvoxError as error:
            yield Finding(name, False, str(error))


def make_folders(function: Function) -> list[Path]:
    """Make the folders of this machine that its places name and that are not there; the ones that were made.

    Raises:
        VolvoxError: If one cannot be made.
    """
    from volvox.disks import telling_full_disks

    made = []
    for place in (*function.inputs, *function.outputs):
        parts = parts_of(place.url)
        if parts.kind == "directory" and not (folder := Path(parts.folder)).is_dir():
            try:
                with telling_full_disks(folder):
                    folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VolvoxError(f"the folder {folder} cannot be made ({error.strerror})") from error
            made.append(folder)
    return made


def _model(function: Function, home: Home) -> Iterator[Finding]:
    if not function.model:
        return
    name = function.model.partition("/")[0].partition("@")[0]
    known = _published(home)
    if (metadata := catalogued(home, function.model)) is not None:
        yield Finding("model", True, f"the catalogue shows {name}/{metadata.get('version') or '?'}")
    elif name in known:
        yield Finding(
            "model", None, f"the catalogue shows another version than {function.model!r}; the registry knows more"
        )
    else:
        near = get_close_matches(name, known, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        there = f"; there are {', '.join(known)}" if known else "; it shows none"
        yield Finding(
            "model", False, f"the catalogue shows no model {name!r}{hint}{there}",
            f"volvox cycle FOLDER --name {name}",
        )  # fmt: skip


def _published(home: Home) -> list[str]:
    folder = home.root / "catalogue"
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if not path.name.startswith(".") and (path / "entry.json").is_file())


def _image(function: Function) -> Iterator[Finding]:
    if function.image.startswith(ARCHIVE):
        path = Path(function.image.removeprefix(ARCHIVE))
        if path.is_file():
            yield Finding("image", True, f"{path} is there")
    elif function.image:
        yield Finding("image", None, f"nobody looked for {function.image}; the runtime does when it starts an instance")


def _place(kind: str, url: str) -> Finding:
    parts = parts_of(url)
    if parts.kind != "directory":
        what = {"s3": "bucket", "onedata": "space"}.get(parts.kind, "server")
        return Finding(kind, None, f"nobody looked for the {what} {place_of(url)}")
    folder = Path(parts.folder)
    if not folder.exists():
        mend = f"mkdir -p {folder}; `volvox functions apply` makes it"
        return Finding(kind, False, f"there is no folder {folder}", mend, made=True)
    if not folder.is_dir():
        return Finding(kind, False, f"{folder} is a file and no folder", "name a folder")
    right = os.R_OK | os.X_OK if kind == "input" else os.W_OK | os.X_OK
    if not os.access(folder, right):
        return Finding(
            kind, False, f"{folder} cannot be {'read' if kind == 'input' else 'written'}", f"chmod u+rwx {folder}"
        )
    return Finding(kind, True, f"{folder} is there")


def _credentials(function: Function) -> Iterator[Finding]:
    for name, reference in function.providers.items():
        if not reference.startswith("file:"):
            yield Finding("credentials", None, f"nobody looked for {reference}, which has those of {name}")
            continue
        yield _read_again(name, lambda reference=reference: secrecy.credentials(reference))
    for name, value in function.environment.items():
        if secrecy.is_reference(value) and "file:" in value:
            yield _read_again(name, lambda value=value: secrecy.secret(value))
    for place in (*function.inputs, *function.outputs):
        if place.provider and not place.provider.endswith(".default") and place.provider not in function.providers:
            told = f"nothing says what {place.provider} of {place.url} is; those of the environment would be used"
            yield Finding("credentials", None, told, f"describe it under storage_providers: {place.provider}")


def _read_again(name: str, read: Any) -> Finding:
    try:
        read()
    except VolvoxError as error:
        return Finding("credentials", False, f"those of {name} cannot be read: {error}")
    return Finding("credentials", True, f"those of {name} are read from its file at need")


def _bulk(function: Function, home: Home) -> Iterator[Finding]:
    """Whether its large drops have a pool whose jobs reach its places; where not, instances answer them."""
    if function.bulk is None:
        return
    on, known = function.bulk.on, read_pools(home)
    pool = known.get(on)
    if pool is None:
        near = get_close_matches(on, known, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        yield Finding(
            "bulk", None, f"there is no work pool {on!r}{hint}; without a deployment batch-inference/{on} of your own "
            "the instances answer large drops too", f"name one of {', '.join(sorted(known))}",
        )  # fmt: skip
        return
    if not pool.enabled:
        told = f"the work pool {on!r} is off, so the instances answer large drops too"
        yield Finding("bulk", None, told, f"volvox pools enable {on}")
        return
    yield Finding("bulk", True, f"{function.bulk.least:,} files of one user that wait go to work pool {on!r}")
    yield from (Finding("bulk", None, said, mend) for said, mend in unreached(function, pool))


def _of_other_rooms() -> list[tuple[str, Checks]]:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        points = distribution("volvox").entry_points.select(group=GROUP)
    except PackageNotFoundError:
        return []
    return [(point.name, point.load()) for point in sorted(points, key=lambda point: point.name)]
