"""Forms of every shape, cut at every place: they come out as they went in."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from volvox.serving.limits import Limits
from volvox.serving.multipart import Form

BOUNDARY = b"a-b"
# Content that looks like the end of a part, or nearly.
CONTENT = st.lists(
    st.sampled_from([b"\r\n", b"--a-b", b"\r\n--a-", b"\r\n--a-bc", b"-", b"\r", b"\n", b"x" * 50])
    | st.binary(max_size=9),
    max_size=8,
).map(b"".join)
NAMES = st.sampled_from(["image", "data", "été", "a b", 'q"uote', "semi;colon"])
PARTS = st.lists(
    st.tuples(NAMES, st.none() | st.sampled_from(["a.png", "b", "é ü.jpg", 'x";y.png']), CONTENT), max_size=6
)


def _encoded(parts: list[tuple[str, str | None, bytes]]) -> bytes:
    pieces = []
    for name, filename, content in parts:
        told = [f'form-data; name="{_quoted(name)}"']
        if filename is not None:
            told.append(f'filename="{_quoted(filename)}"')
        pieces.append(b"--a-b\r\nContent-Disposition: " + "; ".join(told).encode() + b"\r\n\r\n" + content + b"\r\n")
    return b"".join(pieces) + b"--a-b--\r\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


@settings(deadline=None, max_examples=200)
@given(parts=PARTS, cuts=st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_a_form_comes_out_as_it_went_in(parts: list[tuple[str, str | None, bytes]], cuts: list[int]) -> None:
    for _, _, content in parts:
        if _divides(content):
            return  # no client may choose a boundary that is in the content
    body, at, turn = _encoded(parts), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        form = Form(Path(folder), BOUNDARY, Limits())
        while at < len(body):
            form.feed(body[at : at + cuts[turn % len(cuts)]])
            at, turn = at + cuts[turn % len(cuts)], turn + 1
        form.finish()
        fields: dict[str, list[str]] = {}
        files: dict[str, list[tuple[str, bytes]]] = {}
        for name, filename, content in parts:
            if filename is None:
                fields.setdefault(name, []).append(content.decode(errors="replace"))
            else:
                files.setdefault(name, []).append((filename, content))
        assert form.fields == fields
        found = {
            name: [(told["name"], Path(told["path"]).read_bytes()) for told in sent]
            for name, sent in form.files.items()
        }
        assert found == files
        assert sorted(form.paths) == sorted(str(path) for path in Path(folder).iterdir())


def _divides(content: bytes) -> bool:
    """Whether the content holds what divides parts."""
    whole, at = b"\r\n" + content + b"\r\n", 0
    while (at := whole.find(b"\r\n--a-b", at)) >= 0:
        rest = whole[at + 7 :].lstrip(b" \t")
        if rest.startswith(b"\r\n") or whole[at + 7 :].startswith(b"--"):
            return True
        at += 1
    return False
