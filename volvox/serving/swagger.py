"""The Swagger 2.0 document at `/swagger.json`, as DEEPaaS 2.6.0 makes it: its user interfaces build forms from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import volvox

_TYPES = {
    "boolean": "boolean", "integer": "integer", "number": "number", "object": "object", "array": "array",
    "string": "string", "datetime": "string", "date": "string", "url": "string", "email": "string", "uuid": "string",
}  # fmt: skip
_PLACES = {
    "query": "query", "querystring": "query", "json": "body", "headers": "header", "header": "header",
    "cookies": "cookie", "form": "formData", "files": "formData", "match_info": "path",
}  # fmt: skip
_FROM_METADATA = {
    "format", "title", "description", "default", "multipleOf", "maximum", "exclusiveMaximum", "minimum",
    "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties",
    "minProperties", "required", "enum", "type", "items", "allOf", "properties", "additionalProperties", "readOnly",
    "xml", "externalDocs", "example",
}  # fmt: skip
_STRING = {"type": "string"}


def _says(description: str, **more: Any) -> dict[str, Any]:
    return {**_STRING, **more, "description": description}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{name}"}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "object", "properties": properties}
    return told | ({"required": sorted(required)} if required else {})


_STATES = ["running", "error", "completed", "cancelled"]
_DEFINITIONS = {
    "Failure": _object(["message"], message=_says("Failure message")),
    "Location": _object(["rel", "href", "type"], rel=_STRING, href={**_STRING, "format": "url"}, type=_STRING),
    "Version": _object(["version", "id"], version=_STRING, id=_STRING, links=_ref("Location"), type=_STRING),
    "Versions": _object([], versions={"type": "array", "items": _ref("Version")}),
    "ModelMeta": _object(
        ["id", "name", "description"],
        id=_says("Model identifier"),
        name=_says("Model name"),
        description=_says("Model description"),
        license=_says("Model license"),
        author=_says("Model author"),
        version=_says("Model version"),
        url=_says("Model url"),
        links={"type": "array", "items": _ref("Location")},
    ),
    "Prediction": _object(
        ["status", "predictions"],
        status=_says("Response status message"),
        predictions=_says("String containing predictions"),
    ),
    "Training": _object(
        ["uuid", "date", "status"],
        uuid=_says("Training identifier", format="uuid"),
        date=_says("Training start time", format="date-time"),
        status=_says("Training status", enum=_STATES),
        message=_says("Optional message explaining status"),
    ),
    "TrainingList": _object([], trainings={"type": "array", "items": _ref("Training")}),
}
_MODELS = (
    "DEEPaaS can load several models and server them on the same endpoint, making a call to the root of the models "
    "namespace will return the loaded models, as long as their basic metadata."
)
_UUID = {"in": "path", "name": "uuid", "required": True, "type": "string"}


class Deployed(Protocol):
    """Where the model is served."""

    @property
    def name(self) -> str:
        """Its name in URLs."""
        ...


class Model(Protocol):
    """A served model, as far as the document goes."""

    @property
    def deployed(self) -> Deployed:
        """Where it is served."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """What `volvox.worker` tells of the module: its `predict` and `train` arguments, its `response`."""
        ...


def document(
    models: Iterable[Model], *, base_path: str = "", predict: bool = True, train: bool = True
) -> dict[str, Any]:
    """The whole document.

    Args:
        models: The served models.
        base_path: What all paths begin with.
        predict: Whether predictions are offered.
        train: Whether trainings are.
    """
    made = _Definitions()
    root = f"{base_path}/v2/"
    debug = "Return debug information if enabled by API."
    paths: dict[str, Any] = {
        base_path or "/": {"get": _operation("versions", "Get available API versions", "Versions", failure=True)},
        root: {"get": _operation("versions", "Get V2 API version information", "Version", failure=True)},
        f"{root}debug/": {
            "get": {
                **_operation("debug", debug), "description": debug, "produces": ["text/plain"],
                "responses": {
                    "200": {"description": "Debug information if debug endpoint is enabled"},
                    "204": {"description": "Debug endpoint not enabled"},
                },
            }
        },
        f"{root}models/": {
            "get": _operation("models", "Return loaded models and its information", "ModelMeta", description=_MODELS)
        },
    }  # fmt: skip
    for model in models:
        path = f"{root}models/{model.deployed.name}/"
        paths[path] = {"get": _operation("models", "Return model's metadata", "ModelMeta")}
        if train:
            paths |= _trainings(f"{path}train/", model, made)
        if predict:
            paths[f"{path}predict/"] = {"post": _prediction(model, made)}
    told = {
        "swagger": "2.0",
        "info": {"title": "Volvox model API", "version": volvox.__version__},
        "paths": paths,
    }
    return {**told, "definitions": _used(told, {**_DEFINITIONS, **made.by_name})}


class _Definitions:
    """The schemas of the modules' own; each has a name of its own."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self._names: dict[str, str] = {}

    def ref(self, schema: str, fields: list[dict[str, Any]]) -> dict[str, str]:
        """A reference to the schema class `schema` of these fields, which is defined if it is not yet."""
        key = json.dumps([schema, fields], sort_keys=True)
        if key not in self._names:
            wanted = name = (schema.removesuffix("Schema") or schema) or "Generated"
            number = 1
            while name in self.by_name or name in _DEFINITIONS:
                name, number = f"{wanted}{number}", number + 1
            self._names[key] = name
            self.by_name[name] = {}  # its place, should it hold itself
            required = [field["name"] for field in fields if field["required"]]
            self.by_name[name] = _object(required, **{field["name"]: _property(field, self) for field in fields})
        return _ref(self._names[key])


