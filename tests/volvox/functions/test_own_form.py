from __future__ import annotations

from pathlib import Path

import pytest

from tests.volvox.functions.made_up import OWN, defined, only, refused
from volvox.errors import InvalidInput
from volvox.functions.definition import Bulk, Function, Input, Output
from volvox.functions.reading import read
from volvox.identity import digest_of


def test_three_lines_are_a_function(tmp_path: Path) -> None:
    function = only(tmp_path, OWN)
    assert function == Function(
        name="digits", model="digits", runtime="local", inputs=(Input(url=f"file://{tmp_path}/drop"),),
        outputs=(Output(url=f"file://{tmp_path}/answers"),),
    )  # fmt: skip


def test_everything_can_be_stated(tmp_path: Path) -> None:
    function = only(
        tmp_path,
        """
name: everything
description: All there is.
image: example/image
command: python answer.py --fast
runtime: docker
placement: {prefer: fastest, call_seconds: 2}
inputs:
- {url: s3://films/new, prefix: [a-, b-], suffix: .mp4, provider: minio.lab, per_user: yes}
- ~/drop
outputs: [{url: s3://films/done, suffix: [.json]}, answers]
arguments: {top: 3}
accept: application/json
environment: {A: 1, B: "two", TOKEN: "{{ prefect.blocks.secret.token }}"}
resources: {memory: 1.5Gi, cpu: 500m, gpus: 1, storage: 2Gi}
scaling: {min_scale: 1, max_scale: 4, idle_seconds: 60, warm: 0 8 * * 1-5 for 10h, concurrency: 2, batch: 8}
retries: {attempts: 2, first_pause_seconds: 0.5, longest_pause_seconds: 10}
timeout_seconds: 20
deadline_seconds: 3600
priority: -5
per_user: 2
keep_days: 1.5
max_object_mb: 500
fetches: no
trigger: direct
settings: {annotations: {a: b}}
providers: {minio.lab: {endpoint: "http://ceph:7480", verify: false, credentials: "block:lab"}}
""",
    )
    stated = function.model_dump(exclude_defaults=True)
    assert set(stated) == set(Function.model_fields) - {"origin", "model", "flow", "script", "bulk"}
    assert function.command == ("python", "answer.py", "--fast")
    assert function.inputs[0] == Input(
        url="s3://films/new", prefix=("a-", "b-"), suffix=(".mp4",), provider="minio.lab", per_user=True
    )
    assert function.environment["A"] == "1"
    assert function.resources.model_dump() == {"memory_mb": 1536, "cpu": 0.5, "gpus": 1, "storage_mb": 2048}
    assert function.scaling.warm == ("0 8 * * 1-5 for 10h",)
    assert function.providers == {"minio.lab": "block:lab"}
    assert function.settings["storage_providers"] == {"minio.lab": {"endpoint": "http://ceph:7480", "verify": False}}


@pytest.mark.parametrize(
    "text",
    [
        "functions:\n- {name: one, model: a}\n- {name: two, image: b, script: plants.sh}\n",
        "name: one\nmodel: a\n---\nname: two\nimage: b\nscript: plants.sh\n---\n",
    ],
)
def test_a_file_may_hold_several(tmp_path: Path, text: str) -> None:
    one, two = defined(tmp_path, text).functions
    assert (one.name, one.model, two.name, two.script) == ("one", "a", "two", "#!/bin/sh\necho plants.sh\n")


@pytest.mark.parametrize(
    ("text", "name"), [("model: digits/3", "digits"), ("model: digits@best", "digits"), ("image: x", "lake")]
)
def test_a_function_without_a_name_has_its_models_or_its_files(tmp_path: Path, text: str, name: str) -> None:
    [function] = defined(tmp_path, text, "lake.yaml").functions
    assert function.name == name


