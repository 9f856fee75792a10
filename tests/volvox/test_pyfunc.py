import asyncio
import base64

import pytest

from volvox.errors import InvalidInput
from volvox.pyfunc import _load_pyfunc

CODE = """
from pathlib import Path
from webargs import fields

def get_predict_args():
    return {"image": fields.Field(metadata={"type": "file"}), "suffix": fields.Str(load_default="")}

def predict(image, suffix):
    return {"labels": [Path(image.filename).read_text() + suffix, "other"], "probabilities": [0.7, 0.3]}
"""


@pytest.fixture
def model(install_module, tmp_path):
    install_module("reader", CODE)
    return _load_pyfunc(str(tmp_path), {"module": "reader", "classes": 2})


def test_paths_bytes_and_data_urls_are_answered_in_order(model, tmp_path) -> None:
    (tmp_path / "file").write_text("path")
    url = f"data:image/png;base64,{base64.b64encode(b'url').decode()}"
    answers = model.predict([str(tmp_path / "file"), tmp_path / "file", b"bytes", url])
    assert [answer["label"] for answer in answers] == ["path", "path", "bytes", "url"]
    assert answers[0] == {"label": "path", "probability": 0.7, "labels": ["path", "other"], "probabilities": [0.7, 0.3]}
    assert model.predict(b"one", {"suffix": "!"})[0]["label"] == "one!"


def test_a_frame_or_a_series_is_read_by_its_first_column(model) -> None:
    import pandas

    for given in (pandas.DataFrame({"image": [b"a", b"b"]}), pandas.Series([b"a", b"b"])):
        assert [answer["label"] for answer in model.predict(given)] == ["a", "b"]


def test_it_answers_inside_an_event_loop_too(model) -> None:
    async def notebook() -> str:
        return model.predict([b"cell"])[0]["label"]

    assert asyncio.run(notebook()) == "cell"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("/no/such.png", "no image at '/no/such.png'"),
        (3, "this is of type int"),
        ("data:image/png;base64,%%%", "no valid data URL"),
    ],
)
def test_what_is_no_image_is_one_sentence(model, item, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        model.predict([item])
