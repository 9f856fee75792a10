from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.volvox.functions.made_up import OSCAR, OWN, SCAR, defined
from volvox.errors import InvalidInput
from volvox.functions.definition import Function, Input, Output, Resources, Retries, Scaling
from volvox.functions.locations import url_of
from volvox.functions.reading import parse, read
from volvox.functions.writing import Form, written

NOWHERE = Path("/somewhere.yaml")


@pytest.mark.parametrize(("text", "form"), [(OWN, "volvox"), (SCAR, "scar"), (OSCAR, "oscar")])
def test_what_is_written_in_its_own_form_is_read_as_the_same(tmp_path: Path, text: str, form: Form) -> None:
    functions = defined(tmp_path, text).functions
    for each in (form, "volvox"):
        made, warnings = written(functions, each)
        assert warnings == []
        assert parse(made, NOWHERE).functions == functions, made
        assert "hunter2" not in made


def test_the_common_case_stays_short(tmp_path: Path) -> None:
    made, _ = written(defined(tmp_path, OWN).functions)
    assert made == (
        f"name: digits\nmodel: digits\nruntime: local\nplaces:\n  in: {tmp_path}/drop\n  out: {tmp_path}/answers\n"
    )


def test_a_script_is_a_block_or_a_file_beside() -> None:
    function = Function(name="a", image="x", script="#!/bin/sh\necho 'a'\n")
    assert "script: |\n  #!/bin/sh\n  echo 'a'\n" in written([function])[0]
    for form, key in (("volvox", "script"), ("scar", "init_script"), ("oscar", "script")):
        made, _ = written([function], form, script=lambda function: f"{function.name}.sh")
        assert f"{key}: a.sh\n" in made


def test_a_service_becomes_a_lambda_function_as_far_as_that_goes(tmp_path: Path) -> None:
    functions = defined(tmp_path, OSCAR).functions
    made, warnings = written(functions, "scar")
    told = yaml.safe_load(made)
    inner = told["functions"]["aws"][0]["lambda"]
    assert inner["memory"] == 2048
    assert inner["output"] == [{"storage_provider": "minio.default", "path": "plants/output"}]
    reference = functions[0].providers["clusters.site-a"]
    assert told["clusters"] == {"site-a": {"endpoint": "https://oscar.example.org", "credentials": reference}}
    said = "\n".join(warnings)
    for field in ("runtime", "resources", "scaling", "timeout_seconds", "settings"):
        assert f"plants: SCAR's form cannot say its {field}; read again it is " in said


def test_what_a_form_cannot_say_is_told() -> None:
    function = Function(
        name="a",
        image="x",
        command=("b",),
        inputs=(Input(url="file:///in", per_user=True), Input(url="s3://one/in", per_user=True)),
        outputs=(Output(url="file:///out"),),
        priority=3,
        retries=Retries(attempts=1),
        deadline_seconds=5,
        resources=Resources(gpus=2),
    )
    for form in ("scar", "oscar"):
        said = "\n".join(written([function], form)[1])
        for field in ("command", "inputs", "outputs", "priority", "retries", "deadline_seconds", "resources"):
            assert f"cannot say its {field};" in said


@pytest.mark.parametrize("form", ["scar", "oscar"])
def test_a_model_is_no_image(form: Form) -> None:
    with pytest.raises(InvalidInput, match="knows images alone"):
        written([Function(name="a", model="digits")], form)


def test_a_name_that_a_form_does_not_allow_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"cannot be written in SCAR's form: line .*name is 'a\.b'; AWS allows"):
        written([Function(name="a.b", image="x")], "scar")


def test_a_secret_in_plain_text_is_not_written() -> None:
    for form in ("volvox", "scar", "oscar"):
        made, warnings = written([Function(name="a", image="x", environment={"TOKEN": "hunter2", "A": "b"})], form)
        assert "hunter2" not in made
        assert "a: environment.TOKEN looks like a secret and is left out" in warnings


def test_one_name_on_two_clusters_is_written_as_it_was(tmp_path: Path) -> None:
    text = "functions: {oscar: [{a: {name: n, image: i}}, {b: {name: n, image: i}}]}"
    functions = defined(tmp_path, text).functions
    made, warnings = written(functions, "oscar")
    assert parse(made, NOWHERE).functions == functions
    assert warnings == []
    assert written(functions[:1], "oscar")[1] == [
        "n.a: OSCAR's form cannot say its name; read again it is 'n'",
        "n.a: OSCAR's form cannot say its settings; read again it is {'cluster_id': 'a'}",
    ]


