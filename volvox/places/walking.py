"""A tree of folders in the order of keys, of which each folder is listed by itself."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
Children = Callable[[str, str], Iterator[tuple[str, T | None]]]


def walk(children: Children[T], prefix: str = "", after: str = "") -> Iterator[tuple[str, T]]:
    """Every file whose key begins with `prefix`, in the order of keys, those up to `after` left out.

    A folder `a` comes where `a/` belongs, hence behind a file `a-b`, although its name comes first.

    Args:
        children: Of a folder (`""`, or with a `/` at its end): name and what is known of it, None for a folder; in the
            order of names. It is asked only for folders that can hold what is sought, and told with what names there
            begin that are sought; others may be left out.
        prefix: With what keys begin.
        after: The last key that was had.
    """
    folder = prefix[: prefix.rfind("/") + 1]
    yield from _walk(children, folder, prefix, after)


def _walk(children: Children[T], folder: str, prefix: str, after: str) -> Iterator[tuple[str, T]]:
    held: list[str] = []  # folders whose turn has not come
    for name, known in children(folder, prefix[len(folder) :]):
        while held and held[0] < name:
            yield from _inside(children, folder + heapq.heappop(held), prefix, after)
        if known is None:
            heapq.heappush(held, name + "/")
        elif (key := folder + name) > after and key.startswith(prefix):
            yield key, known
    while held:
        yield from _inside(children, folder + heapq.heappop(held), prefix, after)


def _inside(children: Children[T], inner: str, prefix: str, after: str) -> Iterator[tuple[str, T]]:
    wanted = inner.startswith(prefix) or prefix.startswith(inner)
    if wanted and (inner > after or after.startswith(inner)):
        yield from _walk(children, inner, prefix, after)