def test_a_script_may_stand_in_the_file(tmp_path: Path) -> None:
    text = "image: x\nname: n\nscript: |\n  #!/bin/bash\n  echo $INPUT_FILE_PATH\n"
    assert only(tmp_path, text).script == "#!/bin/bash\necho $INPUT_FILE_PATH\n"
    assert only(tmp_path, 'image: x\nname: n\nscript: {text: "echo hello"}').script == "echo hello"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: digits\nruntme: local", ":2: there is no key 'runtme', did you mean 'runtime'?; allowed are name, "),
        ("model: digits\nruntime: docekr",
         ":2: runtime is 'docekr', did you mean 'docker'?; allowed are auto, local, "),
        ("model: digits\nplaces: {int: a}",
         ":2: there is no key 'places.int', did you mean 'in'?; allowed are in, out"),
        ("model: digits\nplaces:\n  in: {suffix: x}", ":3: places.in has no url"),
        ("model: digits\nplaces:\n  in:\n  - {url: a, sufix: x}",
         ":4: there is no key 'places.in.0.sufix', did you mean"),
        ("model: digits\nplaces: {out: {url: a, per_user: yes}}", ":2: there is no key 'places.out.per_user'"),
        ("model: digits\nplaces: {in: ftp://x/y}",
         ":2: places.in is 'ftp://x/y': 'ftp://x/y' is no address of a place; give a path"),
        ("model: digits\nresources: {memory: 512}", ":2: resources.memory is 512; these are 512 bytes"),
        ("model: digits\nresources:\n  cpu: fast", ":3: resources.cpu is 'fast'; write a number with one of the units"),
        ("model: digits\nresources: {memory_mb: 0.5}",
         ":2: resources.memory_mb is 0.5; write a whole number of MB from 1"),
        ("model: digits\nscaling: {min_scale: 3, max_scale: 2}",
         ":2: scaling is keys and values: min_scale is 3 and max"),
        ("model: digits\nscaling: {warm: daily}", ":2: scaling.warm holds 'daily'; write a cron expression"),
        ("model: digits\nscaling: {batch: yes}", ":2: scaling.batch is yes; write a whole number from 1 to 1024"),
        ("model: digits\ntimeout_seconds: .inf", ":2: timeout_seconds is '.inf'; write a number from 0.001 to"),
        ("model: digits\npriority: 101", ":2: priority is 101; write a whole number from -100 to 100"),
        ("model: digits\nfetches: perhaps", ":2: fetches is 'perhaps'; write true or false"),
        ("model: digits\nimage: x", ":1: give a model, or an image, or a flow, not several"),
        ("runtime: local", ":1: give a model, or an image, or a flow"),
        ("flow: cycle\nruntime: docker", ":1: a flow runs where its deployment says"),
        ("model: digits\nruntime: flow", ":1: a flow runs where its deployment says"),
        ("flow: cycel", ":1: flow is 'cycel', did you mean 'cycle'?"),
        ("model: digits\nscript: plants.sh", ":1: a model needs no script; give an image for one"),
        ("model: a b", ":1: model is 'a b'; write NAME, NAME/VERSION or NAME@ALIAS"),
        ("model: digits\nname: -x", ":2: name is '-x': use 1 to 64 letters"),
        ("name: x\nimage: [a]", ":2: image is a list; write a text"),
        ("image: x\nscript: ''", ":2: script is ''; write the path of a script beside this file"),
        ("image: x\ncommand: it's", ":2: command is \"it's\", which no shell can read"),
        ("model: digits\nenvironment: {HF_TOKEN: hunter2}", ":2: environment.HF_TOKEN looks like a secret"),
        ("model: digits\nenvironment: {A: on}", ":2: environment.A is read as a truth value; put it in quotes: 'on'"),
        ("model: digits\nenvironment: {a b: c}", ":2: environment.a b cannot name a variable"),
        ("model: digits\nproviders: {gcs.x: block:x}",
         ":2: providers.gcs.x : there are no storage providers of the type"),
        ("model: digits\nproviders: {minio.x: {access_key: a}}",
         ":2: providers.minio.x.access_key is a secret, which does"),
        ("model: digits\nproviders: {minio.x: hunter2}", ":2: providers.minio.x does not say where credentials stand"),
        ("functions: [{model: a}, {model: a}]", ":1: functions.1 is 'a', which stands in line 1 too"),
        ("functions: [{model: a}]\nruntime: local", ":2: there is no key 'runtime'"),
        ("functions: []", ":1: functions holds none"),
        ("functions: [1]", ":1: functions.0 is 1; write keys and values"),
        ("model: digits\nmodel: [", ":2: not YAML: "),
        ("model: !!python/object:os.system x", ":1: model is tagged"),
        ("&a [*a]", ":1: 0 holds itself"),
        ("", ": it is empty; a function's file says at least model"),
        ("- model: digits", ":1: it holds a list; a function's file holds keys and values"),
        ("digits", ":1: it holds 'digits'; a function's file holds keys and values"),
        ("foo: 1\nbar: 2", ":1: it defines no function: it holds foo, bar; expected are model, image"),
        ("apiVersion: v1\nkind: Pod\nname: x", ":1: it is a manifest of Kubernetes (Pod) and no function"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_with_line_key_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    told = refused(tmp_path, text)
    assert told.startswith(said)
    assert "hunter2" not in told


@pytest.mark.parametrize(
    "url", ["webdavs://ann:hunter2@host/in", "s3+https://ann:hunter2@h/b", "https://h/in?token=hunter2"]
)
def test_a_secret_in_a_url_is_not_told(tmp_path: Path, url: str) -> None:
    assert "hunter2" not in refused(tmp_path, f"model: digits\nplaces: {{in: '{url}'}}")


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    told = refused(tmp_path, "model: digits\npriority: 1000\nruntime: x\nfoo: 1\n")
    assert [line.split(":")[1] for line in told.splitlines()] == ["3", "2", "4"]


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    for content, said in ((b"\xff\xfe", "no text in UTF-8"), (b"a: " + b"x" * (1 << 20), "larger than 1 MB")):
        (tmp_path / "f.yaml").write_bytes(content)
        with pytest.raises(InvalidInput, match=said):
            read(tmp_path / "f.yaml")
    for path, said in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(InvalidInput, match=said):
            read(path)


def test_a_script_that_is_not_there_is_missing_and_no_mistake(tmp_path: Path) -> None:
    found = defined(tmp_path, "image: x\nname: n\nscript: other.sh")
    [missing] = found.missing
    assert missing.path == tmp_path / "other.sh"
    assert f":3: script is 'other.sh', and there is no {tmp_path}/other.sh; put the script there" in missing.message
    assert found.functions[0].script == ""


DROPS = "model: digits\nplaces: {in: drop, out: answers}\n"


def test_large_drops_go_to_a_pool_where_that_is_stated(tmp_path: Path) -> None:
    assert only(tmp_path, DROPS).bulk is None
    assert only(tmp_path, f"{DROPS}bulk: {{from: 1000}}\n").bulk == Bulk(least=1000, on="local", most=10_000)
    stated = only(tmp_path, f"{DROPS}bulk: {{from: 50, on: docker, most: 100}}\n")
    assert stated.bulk == Bulk(least=50, on="docker", most=100)


def test_a_function_without_it_has_the_version_that_it_had_before_there_was_any(tmp_path: Path) -> None:
    function = only(tmp_path, DROPS)
    before = {name: value for name, value in function.model_dump(mode="json").items() if name != "bulk"}
    assert function.version == digest_of(["function", before])
    assert only(tmp_path, f"{DROPS}bulk: {{from: 50}}\n").version != function.version


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{DROPS}bulk: {{from: 1}}\n", ":3: bulk.from is 1; write a whole number of files from 2 to 1000000"),
        (f"{DROPS}bulk: {{on: docker}}\n", ":3: bulk.from is missing"),
        (f"{DROPS}bulk: 50\n", ":3: bulk is 50; write keys and values"),
        (
            f"{DROPS}bulk: {{from: 50, onn: x}}\n",
            ":3: there is no key 'bulk.onn', did you mean 'on'?; allowed are from,",
        ),
        (f"{DROPS}bulk: {{from: 50, on: a/b}}\n", ":3: bulk.on is 'a/b'; write the name of a work pool"),
        (f"{DROPS}bulk: {{from: 50, most: 20}}\n", ":3: bulk is keys and values: from is 50 and most 20; the first is"),
        (f"{DROPS}per_user: 2\nbulk: {{from: 5}}\n", ":4: bulk is keys and values: a run has thousands of one user's"),
        (f"{DROPS}trigger: direct\nbulk: {{from: 5}}\n", ":4: bulk is keys and values: files gather in the inbox"),
        ("model: digits\nbulk: {from: 5}\n", ":2: bulk is keys and values: a run needs places"),
        (
            "image: x\nplaces: {in: a, out: b}\nbulk: {from: 5}\n",
            ":3: bulk is keys and values: a run answers files with",
        ),
    ],
)
def test_what_is_wrong_with_it_is_told_where_it_stands(tmp_path: Path, text: str, said: str) -> None:
    assert refused(tmp_path, text).startswith(said)
