from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from volvox.errors import InvalidInput
from volvox.functions.chains import Link, doubts, lands, links, refuse_loops
from volvox.functions.definition import Function, Input, Output


def function(name: str, reads: str | Input, writes: str | Output, **more) -> Function:
    return Function(
        name=name, image="x", inputs=(reads if isinstance(reads, Input) else Input(url=reads),),
        outputs=(writes if isinstance(writes, Output) else Output(url=writes),), **more,
    )  # fmt: skip


def looped(*functions: Function) -> str:
    """What is said of their loop; empty if there is none."""
    try:
        refuse_loops({each.name: each for each in functions}, [functions[-1].name])
    except InvalidInput as error:
        return str(error)
    return ""


def test_an_output_inside_an_input_is_a_chain() -> None:
    films, frames = (
        function("films", "s3://one/new", "s3://one/frames/small"),
        function("frames", "s3://one/frames", "s3://two"),
    )
    assert links([films, frames]) == [Link("films", "s3://one/frames/small", "frames", "s3://one/frames")]
    assert not looped(films, frames)


@pytest.mark.parametrize(
    ("writes", "reads"),
    [
        ("s3://one/in", "s3://one/in"),
        ("s3://one/in/a", "s3://one/in"),
        ("s3://one/in", "s3://one"),
        ("file:///a/b", "file:///a"),
        ("file:///a", "file:///"),
        ("webdavs://h/a/b", "webdavs://h/a"),
    ],
)
def test_a_function_that_would_answer_its_own_answers_is_refused(writes: str, reads: str) -> None:
    assert (
        f"function 'a' would answer its own answers for ever: 'a' writes to {writes}, which is inside the input {reads}"
        in (looped(function("a", reads, writes)))
    )


@pytest.mark.parametrize(
    ("writes", "reads"),
    [
        ("s3://one/input", "s3://one/in"),
        ("s3://two/in", "s3://one/in"),
        ("s3://one", "s3://one/in"),
        ("file:///ab", "file:///a"),
        ("webdavs://g/a", "webdavs://h/a"),
        ("file:///one/in", "s3://one/in"),
        ("onedata://h/s/in", "onedata://h/t/in"),
    ],
)
def test_beside_is_not_inside(writes: str, reads: str) -> None:
    assert not looped(function("a", reads, writes))


def test_a_longer_loop_is_told_with_every_step() -> None:
    a, b, c = (
        function("a", "s3://a/in", "s3://bbb/in"),
        function("b", "s3://bbb", "s3://ccc/x"),
        function("c", "s3://ccc", "s3://a/in/c"),
    )
    assert not looped(a, b)
    assert looped(a, b, c) == (
        "function 'c' would answer what comes of its own answers for ever: 'c' writes to s3://a/in/c, which is inside "
        "the input s3://a/in of 'a', 'a' writes to s3://bbb/in, which is inside the input s3://bbb of 'b', 'b' writes "
        "to s3://ccc/x, which is inside the input s3://ccc of 'c'; write elsewhere, or part the two by a prefix or "
        "suffix of input and output"
    )


def test_a_link_of_the_file_system_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert looped(function("a", f"file://{tmp_path}/real", f"file://{tmp_path}/link/out"))


@pytest.mark.parametrize(
    ("output", "reads", "loop"),
    [
        ({"suffix": (".json",)}, {"suffix": (".png",)}, False),
        ({"suffix": (".json",)}, {"suffix": (".png", "n")}, True),
        ({}, {"suffix": (".png",)}, True),
        ({"suffix": ("g",)}, {"suffix": (".png",)}, True),
        ({"prefix": ("a",)}, {"prefix": ("b",)}, False),
        ({"prefix": ("a", "b/")}, {"prefix": ("b",)}, True),
        ({"prefix": ("a",)}, {"prefix": ("out/b",)}, False),
        ({"prefix": ("a",)}, {"prefix": ("out/",)}, True),
        ({"prefix": ("a",)}, {"prefix": ("ou",)}, True),
        ({}, {"prefix": ("in/",)}, False),
        ({"prefix": ("a",), "suffix": ("x",)}, {"prefix": ("out/a",), "suffix": ("y",)}, False),
    ],
)
def test_filters_that_no_output_passes_part_the_two(output: dict, reads: dict, loop: bool) -> None:
    url = "s3://one/in/out" if any("out" in p or p in ("ou", "in/") for p in reads.get("prefix", ())) else "s3://one/in"
    assert bool(looped(function("a", Input(url="s3://one/in", **reads), Output(url=url, **output)))) is loop


