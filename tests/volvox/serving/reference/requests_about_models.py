"""Golden requests: paths, methods, what models are listed with, predictions."""

from __future__ import annotations

from tests.volvox.serving.reference.wire import Golden

MODEL = "/v2/models/golden/"
PREDICT = "/v2/models/golden/predict/"
JSON = {"content-type": "application/json"}
FILE = ("file", ("a.txt", b"content", "text/plain"))


def _predict(name: str, *query: tuple[str, str], **more: object) -> Golden:
    return Golden(name, PREDICT, "POST", query=query, **more)  # type: ignore[arg-type]


PATHS = [
    Golden("versions", "/"),
    Golden("version", "/v2/"),
    Golden("models", "/v2/models/"),
    Golden("model", MODEL),
    Golden("model-that-is-not-there", "/v2/models/nobody/"),
    Golden("predict-of-a-model-that-is-not-there", "/v2/models/nobody/predict/", "POST"),
    Golden("train-of-a-model-that-is-not-there", "/v2/models/nobody/train/", "POST"),
    Golden("path-that-is-not-there", "/nowhere"),
    Golden("path-that-is-not-there-below-a-model", MODEL + "nowhere/"),
    Golden("ui-leads-to-the-documentation", "/ui"),
    Golden("documentation-is-a-page", "/api", pick=lambda body: "<html" in body.lower()),
    Golden("debug-is-off", "/v2/debug/"),
    *(
        Golden(f"no-slash-{name}", path, method)
        for name, path, method in (
            ("version", "/v2", "GET"), ("models", "/v2/models", "GET"), ("model", "/v2/models/golden", "GET"),
            ("predict", "/v2/models/golden/predict", "POST"), ("train", "/v2/models/golden/train", "POST"),
            ("trainings", "/v2/models/golden/train", "GET"), ("debug", "/v2/debug", "GET"),
        )
    ),
    Golden("no-slash-keeps-the-query", "/v2/models/golden/predict", "POST", query=(("int_arg", "4"), ("a", "b c"))),
    Golden("no-slash-of-a-model-that-is-not-there", "/v2/models/nobody"),
    Golden("one-slash-too-many", "/v2/models/golden/train/0123/"),
    Golden("two-slashes", "/v2//models/"),
    *(
        Golden(f"{method.lower()}-of-{name}", path, method)
        for name, path in (("versions", "/"), ("version", "/v2/"), ("models", "/v2/models/"), ("model", MODEL))
        for method in ("POST", "PUT", "DELETE", "OPTIONS")
    ),
    *(Golden(f"{method.lower()}-of-predict", PREDICT, method) for method in ("GET", "PUT", "DELETE", "OPTIONS")),
    *(Golden(f"{method.lower()}-of-train", MODEL + "train/", method) for method in ("PUT", "DELETE", "OPTIONS")),
    *(Golden(f"{method.lower()}-of-a-training", MODEL + "train/0123", method) for method in ("POST", "PUT")),
    *(
        Golden(f"head-of-{name}", path, "HEAD", pick=lambda body: None)
        for name, path in (("models", "/v2/models/"), ("model", MODEL), ("predict", PREDICT))
    ),
]  # fmt: skip

OTHER_MODULES = [
    Golden("bare-models", "/v2/models/", module="golden-bare"),
    Golden("bare-model", "/v2/models/golden-bare/", module="golden-bare"),
    Golden("bare-predict", "/v2/models/golden-bare/predict/", "POST", module="golden-bare"),
    Golden("bare-train", "/v2/models/golden-bare/train/", "POST", module="golden-bare"),
    Golden("bare-trainings", "/v2/models/golden-bare/train/", module="golden-bare"),
    Golden("plain-predict-ignores-arguments", "/v2/models/golden-plain/predict/", "POST", query=(("a", "1"),),
           module="golden-plain"),
    Golden("object-model", "/v2/models/golden-object/", module="golden-object"),
    Golden("object-models", "/v2/models/", module="golden-object"),
    Golden("object-predict", "/v2/models/golden-object/predict/", "POST", query=(("left", "2"),),
           module="golden-object"),
    Golden("object-refuses", "/v2/models/golden-object/predict/", "POST", module="golden-object"),
    Golden("object-train", "/v2/models/golden-object/train/", "POST", module="golden-object"),
]  # fmt: skip

_STRICT = "/v2/models/golden-strict/predict/"
_GIVEN = {"form": (("number", "1"),), "files": (("data", ("a", b"1", "text/plain")),), "module": "golden-strict"}


def _strict(name: str, accept: str | None = None, fit: str = "yes", **more: object) -> Golden:
    headers = {} if accept is None else {"accept": accept}
    given = {"query": (("fit", fit),), **_GIVEN, **more}
    return Golden(name, _STRICT, "POST", headers=headers, **given)  # type: ignore[arg-type]


STRICT = [
    Golden("strict-model-without-metadata", "/v2/models/golden-strict/", module="golden-strict"),
    Golden("what-is-required-is-asked-for", _STRICT, "POST", module="golden-strict"),
    _strict("schema-fits", "application/json"),
    _strict("schema-that-converts-leaves-the-answer-as-it-is", "application/json", "lenient"),
    _strict("schema-misses-a-key", "application/json", "missing"),
    _strict("schema-does-not-know-a-key", "application/json", "unknown key"),
    _strict("schema-wants-another-type", "application/json", "wrong type"),
    _strict("schema-wants-a-dict", "application/json", "no dict"),
    _strict("schema-is-not-asked-for-other-content", "application/pdf"),
    _strict("accept-header-that-is-no-choice", "text/html"),
    _strict("accept-header-with-quality", "text/html,application/pdf;q=0.9"),
    _strict("accept-header-for-anything", "*/*"),
    _strict("accept-in-the-query-of-a-header-argument", "application/json", query=(("accept", "application/pdf"),)),
    _strict("text-where-a-file-is-expected", "application/json", form=(("number", "1"), ("data", "text")), files=()),
]

ANSWERS = [
    *(_predict(f"answers-{do}", ("do", do)) for do in ("echo", "text", "number", "truth", "nothing", "list")),
    *(_predict(f"answers-{do}", ("do", do)) for do in ("nan", "set", "bytes", "stream")),
    *(_predict(f"fails-{do}", ("do", do)) for do in ("raise", "refuse", "later", "attribute")),
    _predict("fails-http", ("do", "http"), alone=True, seconds=3.0),
    _predict("fails-exit", ("do", "exit"), alone=True, seconds=3.0),
    *(_predict(f"accept-{accept}", ("accept", accept)) for accept in ("image/png", "text/plain", "*/*", "text/html")),
    _predict("accept-in-the-form", form=(("accept", "image/png"),)),
    _predict("accept-image-and-a-stream", ("accept", "image/png"), ("do", "stream")),
    _predict("accept-image-and-an-open-file", ("accept", "text/plain"), ("do", "file")),
    _predict("accept-header-without-location", headers={"accept": "image/png"}),
    _predict("accept-header-for-anything-without-location", headers={"accept": "*/*"}),
    _predict("accept-header-of-a-browser", headers={"accept": "text/html,application/xml;q=0.9,*/*;q=0.8"}),
    _predict("accept-query-before-header", ("accept", "application/json"), headers={"accept": "image/png"}),
]
