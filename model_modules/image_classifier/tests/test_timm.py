"""The extra `timm`: every test is skipped, saying why, where timm cannot be imported."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("pytorch_lightning", reason="training needs the extra `train`")

try:
    import timm
except (ImportError, RuntimeError) as error:  # torchvision of another torch raises RuntimeError on import
    pytest.skip(f"timm cannot be imported here: {error}", allow_module_level=True)

from image_classifier import api, classifier  # noqa: E402
from image_classifier.network import Classifier, architecture  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from webargs import ValidationError  # noqa: E402

from .conftest import write_dataset  # noqa: E402

RESNET, VIT = "timm:test_resnet", "timm:test_vit"  # a third of a million parameters each


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A version that a small residual network of timm learnt from nothing, and what training said."""
    output = tmp_path_factory.mktemp("timm")
    told = api.train(data=dataset, output=output, backbone=RESNET, image_size="32", epochs=12, batch_size=12)
    return output, told


def test_a_backbone_from_nothing_learns_and_is_exported_faithfully(trained):
    output, told = trained
    assert told["metrics"]["val_accuracy"] >= 0.9
    assert told["onnx_difference"] <= 1e-4
    card = json.loads((output / "model.json").read_text())
    assert card["architecture"] == {"backbone": RESNET, "size": 32, "dropout": 0.1, "pretrained": False}
    assert card["versions"]["timm"] == timm.__version__


def test_it_predicts_and_is_scored_without_torch(trained, dataset, tmp_path):
    output, _ = trained
    assert api.evaluate(data=dataset, output=tmp_path / "scored", weights=output)["images"] == 24
    with np.load(tmp_path / "scored" / "predictions.npz", allow_pickle=False) as found:
        assert (found["probabilities"].argmax(1) == found["labels"]).mean() >= 0.9
    square = np.asarray(Image.open(dataset / "images" / "bar" / "number 4.png").resize((32, 32))).transpose(2, 0, 1)
    assert classifier.load(output).run(square[None].copy()).shape == (1, 3)


def test_its_version_is_gone_on_from_whatever_backbone_stands_as_default(trained, dataset, tmp_path):
    told = api.train(data=dataset, output=tmp_path / "out", weights=trained[0], epochs=1, learning_rate=1e-9)
    assert told["recipe"]["backbone"] == RESNET
    assert told["recipe"]["image_size"] == 32
    assert told["metrics"]["val_accuracy"] >= 0.9


def test_the_backbone_rests_while_a_new_head_learns_and_learns_then(trained, tmp_path):
    data = write_dataset(tmp_path / "data", 20, classes=("bar", "cross"))
    before = load_file(trained[0] / "model.safetensors")

    def changed(epochs: int, freeze: int | None) -> set[str]:
        output = tmp_path / f"out-{epochs}"
        told = api.train(data=data, output=output, weights=trained[0], epochs=epochs, freeze_epochs=freeze)
        assert told["onnx_difference"] <= 1e-4
        after = load_file(output / "model.safetensors")
        return {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}

    assert changed(1, 1) == {"head"}, "not even the statistics of the normalisation move"
    assert changed(2, None) == {"head", "backbone"}


@pytest.mark.parametrize(
    "backbone",
    [
        "timm:test_efficientnet",
        "timm:mobilenetv3_small_050",  # gives more features than timm states
        VIT,  # has to be told the size of its images
    ],
)
def test_backbones_of_other_kinds_train_at_a_small_size(dataset, tmp_path, backbone):
    told = api.train(data=dataset, output=tmp_path / "out", backbone=backbone, image_size="32", epochs=1)
    assert told["onnx_difference"] <= 1e-4
    assert api.evaluate(data=dataset, output=tmp_path / "scored", weights=tmp_path / "out")["images"] == 24


def test_a_transformer_takes_images_of_the_size_it_is_asked_for():
    network = Classifier(architecture("timm:vit_tiny_patch16_224", 32), 3, [0.5] * 3, [0.2] * 3)
    assert network(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 3)


def test_grey_images_go_through_a_backbone_of_one_channel():
    network = Classifier(architecture(RESNET, 32), 3, [0.5], [0.2])
    assert network(torch.zeros(2, 1, 32, 32, dtype=torch.uint8)).shape == (2, 3)


def test_a_backbone_that_takes_no_such_size_is_refused_with_the_size_that_it_takes():
    with pytest.raises(ValidationError, match=r"takes no images of 32 pixels.*ask for 224") as refused:
        Classifier(architecture("timm:efficientformer_l1", 32), 3, [0.5] * 3, [0.2] * 3)
    assert "image_size" in refused.value.messages


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("timm:resnet1", "timm:resnet18"),
        ("timm:mobilnet_v3_small_050", "timm:mobilenetv3_small_050"),
        ("timm:resnet18.a1_im1k", "timm:resnet18.a1_in1k"),
    ],
)
def test_an_unknown_backbone_is_refused_with_close_matches(name, near):
    with pytest.raises(ValidationError, match=f"timm has no such .*{near}"):
        architecture(name, 32)


def test_the_size_left_open_is_the_one_that_timm_states(dataset):
    from image_classifier import data, recipe
    from image_classifier.arguments import defaults

    plan = recipe.chosen(defaults({"backbone": RESNET}), data.read(dataset), None, same_head=False)
    assert plan.image_size == timm.get_pretrained_cfg("test_resnet").input_size[-1]


def test_published_weights_that_cannot_be_had_are_refused_in_a_sentence(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ValidationError, match=r"cannot be had.*set pretrained false") as refused:
        api.train(data=dataset, output=tmp_path / "out", backbone=RESNET, image_size="32", pretrained=True)
    assert "pretrained" in refused.value.messages
    assert not (tmp_path / "out" / "model.json").exists()


def test_a_backbone_without_published_weights_is_refused_in_a_sentence():
    with pytest.raises(ValidationError, match="No pretrained weights exist"):
        Classifier(architecture("timm:test_vit4", 32, pretrained=True), 3, [0.5] * 3, [0.2] * 3)


def test_a_training_from_published_weights_does_not_go_on_from_one_without(dataset, tmp_path, monkeypatch):
    options = {"backbone": RESNET, "image_size": "32", "epochs": 1, "checkpoints": tmp_path / "kept"}
    api.train(data=dataset, output=tmp_path / "first", **options)
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *words, **told: create(*words, **{**told, "pretrained": False}))
    again = api.train(data=dataset, output=tmp_path / "second", pretrained=True, **options)
    assert again["resumed_from_epoch"] == 0