TEXTS = st.text("ab/.", max_size=4)


@given(
    st.lists(TEXTS, max_size=2),
    st.lists(TEXTS, max_size=2),
    st.lists(TEXTS, max_size=2),
    st.lists(TEXTS, max_size=2),
    st.sampled_from(["", "/a", "/a/b"]),
    st.text("ab/.", min_size=1, max_size=6),
)
def test_no_output_that_would_be_answered_is_missed(
    out_prefix: list[str], out_suffix: list[str], in_prefix: list[str], in_suffix: list[str], folder: str, name: str
) -> None:
    """Any name that passes the output's filters and, below the input, the input's, is a link."""
    output = Output(url=f"s3://one{folder}", prefix=tuple(out_prefix), suffix=tuple(out_suffix))
    place = Input(url="s3://one", prefix=tuple(in_prefix), suffix=tuple(in_suffix))
    key = f"{folder.lstrip('/')}/{name}" if folder else name

    def passes(text: str, prefix: tuple[str, ...], suffix: tuple[str, ...]) -> bool:
        return (not prefix or text.startswith(prefix)) and (not suffix or text.endswith(suffix))

    assume(passes(name, output.prefix, output.suffix) and passes(key, place.prefix, place.suffix))
    any_function = function("a", "s3://other/in", "s3://other/out")
    assert lands(any_function, output, any_function, place)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("", "s3.default", True),
        ("s3.mine", "s3.yours", True),
        ("minio.default", "", True),
        ("minio.edge", "minio.default", False),
        ("minio.edge", "minio.edge", True),
        ("minio.lab", "minio.lab", True),
        ("minio.lab", "minio.default", False),
        ("minio.block", "minio.default", False),
    ],
)
def test_buckets_of_one_name_on_two_servers_are_two(one: str, other: str, same: bool) -> None:
    more = {
        "settings": {"storage_providers": {"minio.lab": {"endpoint": "https://lab:9000"}}},
        "providers": {"minio.block": "block:x"},
    }
    made = function("a", Input(url="s3://one/in", provider=one), Output(url="s3://one/in", provider=other), **more)
    assert bool(looped(made)) is same


def test_the_default_server_of_a_cluster_is_that_cluster(tmp_path: Path) -> None:
    def at(cluster: str, reads: str, writes: str) -> Function:
        return function(
            f"f-{cluster}", Input(url="s3://fire/in", provider=reads), Output(url="s3://fire/in", provider=writes),
            runtime="oscar", settings={"cluster_id": cluster},
        )  # fmt: skip

    assert not looped(at("edge", "minio.default", "minio.cloud"))
    assert "'f-cloud' writes" in looped(
        at("edge", "minio.default", "minio.cloud"), at("cloud", "minio.default", "minio.edge")
    )


def test_an_output_above_the_input_is_a_doubt_and_no_loop() -> None:
    made = function("a", "s3://one/in/new", "s3://one")
    assert not looped(made)
    assert doubts(made) == [
        "a: the output s3://one lies above the input s3://one/in/new: an output in a folder 'in/new' would be answered "
        "again"
    ]
    assert not doubts(function("a", "s3://one/in", Output(url="s3://one", prefix=("x",))))


def test_a_server_in_the_url_is_that_of_a_provider() -> None:
    settings = {"storage_providers": {"minio.lab": {"endpoint": "https://Lab:9000/"}}}
    lab, here = Input(url="s3://one/in", provider="minio.lab"), Input(url="s3://one/in")
    assert looped(function("a", lab, "s3+https://lab:9000/one/in/x", settings=settings))
    assert not looped(function("a", here, "s3+https://lab:9000/one/in/x", settings=settings))