WORDS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)
SAID = WORDS.filter(lambda text: text.strip() == text and text)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}", fullmatch=True)


def _url(start: str, names: list[str]) -> str:
    try:
        return url_of("/".join([start, *names]), Path("/"))
    except ValueError:
        return start


URLS = st.builds(
    _url,
    st.sampled_from(["file:///data", "s3://bucket", "s3+http://ceph:7480/bucket", "webdavs://host", "onedata://h/s"]),
    st.lists(SAID, max_size=3),
)
LISTS = st.lists(SAID, max_size=2).map(tuple)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**15), 10**15),
        st.floats(allow_nan=False, allow_infinity=False),
        WORDS,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=8,
)
FUNCTIONS = st.builds(
    Function,
    name=NAMES,
    description=WORDS.map(str.strip),
    image=SAID,
    script=WORDS,
    command=st.lists(WORDS, max_size=2).map(tuple),
    # Runtimes of clusters are left out: they take no settings but their own.
    runtime=st.sampled_from(["auto", "local", "docker", "lambda", "batch", "lambda-batch"]),
    inputs=st.lists(st.builds(Input, url=URLS, prefix=LISTS, suffix=LISTS, per_user=st.booleans()), max_size=2).map(
        tuple
    ),
    outputs=st.lists(st.builds(Output, url=URLS, prefix=LISTS, suffix=LISTS), max_size=2).map(tuple),
    arguments=st.dictionaries(NAMES, JSON, max_size=2),
    environment=st.dictionaries(NAMES, WORDS, max_size=2),
    resources=st.builds(
        Resources,
        memory_mb=st.none() | st.integers(1, 10**6),
        cpu=st.none() | st.integers(1, 10**4).map(float),
        gpus=st.integers(0, 2),
        storage_mb=st.none() | st.integers(1, 10**6),
    ),
    scaling=st.builds(
        Scaling, min_scale=st.integers(0, 3), max_scale=st.integers(3, 1000), idle_seconds=st.floats(0, 1e6)
    ),
    timeout_seconds=st.floats(0.001, 1e6),
    settings=st.dictionaries(NAMES, JSON, max_size=2),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(function=FUNCTIONS)
def test_any_function_is_written_and_read_as_the_same(function: Function) -> None:
    made, warnings = written([function])
    if not any("secret" in warning for warning in warnings):
        assert warnings == []
        assert parse(made, NOWHERE).functions == (function,)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(function=FUNCTIONS, form=st.sampled_from(["scar", "oscar"]))
def test_any_function_is_written_in_their_forms_or_told_why_not(function: Function, form: Form) -> None:
    try:
        made, _ = written([function], form)
    except InvalidInput as error:
        assert "form: line" in str(error)
    else:
        assert parse(made, NOWHERE).functions


def _examples() -> list[Path]:
    data = os.environ.get("VOLVOX_TEST_DATA")
    return sorted((Path(data).parent / "examples" / "functions").glob("*.yaml")) if data else []


@pytest.mark.skipif(not os.environ.get("VOLVOX_TEST_DATA"), reason="VOLVOX_TEST_DATA is not set: no examples here")
def test_files_as_their_users_wrote_them_are_written_and_read_as_the_same() -> None:
    assert _examples()
    for path in _examples():
        functions = read(path).functions
        assert parse(written(functions)[0], NOWHERE).functions == functions
        for form in ("scar", "oscar"):
            own = [function for function in functions if function.origin == form]
            if own:
                made, warnings = written(own, form)
                assert list(parse(made, NOWHERE).functions) == own
                assert warnings == []


def test_a_large_drop_is_written_in_the_words_that_are_read(tmp_path: Path) -> None:
    (function,) = defined(tmp_path, f"{OWN}bulk: {{from: 50, on: docker}}\n").functions
    made, warnings = written([function])
    assert yaml.safe_load(made)["bulk"] == {"from": 50, "on": "docker"}
    assert warnings == []
    assert parse(made, NOWHERE).functions == (function,)
