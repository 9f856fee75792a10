"""Call one function of a module in this process: `python -m volvox.worker REQUEST`.

REQUEST is a JSON file: `{"module", "function", "arguments", "places", "result"}`. `arguments` are raw values that the
module's own fields turn into keywords; `places` are paths, passed where the signature or the schema names them. Besides
the module's own functions there are `describe`, `validate:FUNCTION` (the keywords it would get, or a refusal; nothing
is run) and `score` (see `volvox.worker.scoring`). The answer is written to the file `result` (by a rename) as
`{"result": ...}` or `{"error": {"kind": "refused" | "missing" | "failed", "message", "messages", "trace"}}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from volvox.worker import describing, loading

_FIELDS = {"train": "get_train_args", "predict": "get_predict_args", "predict_batch": "get_predict_args"}


def call(request: dict[str, Any]) -> Any:
    """Do what `request` asks and return the function's own result."""
    module = loading.load(request["module"])
    name = request["function"]
    if name == "describe":
        return describe(module)
    raw = request.get("arguments") or {}
    if name.startswith("validate:"):
        name = name.removeprefix("validate:")
        loading.function(module, name)
        return json.loads(json.dumps(_keywords(module, name, raw), default=str))
    if name == "score":
        from volvox.worker import scoring

        return scoring.score(module, raw)
    called = loading.function(module, name)
    keywords = _keywords(module, name, raw)
    fields = loading.fields(module, _FIELDS.get(name, ""))
    for place, path in (request.get("places") or {}).items():
        if path and (place in fields or loading.accepts(called, place)):
            keywords[place] = path
    return called(**keywords)


def _keywords(module: Any, name: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Raw arguments of function `name` through the module's own fields; a name that no field has is refused."""
    fields = loading.fields(module, _FIELDS.get(name, ""))
    if name in _FIELDS:
        known = {told["name"] for told in describing.describe(fields)}
        if unknown := sorted(set(raw) - known):
            raise describing.Refused({key: ["Unknown argument."] for key in unknown})
    return describing.validated(fields, raw) if fields else dict(raw)


def describe(module: Any) -> dict[str, Any]:
    """What a module offers: its functions, metadata and arguments."""
    try:
        metadata = loading.function(module, "get_metadata")()
    except (loading.Missing, NotImplementedError):
        metadata = {}
    return {
        "functions": [name for name in loading.FUNCTIONS if getattr(module, name, None) is not None],
        "metadata": json.loads(json.dumps(metadata, default=str)),
        "predict": describing.describe(loading.fields(module, "get_predict_args")),
        "train": describing.describe(loading.fields(module, "get_train_args")),
        "response": describing.describe_schema(getattr(module, "schema", None)),
    }


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The result of `call`, or its error, as JSON."""
    try:
        return {"result": json.loads(json.dumps(call(request), default=as_json))}
    except describing.Refused as error:
        return {"error": {"kind": "refused", "message": str(error), "messages": error.messages}}
    except loading.Missing as error:
        return {"error": {"kind": "missing", "message": str(error)}}
    except Exception as error:
        refused = type(error).__name__ == "ValidationError"  # webargs' and marshmallow's own; neither need be installed
        message = str(getattr(error, "messages", "") or error) or type(error).__name__
        return {
            "error": {
                "kind": "refused" if refused else "failed",
                "message": message if refused else f"{type(error).__name__}: {message}",
                "messages": getattr(error, "messages", None),
                "trace": traceback.format_exc(),
            }
        }


def as_json(value: Any) -> Any:
    """NumPy scalars and arrays become numbers and lists; anything else is refused by `json` itself."""
    for convert in ("tolist", "item"):
        if hasattr(value, convert):
            return getattr(value, convert)()
    raise TypeError(f"a {type(value).__name__} cannot be returned: it is not JSON")


def end_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when `parent`, which started it, dies, however it dies."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked; in a container it may well be process 1
        sys.exit(1)


def main(path: str) -> None:
    """Read the request at `path`, do it, write the answer."""
    request = json.loads(Path(path).read_text())
    if request.get("parent") == os.getppid():
        end_with_parent(request["parent"])
    said = answer(request)
    target = Path(request["result"])
    temporary = target.with_suffix(".part")
    temporary.write_text(json.dumps(said))
    temporary.replace(target)


if __name__ == "__main__":
    main(sys.argv[1])
