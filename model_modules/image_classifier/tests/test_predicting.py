from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from image_classifier import api, sources
from PIL import Image
from webargs import ValidationError

Upload = namedtuple("Upload", ("name", "filename", "content_type", "original_filename"), defaults=(None,) * 4)


@pytest.fixture(autouse=True)
def _weights(version, monkeypatch):
    monkeypatch.setenv("VOLVOX_WEIGHTS", str(version))


def upload(path: Path, name: str = "photo.png") -> Upload:
    return Upload("image", str(path), "image/png", name)


def picture(dataset: Path, label: str, number: int = 4) -> Path:
    return dataset / "images" / label / f"number {number}.png"


def zipped(path: Path, files: dict[str, bytes]) -> Upload:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return upload(path, path.name)


@pytest.mark.parametrize("argument", ["image", "data"])
@pytest.mark.parametrize("label", ["bar", "cross", "dot"])
def test_one_picture_is_answered_as_deep_does(dataset, argument, label):
    said = api.predict(**{argument: upload(picture(dataset, label))}, top=2)
    assert said["status"] == "OK"
    told = said["predictions"]
    assert told["labels"][0] == label
    assert len(told["labels"]) == len(told["probabilities"]) == len(told["labels_info"]) == 2
    assert told["probabilities"] == sorted(told["probabilities"], reverse=True)
    assert told["links"]["Wikipedia"][0].endswith(label)
    assert len(told["links"]["Google Images"]) == 2
    json.dumps(said)


def test_no_more_classes_are_named_than_there_are(dataset):
    told = api.predict(image=upload(picture(dataset, "dot")), top=5)["predictions"]
    assert sorted(told["labels"]) == ["bar", "cross", "dot"]
    assert sum(told["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_a_zip_is_answered_as_the_phytoplankton_classifier_does(dataset, tmp_path):
    files = {f"a/{label}.png": picture(dataset, label).read_bytes() for label in ("dot", "bar")}
    sent = zipped(tmp_path / "p.zip", {**files, "notes.txt": b"no picture", "__MACOSX/._x.png": b"junk"})
    told = api.predict(zip_data=sent, top=2)["predictions"]
    assert told["filenames"] == ["a/bar.png", "a/dot.png"]
    assert [labels[0] for labels in told["pred_lab"]] == ["bar", "dot"]
    assert np.shape(told["pred_prob"]) == (2, 2)
    assert told["aphia_ids"] is None


def test_a_batch_is_answered_as_each_request_alone(dataset, tmp_path):
    sent = zipped(tmp_path / "p.zip", {f"{n}.png": picture(dataset, "dot", n).read_bytes() for n in range(70)[:40]})
    requests = [
        {"image": upload(picture(dataset, "bar")), "top": 1},
        {"zip_data": sent},
        {"data": upload(picture(dataset, "cross"))},
    ]
    together = api.predict_batch(requests)
    for answer, request in zip(together, requests, strict=True):
        alone = api.predict(**request)
        assert answer["predictions"].keys() == alone["predictions"].keys()
        key = "probabilities" if "probabilities" in alone["predictions"] else "pred_prob"
        assert np.allclose(answer["predictions"][key], alone["predictions"][key], atol=1e-5)


def test_an_inline_address_is_taken(dataset):
    text = base64.b64encode(picture(dataset, "cross").read_bytes()).decode()
    assert api.predict(urls=[f"data:image/png;base64,{text}"])["predictions"]["labels"][0] == "cross"


def huge() -> bytes:
    """A picture of 100 megapixels in a few kilobytes."""
    stream = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"only text", "no picture"),
        (huge(), "50 million"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "no picture"),
    ],
    ids=["empty", "text", "huge", "damaged"],
)
def test_a_file_that_is_no_picture_is_refused_in_a_sentence(tmp_path, content, said):
    (tmp_path / "sent").write_bytes(content)
    with pytest.raises(ValidationError) as refused:
        api.predict(image=upload(tmp_path / "sent", "mine.png"))
    assert said in refused.value.messages["image"][0]
    assert "mine.png" in refused.value.messages["image"][0]


def test_a_truncated_picture_is_refused(dataset, tmp_path):
    content = picture(dataset, "bar").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValidationError):
        api.predict(image=upload(tmp_path / "cut.png"))


def test_a_request_without_a_picture_is_refused():
    with pytest.raises(ValidationError, match="urls or zip_data"):
        api.predict()
    with pytest.raises(ValidationError, match="uploaded file"):
        api.predict(image="some text")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.txt": b"x"}, "no picture"),
        ({"zeros.bmp": bytes(5_000_000)}, "grows more than"),
        ({"a.png": b"broken"}, "a.png is refused"),
    ],
)
def test_a_bad_zip_is_refused(tmp_path, files, said):
    with pytest.raises(ValidationError) as refused:
        api.predict(zip_data=zipped(tmp_path / "p.zip", files))
    assert said in refused.value.messages["zip_data"][0]


