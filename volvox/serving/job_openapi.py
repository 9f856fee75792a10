"""Jobs and trainings in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from volvox.serving.job_store import STATES
from volvox.serving.served import ServedModel

_TEXT, _STREAM, _ANY = {"text/plain": {}}, {"text/event-stream": {}}, {"*/*": {}}
_UUID = {"name": "uuid", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}
_GONE = {"404": {"description": "There is no such job."}}
_TIME = {"type": ["string", "null"], "format": "date-time"}
_STEP = {
    "type": ["object", "null"],
    "description": "The last step that a training told of.",
    "properties": {
        "done": {"type": ["number", "null"]},
        "total": {"type": ["number", "null"]},
        "unit": {"type": "string"},
        "metrics": {"type": "object"},
    },
}
JOB = {
    "type": "object",
    "required": ["uuid", "kind", "model", "state", "reason", "created"],
    "properties": {
        "uuid": {"type": "string"},
        "kind": {"enum": ["predict", "train"]},
        "model": {"type": "string"},
        "version": {"type": "string"},
        "model_version": {"type": "string"},
        "module": {"type": "string"},
        "state": {"enum": list(STATES)},
        "reason": {"type": "string", "description": "Why it waits, failed or was cancelled."},
        "position": {"type": ["integer", "null"], "description": "Its place among those that wait, from 1."},
        "created": _TIME,
        "started": _TIME,
        "finished": _TIME,
        "runs": {"type": "integer", "description": "How often it was begun: again where the server ended meanwhile."},
        "progress": _STEP,
        "args": {"type": "object", "description": "The arguments of a training, with defaults."},
        "links": {"type": "object"},
    },
}
_TRAINING = {
    "type": "object",
    "required": ["date", "args", "uuid", "status"],
    "properties": {
        "date": {"type": "string", "description": "When it was asked for: local, without a zone."},
        "args": {"type": "object"},
        "uuid": {"type": "string"},
        "status": {"enum": ["running", "done", "error", "cancelled"]},
        "message": {"type": "string", "description": "What went wrong."},
        "result": {
            "type": "object",
            "properties": {
                "output": {"description": "What the module's `train` returned."},
                "finish_date": {"type": "string"},
                "duration": {"type": "string"},
            },
        },
    },
}


def paths(models: Iterable[ServedModel], asked: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> dict[str, Any]:
    """The paths of jobs, and those of the trainings of `models`.

    Args:
        models: The served models.
        asked: Makes `parameters` and `requestBody` of the description of a function's arguments.
    """
    told = _jobs()
    for model in models:
        if "train" in model.description.get("functions", ()):
            told |= _trainings(model.deployed.name, asked(model.description.get("train", [])))
    return told


def _jobs() -> dict[str, Any]:
    texts = {"type": "string"}
    filters = [
        _query("model", "Only those of this model.", texts),
        _query("state", "Only those in this state.", {"enum": list(STATES)}),
        _query("kind", "Only predictions, or only trainings.", {"enum": ["predict", "train"]}),
        _query("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
    ]
    listed = {"type": "object", "properties": {"jobs": {"type": "array", "items": JOB}}}
    wrong = {"422": {"description": "There is no such state or kind, or the limit is none."}}
    follow = _query("follow", "Live, as server-sent events `log`, `progress` and `state`.", {"type": "boolean"})
    again = {"name": "Last-Event-ID", "in": "header", "schema": texts, "description": "Go on after this event."}
    path = {"name": "path", "in": "path", "required": True, "schema": texts}
    result = {
        "409": {"description": "It has not finished, or was cancelled."},
        "422": {"description": "It failed: the module refused the arguments."},
        "500": {"description": "It failed."},
    }
    over = {"204": {"description": "Everything was told, and nothing will come any more."}}
    return {
        "/v2/jobs/": {
            "get": _operation("The jobs, newest first", "list_jobs", _json("The jobs.", listed) | wrong, filters)
        },
        "/v2/jobs/{uuid}": {
            "get": _operation("A job", "get_job", _json("The job.", JOB) | _GONE, [_UUID]),
            "delete": _operation(
                "Cancel a job, or remove a finished one with its files", "delete_job",
                _json("The job; nothing of it runs any more.", JOB) | _GONE, [_UUID],
            ),
        },
        "/v2/jobs/{uuid}/result": {
            "get": _operation(
                "What a job answered", "get_job_result",
                {"200": {"description": "As who had waited would have got it.", "content": _ANY}} | result | _GONE,
                [_UUID],
            )
        },
        "/v2/jobs/{uuid}/log": {
            "get": _operation(
                "What a job printed", "get_job_log",
                {"200": {"description": "The log.", "content": _TEXT | _STREAM}} | over | _GONE, [_UUID, follow, again],
            )
        },
        "/v2/jobs/{uuid}/output/": {
            "get": _operation("The files a training wrote", "list_job_output", _json("Paths and sizes.", {}) | _GONE,
                              [_UUID])
        },
        "/v2/jobs/{uuid}/output/{path}": {
            "get": _operation(
                "A file that a training wrote", "get_job_output",
                {"200": {"description": "The file.", "content": {"application/octet-stream": {}}}} | _GONE,
                [_UUID, path],
            )
        },
    }  # fmt: skip


def _trainings(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    place = f"/v2/models/{name}/train/"
    gone = {"404": {"description": "There is no such training, or no such model."}}
    refused = {
        "400": {"description": "The body cannot be parsed."},
        "413": {"description": "The body is too large."},
        "422": {"description": "The module refuses the arguments: a list of messages for each."},
        "429": {"description": "Too many jobs wait already; come back after Retry-After seconds."},
        "501": {"description": "The module does not train."},
        "503": {"description": "The server is ending, or the module did not say in time whether it takes them."},
    }
    trainings = {"type": "array", "items": _TRAINING}
    begin = _operation(f"Train {name}", f"train_{name}", _json("The training.", _TRAINING) | gone | refused, [], name)
    listed = _operation(f"The trainings of {name}", f"list_trainings_{name}", _json("All.", trainings) | gone, [], name)
    one = _json("The training.", _TRAINING) | gone
    return {
        place: {"get": listed, "post": begin | asked},
        place + "{uuid}": {
            "get": _operation(f"A training of {name}", f"get_training_{name}", one, [_UUID], name),
            "delete": _operation(f"Cancel a training of {name}, or remove a finished one", f"delete_training_{name}",
                                 one, [_UUID], name),
        },
    }  # fmt: skip


def _operation(
    summary: str, number: str, responses: dict[str, Any], parameters: list[dict[str, Any]], tag: str = "jobs"
) -> dict[str, Any]:
    return {
        "summary": summary, "operationId": number, "tags": [tag], "parameters": parameters, "responses": responses
    }  # fmt: skip


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": description, "content": {"application/json": {"schema": schema}}}}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}
