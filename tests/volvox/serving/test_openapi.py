"""The document describes what the server does."""

from __future__ import annotations

import pytest

from tests.volvox.serving.running_server import RunningServer


def test_every_documented_get_answers_as_documented(shared: RunningServer) -> None:
    document = shared.client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    for path, operations in document["paths"].items():
        if "get" in operations:
            answer = shared.client.get(path)
            assert str(answer.status_code) in operations["get"]["responses"]


def test_the_arguments_of_a_module_are_its_parameters_and_its_form(shared: RunningServer) -> None:
    document = shared.client.get("/openapi.json?model=tiny").json()
    assert [path for path in document["paths"] if "/predict/" in path] == ["/v2/models/tiny/predict/"]
    operation = document["paths"]["/v2/models/tiny/predict/"]["post"]
    parameters = {told["name"]: told["schema"] for told in operation["parameters"]}
    assert parameters["top"] == {"type": "integer", "minimum": 1, "maximum": 9, "default": 2}
    assert parameters["labels"] == {"type": "array", "items": {"type": "string"}}
    assert "image" not in parameters
    assert operation["requestBody"]["required"] is True
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["image"]
    assert list(form["properties"]) == ["image", "top", "labels", "mode"]


def test_a_module_without_files_takes_json_too(shared: RunningServer) -> None:
    operation = shared.client.get("/openapi.json").json()["paths"]["/v2/models/strict/predict/"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "application/json",
    }


@pytest.mark.parametrize("mode", ["answer", "raise", "die"])
def test_what_predict_answers_is_documented(shared: RunningServer, mode: str) -> None:
    responses = shared.client.get("/openapi.json").json()["paths"]["/v2/models/tiny/predict/"]["post"]["responses"]
    assert str(shared.ask(mode=mode).status_code) in responses
