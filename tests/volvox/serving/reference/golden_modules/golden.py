"""A module as it is written for DEEPaaS 2.x, with every kind of argument: it says what it was called with."""

import datetime
import io
import os
import pathlib
import time
import uuid

from aiohttp import web
from deepaas.model.v2.wrapper import UploadedFile
from webargs import ValidationError, fields, validate


def get_metadata():
    return {
        "name": "Golden",
        "author": "A test",
        "license": "MIT",
        "version": "1.2",
        "description": "Says what it was called with.",
        "url": "https://example.com/golden",
        "unusual": {"nested": [1, 2.5, None]},
    }


def get_predict_args():
    legacy = {
        "int_arg": fields.Int(missing=1, description="A whole number"),
        "float_arg": fields.Float(missing=0.5, validate=validate.Range(0, 1), description="  A share  "),
        "bool_arg": fields.Bool(missing=False, required=False),
        "str_arg": fields.Str(missing="text", enum=["text", "other"], description="One of two"),
        "null_arg": fields.Str(missing=None),
        "choice": fields.Str(missing="a", validate=validate.OneOf(["a", "b"])),
        "ranged": fields.Int(missing=3, validate=validate.Range(1, 9)),
        "sized": fields.Str(validate=validate.Length(min=2, max=4)),
        "exact": fields.Str(validate=validate.Length(equal=3)),
        "worded": fields.Str(validate=validate.Regexp("^[a-z]+$")),
        "both": fields.Str(validate=[validate.Length(min=2), validate.OneOf(["aa", "b"])]),
        "even": fields.Int(validate=lambda value: value % 2 == 0),
        "ints": fields.List(fields.Int(), description="Numbers"),
        "texts": fields.List(fields.Str(), missing=["x", "y"]),
        "mapping": fields.Dict(),
        "file": fields.Field(type="file", location="form", description="Any file"),
        "header_arg": fields.Str(data_key="X-Golden", location="headers"),
        "query_only": fields.Int(location="query"),
        "form_only": fields.Int(location="form"),
        "json_only": fields.Int(location="json"),
        "made": fields.Int(missing=lambda: 7),
        "commas": fields.DelimitedList(fields.Int()),
    }
    modern = {
        "nested": fields.Nested({"depth": fields.Int(required=True), "name": fields.Str(load_default="n")}),
        "day": fields.Date(load_default=datetime.date(2020, 2, 29), metadata={"description": "A day"}),
        "moment": fields.DateTime(),
        "site": fields.Url(metadata={"description": "A site"}),
        "mail": fields.Email(),
        "ident": fields.UUID(),
        "demo-str": fields.Str(load_default="hyphen", metadata={"description": "A name with a hyphen"}),
        "renamed": fields.Str(data_key="wire-name", load_default="r", metadata={"description": "Called otherwise"}),
        "secret": fields.Str(metadata={"format": "password", "example": "abc", "x-more": 1}),
        "picture": fields.Field(
            data_key="image", metadata={"type": "file", "location": "form", "description": "An image"}
        ),
        "do": fields.Str(load_default="echo", metadata={"description": "What to do", "enum": ["echo", "raise"]}),
        "accept": fields.Str(
            load_default="text/plain",
            validate=validate.OneOf(["application/json", "image/png", "text/plain"]),
            metadata={"description": "Content type"},
        ),
    }
    return {**legacy, **modern}


def predict(**arguments):
    do, accept = arguments["do"], arguments["accept"]
    if do in ("raise", "refuse", "later", "attribute", "http", "exit"):
        return _fail(do)
    if do == "sleep":
        time.sleep(0.3)
    if accept in ("image/png", "text/plain"):
        return _bytes(do, accept)
    answers = {
        "text": "plain text",
        "number": 3.5,
        "truth": True,
        "nothing": None,
        "list": [1, "é", {"a": None}],
        "nan": float("nan"),
        "set": {1, 2},
        "bytes": b"\x89raw",
        "stream": io.BytesIO(b"streamed"),
    }
    return answers[do] if do in answers else _echo(arguments)


def get_train_args():
    return {
        "epochs": fields.Int(missing=2, validate=validate.Range(1, 100), description="How often"),
        "rate": fields.Float(load_default=0.1, metadata={"description": "How fast"}),
        "do": fields.Str(missing="train"),
        "note": fields.Str(),
        "layers": fields.List(fields.Int(), missing=[8, 4]),
        "weights": fields.Field(type="file", location="form"),
    }


def train(**arguments):
    if arguments["do"] == "raise":
        raise ValueError("the loss is not a number")
    if arguments["do"] == "later":
        raise NotImplementedError
    if arguments["do"] == "sleep":
        time.sleep(1.0)
    if arguments["do"] == "long":
        time.sleep(30)
    return {"arguments": _echo(arguments), "accuracy": 0.5}


def _fail(how):
    if how == "raise":
        raise KeyError("no such layer")
    if how == "refuse":
        raise ValidationError({"do": ["Not this one."]})
    if how == "later":
        raise NotImplementedError
    if how == "attribute":
        raise AttributeError("no such attribute")
    if how == "http":
        raise web.HTTPBadRequest(reason="the picture is empty")
    os._exit(3)


def _bytes(do, accept):
    if do == "stream":
        return io.BytesIO(b"streamed")
    if do == "file":
        return pathlib.Path(__file__).open("rb")
    return b"\x89PNG" if accept == "image/png" else "some text"


def _echo(arguments):
    """What came, with the type that it came as."""
    return {name: _told(value) for name, value in sorted(arguments.items())}


def _told(value):
    if isinstance(value, UploadedFile):
        content = pathlib.Path(value.filename).read_bytes().decode("latin-1")
        return ["file", value.name, content, value.content_type, value.original_filename]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return [type(value).__name__, value.isoformat()]
    if isinstance(value, uuid.UUID):
        return ["UUID", str(value)]
    if isinstance(value, dict):
        return {"dict": _echo(value)}
    if isinstance(value, (list, tuple)):
        return [_told(item) for item in value]
    return [type(value).__name__, value]
