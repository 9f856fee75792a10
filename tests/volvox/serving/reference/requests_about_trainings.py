"""Golden requests: trainings, and the servers' options."""

from __future__ import annotations

from dataclasses import replace

from tests.volvox.serving.reference.requests_about_models import FILE, MODEL, PREDICT
from tests.volvox.serving.reference.wire import Golden

TRAIN = MODEL + "train/"
JOB = TRAIN + "{uuid}"


def _start(name: str, *query: tuple[str, str], **more: object) -> Golden:
    return Golden(name, TRAIN, "POST", query=query, **more)  # type: ignore[arg-type]


_LAST = {"pick": lambda jobs: jobs[-1:]}
_DONE = _start("a training")
_ENDED = Golden("a training that has ended", JOB, until='"running"')

TRAININGS = [
    _start("train-starts"),
    _start("train-starts-with-arguments", ("epochs", "5"), ("layers", "1"), ("layers", "2"), ("nobody", "1")),
    Golden("train-starts-with-json", TRAIN, "POST", json={"epochs": 5, "note": "é", "layers": [3]}),
    Golden("train-starts-with-a-form", TRAIN, "POST", form=(("epochs", "5"), ("layers", "3"))),
    _start("train-refuses", ("epochs", "0"), ("rate", "x")),
    Golden("train-refuses-what-is-no-json", TRAIN, "POST", content=b"{", headers={"content-type": "application/json"}),
    Golden("train-is-running", JOB, after=(_start("sleep", ("do", "sleep")),)),
    Golden("train-is-done", JOB, after=(_DONE,), until='"running"'),
    Golden("train-result-says-what-came", JOB, after=(_start("arguments", ("note", "n"), ("rate", "1")),),
           until='"running"'),
    Golden("train-failed", JOB, after=(_start("raise", ("do", "raise")),), until='"running"'),
    Golden("train-is-not-implemented", JOB, after=(_start("later", ("do", "later")),), until='"running"'),
    Golden("train-with-a-file-starts", TRAIN, "POST", files=(("weights", FILE[1]),)),
    Golden("train-with-a-file", JOB, after=(Golden("file", TRAIN, "POST", files=(("weights", FILE[1]),)),),
           until='"running"'),
    Golden("trainings-are-a-list", TRAIN, after=(_DONE, _ENDED), **_LAST),
    Golden("trainings-while-one-runs", TRAIN, after=(_start("sleep", ("do", "sleep")),), **_LAST),
    Golden("training-that-is-not-there", TRAIN + "0123"),
    Golden("delete-a-training-that-is-not-there", TRAIN + "0123", "DELETE"),
    Golden("delete-a-training-that-is-done", JOB, "DELETE", after=(_DONE, _ENDED)),
    Golden("a-deleted-training-is-gone", JOB, after=(_DONE, _ENDED, Golden("delete", JOB, "DELETE"))),
    Golden("delete-a-training-that-failed", JOB, "DELETE", after=(_start("raise", ("do", "raise")), _ENDED)),
    Golden("delete-a-training-that-runs", JOB, "DELETE", after=(_start("long", ("do", "long")),), alone=True),
    Golden("a-training-deleted-while-it-ran-is-gone", JOB, alone=True,
           after=(_start("long", ("do", "long")), Golden("delete", JOB, "DELETE"))),
    Golden("predict-while-a-training-runs", PREDICT, "POST", after=(_start("sleep", ("do", "sleep")),)),
    Golden("head-of-a-training", TRAIN + "0123", "HEAD", pick=lambda body: None),
]  # fmt: skip


def _flagged(flags: tuple[str, ...], **goldens: Golden) -> list[Golden]:
    return [replace(golden, name=name.replace("_", "-"), flags=flags) for name, golden in goldens.items()]


def _get(path: str) -> Golden:
    return Golden("", path)


def _post(path: str, **more: object) -> Golden:
    return Golden("", path, "POST", **more)  # type: ignore[arg-type]


FLAGS = [
    *_flagged(
        ("--base-path", "/base"),
        base_path_versions=_get("/base"),
        base_path_versions_with_slash=_get("/base/"),
        base_path_not_at_the_root=_get("/"),
        base_path_not_at_v2=_get("/v2/"),
        base_path_version=_get("/base/v2/"),
        base_path_version_without_slash=_get("/base/v2"),
        base_path_models=_get("/base/v2/models/"),
        base_path_model=_get("/base/v2/models/golden/"),
        base_path_predict=_post("/base/v2/models/golden/predict/"),
        base_path_no_slash=_post("/base/v2/models/golden/predict"),
        base_path_train=_post("/base/v2/models/golden/train/"),
        base_path_trainings=Golden("", "/base/v2/models/golden/train/0123"),
        base_path_ui=_get("/base/ui"),
        base_path_documentation=Golden("", "/base/api", pick=lambda body: "<html" in body.lower()),
        base_path_swagger_paths=Golden("", "/base/swagger.json", pick=lambda document: sorted(document["paths"])),
    ),
    *_flagged(
        ("--nodoc-endpoint",),
        nodoc_versions=_get("/"),
        nodoc_documentation=_get("/api"),
        nodoc_ui=_get("/ui"),
        nodoc_swagger=Golden("", "/swagger.json", pick=lambda document: sorted(document["paths"])),
        nodoc_predict=_post(PREDICT),
    ),
    *_flagged(
        ("--nopredict-endpoint",),
        nopredict_predict=_post(PREDICT),
        nopredict_predict_by_get=_get(PREDICT),
        nopredict_no_slash=_post(PREDICT.rstrip("/")),
        nopredict_train=_post(TRAIN),
        nopredict_models=_get("/v2/models/"),
        nopredict_swagger=Golden("", "/swagger.json", pick=lambda document: sorted(document["paths"])),
    ),
    *_flagged(
        ("--notrain-endpoint",),
        notrain_train=_post(TRAIN),
        notrain_trainings=_get(TRAIN),
        notrain_training=_get(TRAIN + "0123"),
        notrain_delete=Golden("", TRAIN + "0123", "DELETE"),
        notrain_predict=_post(PREDICT),
        notrain_swagger=Golden("", "/swagger.json", pick=lambda document: sorted(document["paths"])),
    ),
    *_flagged(
        ("--debug-endpoint",),
        debug_is_on=Golden("", "/v2/debug/", pick=lambda body: "--- DEBUG MARKER" in body),
        debug_no_slash=_get("/v2/debug"),
    ),
    *_flagged(
        ("--client-max-size", "2000"),
        size_below=_post(PREDICT, files=(("file", ("a", b"1" * 1000, "text/plain")),)),
        size_form_above=_post(PREDICT, files=(("file", ("a", b"1" * 3000, "text/plain")),)),
        size_json_above=_post(PREDICT, json={"str_arg": "1" * 3000}),
        size_urlencoded_above=_post(PREDICT, form=(("str_arg", "1" * 3000),)),
        size_that_nobody_reads=_post("/v2/models/nobody/predict/", content=b"1" * 3000),
        size_of_a_training=_post(TRAIN, json={"note": "1" * 3000}),
    ),
]
