"""Where the right answer is another one than that of DEEPaaS 2.6.0: its defects, none of which a client can want."""

from __future__ import annotations

from typing import Any

from tests.volvox.serving.reference.wire import Answer, Containing

ECHO = {
    "accept": ["str", "application/json"], "bool_arg": ["bool", False], "choice": ["str", "a"],
    "day": ["date", "2020-02-29"], "demo-str": ["str", "hyphen"], "do": ["str", "echo"], "float_arg": ["float", 0.5],
    "int_arg": ["int", 1], "made": ["int", 7], "null_arg": ["NoneType", None], "ranged": ["int", 3],
    "renamed": ["str", "r"], "str_arg": ["str", "text"], "texts": [["str", "x"], ["str", "y"]],
}  # fmt: skip
_TRAINING = {"epochs": 2, "rate": 0.1, "do": "train", "layers": [8, 4]}


def _text(status: int, body: str) -> Answer:
    return Answer(status, "text/plain", body)


def _json(status: int, body: Any) -> Answer:
    return Answer(status, "application/json", body)


def _job(status: str, args: dict[str, Any], **more: Any) -> Answer:
    return _json(200, {"date": "<date>", "uuid": "<uuid>", "status": status, "args": {**_TRAINING, **args}, **more})


_NAMES_MODELS = "A model that is not served is answered with the names of those that are."
_NAMES_EXCEPTION = "An exception of the module is named, instead of 'Server got itself in trouble'."
_NAMES_MISMATCH = "What the module's schema refuses in its own answer is named."
_BYTES = "Bytes that the module returns are sent, also where it was not asked for a content type of its own."
_HEADER = "The Accept header chooses the content type, with quality values, also where the field has no location."
_ANY = "`*/*` means the module's first choice, and is not handed to the module literally."
_LIBRARIES = "The module's own webargs and marshmallow read the values; newer ones read these otherwise."
_DELETED = "A training that is cancelled, or has failed, can be deleted."

DIFFERENCES: dict[str, tuple[Answer, str]] = {
    "model-that-is-not-there": (_text(404, Containing("golden")), _NAMES_MODELS),
    "predict-of-a-model-that-is-not-there": (_text(404, Containing("golden")), _NAMES_MODELS),
    "train-of-a-model-that-is-not-there": (_text(404, Containing("golden")), _NAMES_MODELS),
    "no-slash-of-a-model-that-is-not-there": (_text(404, Containing("golden")), _NAMES_MODELS),
    "size-that-nobody-reads": (_text(404, Containing("golden")), _NAMES_MODELS),
    "schema-misses-a-key": (_text(500, Containing("Missing data for required field.")), _NAMES_MISMATCH),
    "schema-does-not-know-a-key": (_text(500, Containing("Unknown field.")), _NAMES_MISMATCH),
    "schema-wants-another-type": (_text(500, Containing("Not a valid number.")), _NAMES_MISMATCH),
    "schema-wants-a-dict": (_text(500, Containing("Invalid input type.")), _NAMES_MISMATCH),
    "answers-nan": (_text(500, Containing("float")), "NaN is no JSON: clients cannot read the answer that holds it."),
    "answers-set": (_text(500, Containing("set")), _NAMES_EXCEPTION),
    "answers-bytes": (Answer(200, "application/octet-stream", b"\x89raw"), _BYTES),
    "answers-stream": (Answer(200, "application/octet-stream", b"streamed"), _BYTES),
    "fails-raise": (_text(500, "500: KeyError: 'no such layer'"), _NAMES_EXCEPTION),
    "fails-attribute": (_text(500, "500: AttributeError: no such attribute"), _NAMES_EXCEPTION),
    "fails-refuse": (
        _json(422, {"do": ["Not this one."]}),
        "A ValidationError that predict() raises is a refusal of the arguments.",
    ),
    "fails-later": (
        _text(501, "501: Not implemented by underlying model (loaded 'golden')"),
        "NotImplementedError means what it says.",
    ),
    "fails-http": (
        _text(400, "400: the picture is empty"),
        "An HTTP error that the module raises is answered; there it hangs the request and the worker for ever.",
    ),
    "fails-exit": (
        _text(503, Containing("exit code 3")),
        "A module's process that dies is replaced and told of; there the request is never answered.",
    ),
    "accept-*/*": (_json(200, {"status": "OK", "predictions": ECHO}), _ANY),
    "accept-header-for-anything": (
        _json(200, {"status": "OK", "predictions": [{"label": "application/json", "probability": 0.5}]}),
        _ANY,
    ),
    "accept-header-with-quality": (Answer(200, "application/pdf", b"%PDF"), _HEADER),
    "accept-header-without-location": (Answer(200, "image/png", b"\x89PNG"), _HEADER),
    "form-multipart-cut-off": (
        _json(400, {"form": [Containing("")]}),
        "A form that cannot be read is the sender's fault, not the server's.",
    ),
    "train-is-not-implemented": (
        _job("error", {"do": "later"}, message=Containing("ot implemented")),
        "A training that is not implemented says so.",
    ),
    "train-with-a-file": (
        _job(
            "done",
            {"weights": ["weights", "text/plain", "a.txt"]},
            result={
                "output": {
                    "arguments": {
                        "do": ["str", "train"],
                        "epochs": ["int", 2],
                        "layers": [["int", 8], ["int", 4]],
                        "rate": ["float", 0.1],
                        "weights": ["file", "weights", "content", "text/plain", "a.txt"],
                    },
                    "accuracy": 0.5,
                },
                "finish_date": "<date>",
                "duration": "<duration>",
            },
        ),
        "train() gets a file as predict() does; there it gets a closed one and fails.",
    ),
    "delete-a-training-that-failed": (
        _job("error", {"do": "raise"}, message="the loss is not a number"),
        _DELETED,
    ),
    "delete-a-training-that-runs": (_job("cancelled", {"do": "long"}), _DELETED),
    "nodoc-ui": (_text(404, "404: Not Found"), "Without documentation its old address is not found."),
    "query-commas-empty": (_json(200, {"status": "OK", "predictions": {**ECHO, "commas": []}}), _LIBRARIES),
    "query-datetime-2024-02-29": (
        _json(200, {"status": "OK", "predictions": {**ECHO, "moment": ["datetime", "2024-02-29T00:00:00"]}}),
        _LIBRARIES,
    ),
    "json-commas-as-a-list": (_json(422, {"commas": ["Not a valid delimited list."]}), _LIBRARIES),
    "json-commas-as-a-number": (_json(422, {"commas": ["Not a valid delimited list."]}), _LIBRARIES),
}
