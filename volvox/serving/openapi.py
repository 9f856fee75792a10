"""The OpenAPI 3.1 document of the served models, and their `curl` lines, from the modules' arguments."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

import volvox
from volvox.serving import job_openapi, metrics, oip
from volvox.serving.served import ServedModel

_FORMATS = {"datetime": "date-time", "date": "date", "url": "uri", "email": "email", "uuid": "uuid"}
_ERRORS = {
    "400": "The body cannot be parsed.",
    "404": "No such model is served.",
    "413": "The body is too large.",
    "422": "The module refuses the arguments: a list of messages for each.",
    "429": "Too many requests wait already; come back after Retry-After seconds.",
    "500": "The module raised an exception, which the body names.",
    "501": "The module does not predict.",
    "503": "The model's process died, is starting, or its turn did not come in time.",
    "504": "The module did not answer in time.",
}


def document(models: Iterable[ServedModel], server: str) -> dict[str, Any]:
    """The whole document.

    Args:
        models: The served models.
        server: Base address that the client used.
    """
    paths: dict[str, Any] = {
        "/v2/models/": {"get": {"summary": "The served models", "tags": ["models"], "responses": _ok("The models.")}}
    }
    models = list(models)
    paths |= job_openapi.paths(models, _asked)
    for model in models:
        name = model.deployed.name
        responses = _ok("The model.")
        paths[f"/v2/models/{name}/"] = {
            "get": {"summary": f"What {name} is", "operationId": f"get_{name}", "tags": [name], "responses": responses}
        }
        paths[f"/v2/models/{name}/predict/"] = {"post": _predict(model)}
    paths |= metrics.paths() | oip.paths(models)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Volvox model API", "version": volvox.__version__},
        "servers": [{"url": server}],
        "paths": paths,
    }


def curl(model: ServedModel, server: str, file: str = "image.png") -> str:
    """A line to paste into a shell that asks `model`; `file` stands for the file to send."""
    described = model.description.get("predict", [])
    chosen = [argument for argument in described if argument["required"]]
    if not any(argument["type"] == "file" for argument in chosen):
        chosen += [argument for argument in described if argument["type"] == "file"][:1]
    parts = ["curl", "-sS"] if chosen else ["curl", "-sS", "-X", "POST"]
    for argument in chosen:
        parts += ["-F", f"{argument['name']}={f'@{file}' if argument['type'] == 'file' else _example(argument)}"]
    return shlex.join([*parts, f"{server}/v2/models/{model.deployed.name}/predict/"])


def _predict(model: ServedModel) -> dict[str, Any]:
    later = {"202": {"description": "With `?mode=async`: the job, and its address in Location."}}
    responses = _ok("The module's answer.") | later
    return {
        "summary": f"Ask {model.deployed.name}",
        "operationId": f"predict_{model.deployed.name}",
        "tags": [model.deployed.name],
        "responses": responses | {status: {"description": told} for status, told in _ERRORS.items()},
        **_asked(model.description.get("predict", [])),
    }


def _asked(described: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the arguments of a function go."""
    files = [argument for argument in described if argument["type"] == "file"]
    values = [argument for argument in described if argument["type"] != "file"]
    in_headers = [argument for argument in values if argument.get("location") in ("headers", "header")]
    values = [argument for argument in values if argument not in in_headers]
    operation: dict[str, Any] = {
        # A value may come in the query or in the body, so that neither place can call it required.
        "parameters": [
            {"name": argument["name"], "in": "query", "description": argument["help"], "schema": _schema(argument)}
            for argument in values
        ]
        + [
            {"name": argument["name"], "in": "header", "description": argument["help"], "schema": _schema(argument)}
            for argument in in_headers
        ],
    }
    if described:
        form = {"multipart/form-data": {"schema": _object([*files, *values])}}
        plain = {
            kind: {"schema": _object(values)} for kind in ("application/x-www-form-urlencoded", "application/json")
        }
        needs_file = any(argument["required"] for argument in files)
        operation["requestBody"] = {"required": needs_file, "content": form if needs_file else form | plain}
    return operation


def _object(arguments: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": "object",
        "properties": {
            argument["name"]: _schema(argument) | ({"description": argument["help"]} if argument["help"] else {})
            for argument in arguments
        },
    }
    required = [argument["name"] for argument in arguments if argument["required"] and argument["type"] == "file"]
    return told | ({"required": required} if required else {})


def _schema(argument: dict[str, Any]) -> dict[str, Any]:
    kind = argument["type"]
    if kind == "file":
        return {"type": "string", "contentMediaType": "application/octet-stream"}
    told: dict[str, Any] = {"type": kind if kind not in _FORMATS else "string"}
    if kind in _FORMATS:
        told["format"] = _FORMATS[kind]
    if kind == "array":
        items = argument.get("items", "string")
        told["items"] = {"type": "string" if items in _FORMATS or items == "file" else items}
    if argument.get("choices"):
        told["enum"] = argument["choices"]
    told |= {name: argument[name] for name in ("minimum", "maximum") if argument.get(name) is not None}
    if argument.get("default") is not None:
        told["default"] = argument["default"]
    return told


def _example(argument: dict[str, Any]) -> str:
    if argument.get("choices"):
        return str(argument["choices"][0])
    if argument.get("minimum") is not None:
        return str(argument["minimum"])
    return {"integer": "1", "number": "1.0", "boolean": "true"}.get(argument["type"], "TEXT")


def _ok(description: str) -> dict[str, Any]:
    return {"200": {"description": description, "content": {"application/json": {}}}}
