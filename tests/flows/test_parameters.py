"""What Prefect's UI shows for the parameters of each deployment, and what it refuses."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, get_type_hints

import pytest
from prefect.utilities.schema_tools.validation import validate

from flows.data import data
from flows.parameters import DataOptions, StagePlaces, form
from flows.placing import STAGES

FLOWS = ["cycle", *STAGES]


def schema(name: str) -> dict[str, Any]:
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    return form(flow)


@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_says_what_it_is(name: str) -> None:
    for parameter, told in schema(name)["properties"].items():
        assert len(told.get("description", "")) > 10, parameter
        assert told["title"] == parameter


def test_the_options_of_the_data_are_those_of_the_data_stage() -> None:
    taken = inspect.signature(data.fn).parameters.keys() - {"source", "name", "store"}
    assert DataOptions.__annotations__.keys() == taken
    told, direct = get_type_hints(DataOptions), get_type_hints(inspect.unwrap(data.fn))
    assert {name: told[name] for name in taken} == {name: direct[name] for name in taken}


def test_every_stage_has_a_place() -> None:
    assert tuple(StagePlaces.__annotations__) == STAGES


@pytest.mark.parametrize(
    "given",
    [
        {"source": "/data"},
        {"source": "s3://b/k?versionId=1", "name": "lake.1", "arguments": {"epochs": 3}, "image": False},
        {"source": "/d", "data_options": {"fractions": [0.5, 0.25, 0.25], "seed": 3}, "places": {"training": "docker"}},
        {"source": "/d", "data_options": None, "further_arguments": [{"seed": 1}], "processes": 2},
        {"source": "/d", "store": {"$ref": {"block_document_id": "8f2d3f8e-95f2-4a33-9d6c-6d6a1f0a8f6e"}}},
    ],
)
def test_what_can_be_used_is_taken(given: dict[str, Any]) -> None:
    validate(given, schema("cycle"), raise_on_error=True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "source"),
        ({"source": ""}, "source"),
        ({"source": "/d", "epochs": 3}, "epochs"),
        ({"source": "/d", "name": "Big Lake"}, "name"),
        ({"source": "/d", "arguments": "epochs=3"}, "arguments"),
        ({"source": "/d", "further_arguments": {"seed": 1}}, "further_arguments"),
        ({"source": "/d", "data_options": {"label": "x"}}, "data_options"),
        ({"source": "/d", "data_options": {"fractions": [0.5, 0.5]}}, "data_options"),
        ({"source": "/d", "places": {"trainin": "docker"}}, "places"),
        ({"source": "/d", "image": "perhaps"}, "image"),
        ({"source": "/d", "processes": 0}, "processes"),
        ({"source": "/d", "nodes": 0}, "nodes"),
    ],
)
def test_what_is_wrong_is_refused_and_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(Exception, match=named):
        validate(given, schema("cycle"), raise_on_error=True)


@pytest.mark.parametrize("name", FLOWS)
def test_the_types_of_every_flow_are_known_when_it_runs(name: str) -> None:
    """Prefect looks for them where the function is, which is not where a decorator is."""
    from prefect.exceptions import ParameterTypeError

    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    with pytest.raises(ParameterTypeError):
        flow.validate_parameters(dict.fromkeys(schema(name)["required"], object()))
