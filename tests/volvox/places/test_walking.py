from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from volvox.places.walking import walk

_NAME = st.text(alphabet="ab-./0~ü".replace("/", ""), min_size=1, max_size=3)
_KEY = st.lists(_NAME, min_size=1, max_size=4).map("/".join)


def _children(keys: set[str], folder: str) -> Iterator[tuple[str, str | None]]:
    found: dict[str, str | None] = {}
    for key in keys:
        if key.startswith(folder):
            name, _, more = key[len(folder) :].partition("/")
            found[name] = None if more else key
    yield from sorted(found.items())


@given(st.sets(_KEY, max_size=20), st.text(alphabet="ab-/0", max_size=4), _KEY | st.just(""))
def test_files_come_in_the_order_of_keys(keys: set[str], prefix: str, after: str) -> None:
    keys = {key for key in keys if not any(other.startswith(key + "/") for other in keys)}  # no file is a folder, too
    asked: list[str] = []

    def children(folder: str, begin: str) -> Iterator[tuple[str, str | None]]:
        asked.append(folder)
        return (one for one in _children(keys, folder) if one[0].startswith(begin))

    found = [key for key, _ in walk(children, prefix, after)]
    assert found == sorted(key for key in keys if key.startswith(prefix) and key > after)
    assert len(asked) == len(set(asked))