def test_a_zip_of_too_many_files_or_of_another_kind_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_MEMBERS", 3)
    with pytest.raises(ValidationError, match="at most 3"):
        api.predict(zip_data=zipped(tmp_path / "p.zip", {f"{n}.png": b"x" for n in range(4)}))
    (tmp_path / "q.zip").write_bytes(b"no zip")
    with pytest.raises(ValidationError, match="no zip"):
        api.predict(zip_data=upload(tmp_path / "q.zip"))


def test_without_a_model_there_is_a_sentence(dataset, monkeypatch, tmp_path):
    monkeypatch.delenv("VOLVOX_WEIGHTS")
    with pytest.raises(ValidationError, match="no trained model"):
        api.predict(image=upload(picture(dataset, "bar")))
    with pytest.raises(ValidationError, match=r"no model\.json"):
        api.predict(image=upload(picture(dataset, "bar")), weights=tmp_path)


def test_the_newest_model_answers_where_none_is_named(dataset, version, monkeypatch, tmp_path):
    monkeypatch.delenv("VOLVOX_WEIGHTS")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "2020-01-01_000000").symlink_to(version)
    assert api.predict(image=upload(picture(dataset, "bar")))["status"] == "OK"


def test_evaluation_writes_what_can_be_scored(dataset, version, tmp_path):
    told = api.evaluate(data=dataset, output=tmp_path / "scored", weights=version)
    assert told["task"] == "classification"
    assert told["images"] == 24
    with np.load(tmp_path / "scored" / told["predictions"], allow_pickle=False) as found:
        assert found["probabilities"].dtype == np.float32
        assert found["probabilities"].shape == (24, 3)
        assert found["labels"].dtype == np.int64
        assert (found["probabilities"].argmax(1) == found["labels"]).mean() >= 0.9
        assert found["files"][0] == "bar/number 4.png"
    last = json.loads((tmp_path / "scored" / "progress.jsonl").read_text().splitlines()[-1])
    assert (last["done"], last["total"], last["unit"]) == (24, 24, "images")


def test_evaluation_on_other_classes_is_refused(dataset, version, tmp_path):
    lists = tmp_path / "data" / "dataset_files"
    lists.mkdir(parents=True)
    (lists / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValidationError, match="not those of the model"):
        api.evaluate(data=tmp_path / "data", output=tmp_path / "scored", weights=version)


def test_predicting_never_imports_torch_and_the_api_imports_little(dataset):
    code = (
        "import sys, time; start = time.process_time(); from image_classifier import api; "
        "spent = time.process_time() - start; "
        "assert not {'torch', 'onnxruntime', 'numpy', 'PIL'} & set(sys.modules), 'the api imports too much'; "
        "from collections import namedtuple; U = namedtuple('U', 'filename original_filename'); api.warm(); "
        f"api.predict(image=U({str(picture(dataset, 'bar'))!r}, 'a.png')); "
        "assert 'torch' not in sys.modules; assert 'onnxruntime' in sys.modules; print(spent)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.3


def test_tensors_are_answered_as_the_pictures_they_come_from(dataset):
    from image_classifier import classifier, places

    model = classifier.load(places.published_weights())
    side, channels = model.preprocessing.size, model.preprocessing.channels
    declared = api.get_tensors()
    assert declared["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, channels, side, side]}]
    assert [told["shape"] for told in declared["outputs"]] == [[-1, 3], [-1]]
    paths = [picture(dataset, label) for label in ("bar", "cross", "dot")]
    given = api.infer({"image": np.stack([model.preprocessing.decode(path) for path in paths])})
    assert given["label"].tolist() == [b"bar", b"cross", b"dot"]
    assert given["probabilities"].dtype == np.float32
    for path, row in zip(paths, given["probabilities"], strict=True):
        told = api.predict(image=upload(path), top=3)["predictions"]
        assert told["probabilities"] == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-5)


def test_no_tensors_are_no_answers():
    shape = [max(0, size) for size in api.get_tensors()["inputs"][0]["shape"]]
    given = api.infer({"image": np.empty(shape, np.uint8)})
    assert given["probabilities"].shape == (0, 3)
    assert given["label"].shape == (0,)


def test_without_weights_the_shapes_are_open_and_tensors_are_refused(monkeypatch):
    monkeypatch.delenv("VOLVOX_WEIGHTS")
    assert api.get_tensors()["inputs"][0]["shape"] == [-1, -1, -1, -1]
    with pytest.raises(ValidationError, match="no trained model"):
        api.infer({"image": np.zeros((1, 3, 8, 8), np.uint8)})


def test_tensors_of_another_size_are_refused():
    with pytest.raises(ValidationError, match="the network takes"):
        api.infer({"image": np.zeros((1, 3, 7, 7), np.uint8)})
