import asyncio
import json

import pytest

from volvox.errors import InvalidInput, ModuleFailed, NotFound
from volvox.modules.calling import call_module
from volvox.worker.scoring import read


@pytest.mark.parametrize(
    "answer",
    [
        {"labels": ["dog", "cat"], "probabilities": [0.2, 0.8]},
        {"status": "OK", "predictions": {"labels": ["cat", "dog"], "probabilities": [0.8, 0.2], "links": {}}},
        {"status": "OK", "predictions": {"filenames": ["a"], "pred_lab": [["cat", "dog"]], "pred_prob": [[0.8, 0.2]]}},
        [{"label": "cat", "probability": 0.8}, {"label": "dog", "probability": 0.2}],
        {"predictions": [{"label": "dog", "score": 0.2}, {"label": "cat", "score": 0.8}]},
    ],
)
def test_every_form_of_answer_is_read(answer) -> None:
    assert read(answer) == (["cat", "dog"], [0.8, 0.2])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"status": "error", "message": "no image"}, "answered with an error: no image"),
        ({"boxes": []}, "nothing that can be read as labels"),
        ([], "nothing that can be read"),
        ("cat", "nothing that can be read"),
    ],
)
def test_an_answer_without_labels_is_told(answer, message) -> None:
    with pytest.raises(ValueError, match=message):
        read(answer)


CODE = """
import os
from webargs import fields, validate, ValidationError

def get_predict_args():
    return {
        "zip_data": fields.Field(metadata={"type": "file"}),
        "image": fields.Field(data_key="data", metadata={"type": "file"}),
        "top": fields.Int(load_default=5, validate=validate.Range(min=1, max=3)),
        "louder": fields.Bool(load_default=False),
    }

def warm():
    open(os.environ["WARMED"], "a").write("x")

def predict(image, top, louder, weights=None, **others):
    if image.original_filename == "bad.png": raise ValidationError("unreadable")
    assert image.content_type == "image/png" and image.name == "data"
    return {"labels": [image.original_filename, str(top), str(weights), str(louder)], "probabilities": [4, 3, 2, 1]}
"""


@pytest.fixture
def score(install_module, tmp_path, monkeypatch):
    install_module("scored", CODE)
    monkeypatch.setenv("WARMED", str(tmp_path / "warmed"))

    def run(*files: str, module: str = "scored", **more):
        asked = {"files": list(files), "answers": str(tmp_path / "answers"), "classes": 10, **more}
        told = asyncio.run(call_module(module, "score", asked, places={"weights": tmp_path}))
        return told, [json.loads(line) for line in (tmp_path / "answers").read_text().splitlines()]

    return run


def test_predict_gets_each_file_its_weights_and_as_many_classes_as_it_allows(score, tmp_path) -> None:
    told, lines = score("/x/a.png", "/x/b.png", arguments={"louder": "true"})
    assert told == {"images": 2}
    assert [line["file"] for line in lines] == ["/x/a.png", "/x/b.png"]
    assert lines[0]["labels"] == ["a.png", "3", str(tmp_path), "True"]
    assert (tmp_path / "warmed").read_text() == "x"


def test_a_file_that_the_module_refuses_is_the_callers_fault(score) -> None:
    with pytest.raises(InvalidInput, match="unreadable"):
        score("/x/bad.png")


def test_a_module_without_a_file_argument_or_without_predict_is_told(score, install_module) -> None:
    install_module("numbers", "def get_predict_args(): return {}\ndef predict(): return 1\n")
    with pytest.raises(ModuleFailed, match="takes no file"):
        score("/x/a.png", module="numbers")
    install_module("mute", "")
    with pytest.raises(NotFound, match="does not implement predict"):
        score("/x/a.png", module="mute")


def test_validating_tells_all_keywords_and_runs_nothing(install_module) -> None:
    code = CODE.replace("get_predict_args", "get_train_args") + "\ndef train(**keywords): raise RuntimeError('ran')\n"
    install_module("careful", code)

    def validate(**arguments):
        return asyncio.run(call_module("careful", "validate:train", arguments))

    assert validate(top="2") == {"top": 2, "louder": False}
    with pytest.raises(InvalidInput, match="top: Must be"):
        validate(top=9)
    with pytest.raises(InvalidInput, match="speed: Unknown argument"):
        validate(speed=1)
    with pytest.raises(NotFound, match=r"does not implement evaluate\(\)"):
        asyncio.run(call_module("careful", "validate:evaluate"))
