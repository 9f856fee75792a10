"""Which function's outputs are which function's inputs, and that nobody answers its own answers for ever."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from volvox.errors import InvalidInput
from volvox.functions.definition import Function, Input, Output
from volvox.functions.locations import parts_of


@dataclass(frozen=True, slots=True)
class Link:
    """An output place that lies inside an input place.

    Attributes:
        source: The function that writes.
        output: URL of its output place.
        target: The function that answers what is written there.
        input: URL of its input place.
    """

    source: str
    output: str
    target: str
    input: str


def links(functions: Iterable[Function]) -> list[Link]:
    """Every link between these functions, those from one to itself too; as the filters of both places let it be."""
    known = list(functions)
    inputs: dict[tuple[str, str, str], list[_Spot]] = {}
    for function in known:
        for place in function.inputs:
            inputs.setdefault((spot := _spot(function, place)).ground, []).append(spot)
    outputs = [_spot(function, place) for function in known for place in function.outputs]
    return [
        Link(output.function, output.place.url, spot.function, spot.place.url)
        for output in outputs
        for spot in inputs.get(output.ground, ())
        if _lands(output, spot)
    ]


def refuse_loops(functions: Mapping[str, Function], changed: Iterable[str]) -> None:
    """Raise InvalidInput if a changed function's outputs lead back to its own inputs.

    Args:
        functions: All that there will be, by name.
        changed: The names of those that are new among them.

    Raises:
        InvalidInput: With every step of the shortest loop.
    """
    found = links(functions.values())
    after: dict[str, list[Link]] = {}
    for link in found:
        after.setdefault(link.source, []).append(link)
    for name in changed:
        if loop := _way_back(name, after):
            steps = ", ".join(
                f"{link.source!r} writes to {link.output}, which is inside the input {link.input} of {link.target!r}"
                for link in loop
            )
            whose = "its own answers" if len(loop) == 1 else "what comes of its own answers"
            raise InvalidInput(
                f"function {name!r} would answer {whose} for ever: {steps}; "
                "write elsewhere, or part the two by a prefix or suffix of input and output"
            )


def doubts(function: Function) -> list[str]:
    """What may become a loop if outputs have unlucky names: an output place above an input place of the function."""
    found = []
    for output, place in product(function.outputs, function.inputs):
        below = _below(_spot(function, place), _spot(function, output))
        if below and _meet(output.prefix, (f"{below}/",)) and _ends_meet(output.suffix, place.suffix):
            found.append(
                f"{function.name}: the output {output.url} lies above the input {place.url}: an output in a folder "
                f"{below!r} would be answered again"
            )
    return found


def lands(source: Function, output: Output, target: Function, place: Input) -> bool:
    """Whether anything that `source` writes to `output` can be a file that `target` answers in `place`."""
    return _lands(_spot(source, output), _spot(target, place))


class _Spot(NamedTuple):
    """A place of a function; places of one ground lie in each other if their folders do."""

    function: str
    place: Input | Output
    ground: tuple[str, str, str]
    folder: str


def _spot(function: Function, place: Input | Output) -> _Spot:
    parts = parts_of(place.url)
    if parts.kind == "directory":
        # A link may lead a folder into another; here it is where files really are that counts.
        return _Spot(function.name, place, (parts.kind, "", ""), os.path.realpath(parts.folder))
    if parts.kind == "s3":
        server = _host(parts.server) if parts.server else _server(function, place.provider)
        return _Spot(function.name, place, (parts.kind, parts.name, server), parts.folder)
    return _Spot(function.name, place, (parts.kind, parts.root, ""), parts.folder)


def _lands(output: _Spot, spot: _Spot) -> bool:
    below = _below(output, spot)
    if below is None:
        return False
    folder = f"{below}/" if below else ""
    written = tuple(f"{folder}{prefix}" for prefix in output.place.prefix or ("",))
    return _meet(written, spot.place.prefix) and _ends_meet(output.place.suffix, spot.place.suffix)


def _below(inner: _Spot, outer: _Spot) -> str | None:
    """The path of a place below another; empty if they are one, None if it is not inside."""
    if inner.ground != outer.ground:
        return None
    if inner.folder == outer.folder:
        return ""
    above = outer.folder if not outer.folder or outer.folder.endswith("/") else f"{outer.folder}/"
    return inner.folder.removeprefix(above) if inner.folder.startswith(above) else None


def _server(function: Function, provider: str) -> str:
    """Where a bucket is: an endpoint, whose cluster's, or empty: AWS, or what the environment says."""
    described = function.settings.get("storage_providers", {}).get(provider, {})
    if isinstance(described, dict) and described.get("endpoint"):
        return _host(str(described["endpoint"]))
    if (reference := function.providers.get(provider, "")).startswith("block:"):
        return reference
    kind, _, name = provider.partition(".")
    if kind != "minio":
        return ""
    if name != "default":
        return provider
    # The default one is that of the cluster which the function runs on; run anywhere else, the environment's.
    return f"minio.{function.settings.get('cluster_id') or name}" if function.runtime == "oscar" else ""


def _host(server: str) -> str:
    return server.lower().rstrip("/").rpartition("://")[2]


def _meet(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether one text can begin as both ask."""
    return not some or not others or any(a.startswith(b) or b.startswith(a) for a, b in product(some, others))


def _ends_meet(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    return not some or not others or any(a.endswith(b) or b.endswith(a) for a, b in product(some, others))


def _way_back(name: str, after: Mapping[str, list[Link]]) -> list[Link]:
    """The shortest way from a function to itself; empty if there is none."""
    ways: deque[list[Link]] = deque([link] for link in after.get(name, []))
    seen: set[str] = set()
    while ways:
        way = ways.popleft()
        if (at := way[-1].target) == name:
            return way
        if at not in seen:
            seen.add(at)
            ways += [[*way, link] for link in after.get(at, [])]
    return []
