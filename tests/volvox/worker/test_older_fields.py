"""Module fields with marshmallow 2, 3 and 4, with webargs, DEEPaaS and aiohttp or without: always the same."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.environments import ROOT, environment
from tests.volvox.serving.reference.modules import write_golden

ENVIRONMENTS = {
    "marshmallow2": ("marshmallow==2.21.0", "webargs==5.5.3", "setuptools<81"),
    "marshmallow2-alone": ("marshmallow==2.21.0",),
    "marshmallow3": ("marshmallow==3.26.2", "webargs==5.5.3", "setuptools<81"),
    "marshmallow3-alone": ("marshmallow==3.26.2",),
    "marshmallow3-first": ("marshmallow==3.2.0",),
    "marshmallow4": ("marshmallow==4.4.0", "webargs==8.7.1", "aiohttp==3.14.5"),
    "marshmallow4-alone": ("marshmallow==4.0.0",),
}
ASK = """
import json, sys
from volvox.worker import describing, loading

asked = json.loads(sys.argv[1])
module = loading.load(asked["module"])
arguments = describing.Arguments(loading.fields(module, "get_predict_args"))
told = lambda value: repr(dict(sorted(value.items())) if isinstance(value, dict) else value)
answers = []
for raw in asked["raw"]:
    try:
        answers.append(sorted([name, told(value)] for name, value in arguments.validated(raw).items()))
    except describing.Refused as error:
        answers.append(error.messages)
