"""Call one function of a module in this process: `python bootstrap.py call REQUEST`.

REQUEST is a JSON file: `{"module", "function", "arguments", "places", "result"}`. `arguments` are raw values that the
module's own fields turn into keywords; `places` are paths, passed where the signature or the schema names them. In
place of `arguments` there may be a `request` as `volvox.worker.answering` takes it: then a place is passed only where
the signature names it and the schema does not, which is the client's. Besides the module's own functions there are
`describe`, `validate:FUNCTION` (the keywords it would get, or a refusal; nothing is run) and `score` (see
`volvox.worker.scoring`). `nice` lowers the priority of the process. The answer is written to the file `result` (by a
rename) as `{"result": ...}` or `{"error": {"kind": "refused" | "missing" | "failed", "message", "messages", "said",
"trace"}}`; `said` is what the exception itself says, without its type. Where several processes were started for one
call (`RANK` and `WORLD_SIZE` say so), each but the first writes beside `result`, and one that fails says so by its exit
code too, so that the others are not kept waiting for it.
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
        name = name[len("validate:") :]
        loading.function(module, name)
        return json.loads(json.dumps(_told(_arguments(module, name, request)), default=str))
    if name == "score":
        from volvox.worker import scoring

        return scoring.score(module, raw)
    called = loading.function(module, name)
    keywords = _arguments(module, name, request)
    fields, over_http = loading.fields(module, _FIELDS.get(name, "")), request.get("request") is not None
    for place, path in (request.get("places") or {}).items():
        named = loading.accepts(called, place)
        if path and ((named and place not in fields) if over_http else (named or place in fields)):
            keywords[place] = path
    return called(**keywords)


def _arguments(module: Any, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The keywords of function `name`: from `request`, as it came over HTTP, or from raw `arguments`."""
    if request.get("request") is None:
        return _keywords(module, name, request.get("arguments") or {})
    from volvox.worker import answering

    fields = loading.fields(module, _FIELDS.get(name, ""))
    return describing.validated(fields, answering.Gathering(fields)(request["request"]))


def _told(value: Any) -> Any:
    """Arguments as they are shown: a file as field, content type and the sender's name of it."""
    if isinstance(value, loading.UploadedFile):
        return [value.name, value.content_type, value.original_filename]
    if isinstance(value, dict):
        return {name: _told(item) for name, item in value.items()}
    return [_told(item) for item in value] if isinstance(value, (list, tuple)) else value


def _keywords(module: Any, name: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Raw arguments of function `name` through the module's own fields; a name that no field has is refused."""
    fields = loading.fields(module, _FIELDS.get(name, ""))
    if name in _FIELDS:
        described = describing.describe(fields)
        known = {told["name"] for told in described}
        raw = {**raw, **_files(described, raw)}
        if unknown := sorted(set(raw) - known):
            raise describing.Refused({key: ["Unknown argument."] for key in unknown})
    return describing.validated(fields, raw) if fields else dict(raw)


def _files(described: list[dict[str, Any]], raw: dict[str, Any]) -> dict[str, Any]:
    """The files among raw arguments, `{"path", "content_type", "name"}`, as modules get them."""
    return {
        told["name"]: loading.UploadedFile(told["name"], given["path"], given["content_type"], given["name"])
        for told in described
        if told["type"] == "file" and isinstance(given := raw.get(told["name"]), dict)
    }


def describe(module: Any) -> dict[str, Any]:
    """What a module offers: its functions, metadata and arguments."""
    try:
        metadata = loading.function(module, "get_metadata")()
    except (loading.Missing, NotImplementedError):
        metadata = {}
    return {
        "distributed": bool(getattr(module, "distributed", False)),
        "functions": [name for name in loading.FUNCTIONS if getattr(module, name, None) is not None],
        "schema": getattr(module, "schema", None) is not None,
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
        if isinstance(error, NotImplementedError) and not str(error):  # libraries raise it too, with a message
            return {"error": {"kind": "missing", "message": f"the module does not implement {request['function']}()"}}
        refused = type(error).__name__ == "ValidationError"  # webargs' and marshmallow's own; neither need be installed
        message = str(getattr(error, "messages", "") or error) or type(error).__name__
        return {
            "error": {
                "kind": "refused" if refused else "failed",
                "message": message if refused else f"{type(error).__name__}: {message}",
                "messages": getattr(error, "messages", None),
                "said": str(error),
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


def main(path: str) -> int:
    """Read the request at `path`, do it, write the answer; the exit code."""
    request = json.loads(Path(path).read_text())
    os.nice(request.get("nice") or 0)
    if request.get("parent") == os.getppid():
        end_with_parent(request["parent"])
    rank = int(os.environ.get("RANK") or 0) if int(os.environ.get("WORLD_SIZE") or 1) > 1 else None
    said = answer(request)
    error = said.get("error") if rank is not None else None
    if error:  # told before anything else, as the launcher takes the first of several tracebacks for the reason
        sys.stderr.write(error.get("trace") or error["message"] + "\n")
        sys.stderr.flush()
    target = Path(request["result"])
    if rank:
        target = target.with_name(result_name(rank))
    temporary = target.with_suffix(".part")
    temporary.write_text(json.dumps(said))
    temporary.replace(target)
    if error:  # without the farewell of libraries, which may wait for processes that wait for this one
        sys.stdout.flush()
        os._exit(1)
    return 0


def result_name(rank: int) -> str:
    """Name of the file that gets the answer of process `rank` of several."""
    return f"rank-{rank}.json" if rank else "result.json"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
