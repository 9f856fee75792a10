"""Which function's outputs are which function's inputs, and that nobody answers its own answers for ever."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

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
    return [
        Link(source.name, output.url, target.name, place.url)
        for source, target in product(known, known)
        for output, place in product(source.outputs, target.inputs)
        if lands(source, output, target, place)
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
        below = _below(function, place, function, output)
        if below and _meet(output.prefix, (f"{below}/",)) and _ends_meet(output.suffix, place.suffix):
            found.append(
                f"{function.name}: the output {output.url} lies above the input {place.url}: an output in a folder "
                f"{below!r} would be answered again"
            )
    return found


def lands(source: Function, output: Output, target: Function, place: Input) -> bool:
    """Whether anything that `source` writes to `output` can be a file that `target` answers in `place`."""
    below = _below(source, output, target, place)
    if below is None:
        return False
    folder = f"{below}/" if below else ""
    written = tuple(f"{folder}{prefix}" for prefix in output.prefix or ("",))
    return _meet(written, place.prefix) and _ends_meet(output.suffix, place.suffix)


def _below(inner: Function, place: Input | Output, outer: Function, around: Input | Output) -> str | None:
    """The path of a place below the place `around`; empty if they are one, None if it is not inside."""
    if _ground(inner, place) != _ground(outer, around):
        return None
    one, two = _folder(place.url), _folder(around.url)
    if one == two:
        return ""
    above = f"{two}/" if two and not two.endswith("/") else two
    return one.removeprefix(above) if one.startswith(above) else None


def _ground(function: Function, place: Input | Output) -> tuple[str, str, str]:
    """What tells two places of different functions apart, whatever their folders."""
    parts = parts_of(place.url)
    if parts.kind == "directory":
        return parts.kind, "", ""
    if parts.kind == "s3":
        return parts.kind, parts.name, _host(parts.server) if parts.server else _server(function, place.provider)
    return parts.kind, parts.root, ""


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


def _folder(url: str) -> str:
    parts = parts_of(url)
    # A link may lead a folder into another; here it is where files really are that counts.
    return os.path.realpath(parts.folder) if parts.kind == "directory" else parts.folder


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