print(json.dumps({"description": arguments.description, "answers": answers}))
"""


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def python(request) -> Path:
    return environment(request.param, *ENVIRONMENTS[request.param])


def _run(python: Path, site: Path, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [python, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _ask(python: Path, site: Path, module: str, *raw: dict[str, Any]) -> dict[str, Any]:
    return json.loads(_run(python, site, ASK, json.dumps({"module": module, "raw": raw})))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_golden(tmp_path_factory.mktemp("golden") / "site")


def test_a_module_in_both_styles_is_described_alike(python: Path, site: Path) -> None:
    told = {argument["keyword"]: argument for argument in _ask(python, site, "golden")["description"]}
    assert told["int_arg"] == {
        "name": "int_arg", "keyword": "int_arg", "type": "integer", "format": "int32", "required": False,
        "help": "A whole number", "default": 1, "metadata": {"description": "A whole number"},
    }  # fmt: skip
    assert (told["float_arg"]["minimum"], told["float_arg"]["maximum"]) == (0, 1)
    assert told["str_arg"]["choices"] == ["text", "other"]
    assert told["choice"]["choices"] == ["a", "b"]
    assert (told["null_arg"]["default"], told["null_arg"]["nullable"]) == (None, True)
    assert (told["sized"]["min_length"], told["sized"]["max_length"]) == (2, 4)
    assert (told["exact"]["min_length"], told["exact"]["max_length"]) == (3, 3)
    assert told["worded"]["pattern"] == "^[a-z]+$"
    assert (told["ints"]["type"], told["ints"]["items"], told["ints"]["item"]["format"]) == (
        "array",
        "integer",
        "int32",
    )
    assert (told["file"]["type"], told["file"]["location"]) == ("file", "form")
    assert (told["picture"]["type"], told["picture"]["name"]) == ("file", "image")
    assert (told["header_arg"]["name"], told["header_arg"]["location"]) == ("X-Golden", "headers")
    assert (told["made"]["default"], told["made"]["default_is_made"]) == (7, True)
    assert [field["name"] for field in told["nested"]["fields"]] == ["depth", "name"]
    assert (told["day"]["default"], told["day"]["format"]) == ("2020-02-29", "date")
    assert told["moment"]["format"] == "date-time"
    assert (told["renamed"]["name"], told["demo-str"]["name"]) == ("wire-name", "demo-str")
    assert told["secret"]["format"] == "password"
    assert told["secret"]["metadata"] == {"format": "password", "example": "abc", "x-more": 1}


def test_defaults_are_filled_in_and_unknown_names_ignored(python: Path, site: Path) -> None:
    answer = dict(_ask(python, site, "golden", {"nobody": 1, "renamed": "by keyword"})["answers"][0])
    assert answer == {
        "int_arg": "1", "float_arg": "0.5", "bool_arg": "False", "str_arg": "'text'", "null_arg": "None",
        "choice": "'a'", "ranged": "3", "texts": "['x', 'y']", "made": "7", "day": "datetime.date(2020, 2, 29)",
        "demo-str": "'hyphen'", "renamed": "'r'", "do": "'echo'", "accept": "'text/plain'",
    }  # fmt: skip


def test_values_are_converted(python: Path, site: Path) -> None:
    raw = {
        "int_arg": "-3", "float_arg": "1e-3", "bool_arg": "true", "wire-name": "x", "ints": ["1", 2],
        "day": "2024-01-02", "mapping": {"a": [1]},
        "nested": {"depth": "4"}, "ident": "12345678123456781234567812345678", "commas": "1,2",
        "made": 8, "null_arg": None, "even": 4, "site": "https://example.com/a", "mail": "a@example.com",
    }  # fmt: skip
    answer = dict(_ask(python, site, "golden", raw)["answers"][0])
    expected = {
        "int_arg": "-3", "float_arg": "0.001", "bool_arg": "True", "renamed": "'x'", "ints": "[1, 2]",
        "day": "datetime.date(2024, 1, 2)", "mapping": "{'a': [1]}", "nested": "{'depth': 4, 'name': 'n'}",
        "ident": "UUID('12345678-1234-5678-1234-567812345678')", "commas": "[1, 2]", "made": "8", "null_arg": "None",
        "even": "4", "site": "'https://example.com/a'", "mail": "'a@example.com'",
    }  # fmt: skip
    assert {name: answer[name] for name in expected} == expected


def test_all_errors_come_at_once_by_wire_name(python: Path, site: Path) -> None:
    raw = {
        "int_arg": "1.0", "float_arg": "much", "bool_arg": "maybe", "wire-name": None, "even": 3, "mapping": "{}",
        "choice": "c", "ident": "x", "ints": "1,2",
    }  # fmt: skip
    messages = _ask(python, site, "golden", raw)["answers"][0]
    assert sorted(messages) == sorted(raw)
    assert messages["int_arg"] == ["Not a valid integer."]
    assert messages["wire-name"] == ["Field may not be null."]
    assert messages["even"] == ["Invalid value."]
    assert messages["mapping"] == ["Not a valid mapping type."]
    assert messages["ints"] == ["Not a valid list."] or messages["ints"] == {"0": ["Not a valid integer."]}


def test_what_is_required_is_asked_for(python: Path, site: Path) -> None:
    told = _ask(python, site, "golden-strict", {}, {"number": "4", "data": "text"})
    missing = ["Missing data for required field."]
    assert told["answers"][0] == {"number": missing, "data": missing}
    assert dict(told["answers"][1]) == {"number": "4", "data": "'text'", "fit": "'yes'"}


def test_a_model_that_inherits_deepaas_base_is_loaded(python: Path, site: Path) -> None:
    code = "from volvox.worker import loading; print(loading.load('golden-object').predict(left=1, right=2))"
    assert _run(python, site, code) == "{'total': 3}\n"


def test_a_method_that_the_base_leaves_open_must_be_written(python: Path, site: Path) -> None:
    code = (
        "from volvox.worker import loading; loading.load('golden-plain')\n"
        "from deepaas.model.v2.base import BaseModel\n"
        "try:\n    type('Half', (BaseModel,), {'predict': print})()\n"
        "except TypeError as error:\n    print('abstract' in str(error))\n"
    )
    assert _run(python, site, code) == "True\n"


def test_an_http_error_says_its_status_reason_and_text(python: Path, site: Path) -> None:
    code = (
        "from volvox.worker import loading; loading.load('golden-plain')\n"
        "from aiohttp import web\nfrom aiohttp.web import HTTPException, HTTPNotFound\n"
        "for error in (web.HTTPBadRequest(reason=KeyError('a\\nb')), HTTPNotFound(), web.HTTPConflict(text='no')):\n"
        "    assert isinstance(error, HTTPException) and isinstance(error, web.HTTPClientError)\n"
        "    print(error.status, error.reason, '|', error.text)\n"
    )
    expected = ["400 'a\\nb' | 400: 'a\\nb'", "404 Not Found | 404: Not Found", "409 Conflict | no"]
    assert _run(python, site, code).splitlines() == expected