def _operation(
    tag: str, summary: str, answer: str = "", *, failure: bool = False, description: str = ""
) -> dict[str, Any]:
    responses = {"200": {"schema": _ref(answer), "description": ""}} if answer else {}
    if failure:
        responses["400"] = {"schema": _ref("Failure"), "description": ""}
    told = {
        "tags": [tag], "summary": summary, "produces": ["application/json"], "parameters": [], "responses": responses,
    }  # fmt: skip
    return told | ({"description": description} if description else {})


def _prediction(model: Model, made: _Definitions) -> dict[str, Any]:
    arguments = [_accept(argument) for argument in model.description.get("predict", [])]
    told = _operation("models", "Make a prediction given the input data", "Prediction", failure=True)
    told["parameters"] = _parameters(arguments, made)
    offered = next((argument.get("choices") for argument in arguments if argument["keyword"] == "accept"), None)
    if offered:
        told["produces"] = offered
    if (response := model.description.get("response")) is not None:
        told["responses"]["200"]["schema"] = made.ref(response["schema"], response["fields"])
    return told


def _trainings(path: str, model: Model, made: _Definitions) -> dict[str, Any]:
    start = _operation("models", "Retrain model with available data")
    start["parameters"] = _parameters(model.description.get("train", []), made)
    index = _operation("models", "Get a list of trainings (running or completed)", "TrainingList")
    one = {**_operation("models", "Get status of a training", "Training"), "parameters": [_UUID]}
    cancel = {**_operation("models", "Cancel a running training"), "parameters": [_UUID]}
    return {path: {"post": start, "get": index}, f"{path}{{uuid}}": {"get": one, "delete": cancel}}


def _accept(argument: dict[str, Any]) -> dict[str, Any]:
    """The argument `accept` takes `*/*` as well, and has its first choice as default."""
    choices = argument.get("choices")
    if argument["keyword"] != "accept" or not choices:
        return argument
    return {**argument, "choices": [*(choice for choice in choices if choice != "*/*"), "*/*"], "default": choices[0]}


def _parameters(arguments: list[dict[str, Any]], made: _Definitions) -> list[dict[str, Any]]:
    """One parameter an argument; those that come in the JSON body are one parameter together."""
    told: list[dict[str, Any]] = []
    body: dict[str, Any] | None = None
    for argument in arguments:
        place = _PLACES.get(argument.get("location", ""), "query")
        if place != "body":
            parameter = {"in": place, "name": argument["name"], "required": argument["required"]}
            parameter |= {"collectionFormat": "multi"} if "items" in argument else {}
            told.append({**parameter, **_property(argument, made)})
            continue
        if body is None:
            body = {"in": "body", "name": "body", "required": False, "schema": _object([])}
            told.append(body)
        body["schema"]["properties"][argument["name"]] = _property(argument, made)
        if argument["required"]:
            body["schema"].setdefault("required", []).append(argument["name"])
    return told


def _property(argument: dict[str, Any], made: _Definitions) -> dict[str, Any]:
    """What Swagger says of one argument, or of what it is made of."""
    array, nested = "items" in argument, "fields" in argument
    told: dict[str, Any] = {}
    if array or not (argument.get("untyped") or nested):
        told["type"] = "array" if array else _TYPES.get(argument["type"], "string")
    sizes = ("minItems", "maxItems") if array or nested else ("minLength", "maxLength")
    names = {
        "format": "format", "choices": "enum", "minimum": "minimum", "maximum": "maximum", "min_length": sizes[0],
        "max_length": sizes[1], "pattern": "pattern", "read_only": "readOnly", "nullable": "x-nullable",
    }  # fmt: skip
    told |= {theirs: argument[ours] for ours, theirs in names.items() if ours in argument}
    if "default" in argument and not argument.get("default_is_made"):
        told["default"] = argument["default"]
    for said, value in argument.get("metadata", {}).items():
        name = said.replace("_", "-") if said.startswith("x_") else said
        if (name in _FROM_METADATA and name != "enum") or name.startswith("x-"):
            told[name] = value
    if array:
        told["items"] = _property(argument["item"], made)
    if "values" in argument:
        told["additionalProperties"] = _property(argument["values"], made)
    if nested:
        ref = made.ref(argument.get("schema", "Generated"), argument["fields"])
        known: dict[str, Any] = {"type": "array", "items": ref} if argument.get("many") else dict(ref)
        told |= {"allOf": [known]} if told and "$ref" in known else known
    return told


def _used(told: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Those definitions that `told` refers to, and what they refer to in turn."""
    found: dict[str, Any] = {}
    waiting = [told]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in found:
                found[name] = definitions[name]
                waiting.append(definitions[name])
    return found


def _references(told: Any) -> Iterator[str]:
    if isinstance(told, dict):
        reference = told.get("$ref")
        if isinstance(reference, str):
            yield reference.rpartition("/")[2]
        told = list(told.values())
    if isinstance(told, list):
        for item in told:
            yield from _references(item)
