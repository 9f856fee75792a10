from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("pytorch_lightning", reason="training needs the extra `train`")

from image_classifier import data, recipe  # noqa: E402
from image_classifier.arguments import defaults  # noqa: E402
from image_classifier.augmentation import STRENGTHS, Strength, augmented  # noqa: E402
from image_classifier.learner import Schedule  # noqa: E402
from image_classifier.network import SMALL, Classifier, architecture, parameters  # noqa: E402
from image_classifier.pixels import Batches, Pixels  # noqa: E402
from image_classifier.preprocessing import Preprocessing  # noqa: E402
from image_classifier.training import class_weights, stopped_early  # noqa: E402
from webargs import ValidationError  # noqa: E402

PREPARED = Preprocessing(16, 3, (0.5,) * 3, (0.2,) * 3)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


@pytest.mark.parametrize("size", [16, 24, 64])
@pytest.mark.parametrize("device", DEVICES)
def test_the_small_network_takes_bytes_of_any_size_and_stays_small(size, device):
    network = Classifier(architecture(SMALL, size), 10, [0.5] * 3, [0.2] * 3).eval().to(device)
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, device=device)
    assert network(pixels).shape == (2, 10)
    assert 100_000 < parameters(network) < 300_000
    assert torch.allclose(network(pixels), network(pixels.float()))


def test_an_unknown_backbone_is_refused_with_what_there_is():
    with pytest.raises(ValidationError, match="resnet-small"):
        architecture("vgg", 16)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_augmentation_keeps_the_shape_and_depends_on_the_generator_alone(device, strength):
    images = torch.rand(8, 3, 12, 12, device=device) * 255
    one, same, other = (augmented(images, STRENGTHS[strength], False, generator(n, device)) for n in (1, 1, 2))
    assert one.shape == images.shape
    assert torch.equal(one, same)
    assert torch.equal(one, images) == (strength == "none")
    assert torch.equal(one, other) == (strength == "none")


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_share_of_a_batch_is_changed_as_it_would_be_in_the_whole(strength):
    images = torch.rand(9, 3, 12, 12) * 255
    whole = augmented(images, STRENGTHS[strength], True, generator(1))
    for rank in (0, 1):
        share = slice(rank, None, 2)
        part = augmented(images[share], STRENGTHS[strength], True, generator(1), whole=9, share=share)
        assert torch.allclose(part, whole[share], atol=1e-3)


def test_features_are_dropped_at_the_chance_that_the_network_has_and_scaled_up():
    network = Classifier(architecture(SMALL, 16), 3, [0.5] * 3, [0.2] * 3)
    factors = network.dropped(500, generator())
    assert factors.shape == (500, network.head.in_features)
    assert (factors == 0).float().mean() == pytest.approx(0.1, abs=0.01)
    assert factors.mean() == pytest.approx(1, abs=0.01)


def test_without_flip_nothing_is_mirrored():
    images = torch.zeros(64, 1, 16, 16)
    images[..., :4] = 255  # bright at the left
    for strength in STRENGTHS.values():
        changed = augmented(images, strength, False, generator())
        assert (changed[..., :8].mean((1, 2, 3)) > changed[..., 8:].mean((1, 2, 3))).all()
    mirrored = augmented(images, Strength(), True, generator())
    right = (mirrored[..., 12:].mean((1, 2, 3)) > 200).float().mean()
    assert 0.25 < right < 0.75


@pytest.fixture(scope="module")
def pixels(dataset):
    found = data.read(dataset)
    return Pixels(found.images, found.train, PREPARED, 2)


def test_statistics_are_those_of_the_images(pixels):
    mean, deviation = pixels.statistics()
    values = pixels.kept.numpy() / 255
    assert mean == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert deviation == pytest.approx(values.std((0, 2, 3)).tolist(), abs=1e-4)


def test_processes_share_each_batch_without_overlap(pixels):
    alone = [labels for _, labels in Batches(pixels, 10, shuffled=True, seed=1)]
    shares = [[labels for _, labels in Batches(pixels, 10, shuffled=True, seed=1, rank=r, world=2)] for r in (0, 1)]
    assert len(alone) == len(shares[0]) == len(shares[1]) == 7
    for whole, one, other in zip(alone, *shares, strict=True):
        assert torch.equal(whole[0::2], one)
        assert torch.equal(whole[1::2], other)


def test_the_labels_of_the_whole_batch_are_known_to_every_process(pixels):
    alone = Batches(pixels, 10, shuffled=True, seed=1)
    share = Batches(pixels, 10, shuffled=True, seed=1, rank=1, world=2)
    for at, (_, labels) in enumerate(alone):
        assert torch.equal(share.labels(at), labels)


@pytest.mark.parametrize("device", DEVICES)
def test_batches_are_the_same_whichever_device_keeps_the_images(pixels, device):
    here, there = (Batches(pixels, 10, shuffled=True, seed=1, rank=1, world=2) for _ in range(2))
    there.on(torch.device(device))
    assert pixels.kept.device.type == "cpu"
    for at, (one, other) in enumerate(zip(here, there, strict=True)):
        assert {tensor.device.type for tensor in (*other, there.labels(at))} == {device}
        assert torch.equal(one[0], other[0].cpu())
        assert torch.equal(one[1], other[1].cpu())
        assert torch.equal(here.labels(at), there.labels(at).cpu())


def test_images_for_which_a_gpu_has_no_room_stay_where_they_are(pixels, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (9 * pixels.kept.numel(), 2**40))
    assert pixels.on(torch.device("cuda")) is pixels


def test_a_process_that_gets_nothing_of_the_last_batch_gets_an_empty_one(dataset):
    found = data.read(dataset)
    for limit in (0, None):
        few = Pixels(found.images, data.Split(found.val.files[:3], found.val.labels[:3]), PREPARED, 2, limit=limit)
        shares = [list(Batches(few, 2, shuffled=False, rank=rank, world=2)) for rank in (0, 1)]
        assert [[len(labels) for _, labels in share] for share in shares] == [[1, 1], [1, 0]]
        assert shares[1][1][0].shape == (0, 3, 16, 16)


def test_each_epoch_has_an_order_of_its_own_and_validation_sees_every_image(pixels):
    batches = Batches(pixels, 10, shuffled=True)
    first = torch.cat([labels for _, labels in batches])
    batches.epoch = 1
    assert not torch.equal(torch.cat([labels for _, labels in batches]), first)
    assert torch.equal(torch.cat([labels for _, labels in Batches(pixels, 11, shuffled=False)]), pixels.labels)


def test_images_decoded_each_time_are_those_kept(pixels, dataset):
    found = data.read(dataset)
    streamed = Pixels(found.images, found.train, pixels.preprocessing, 2, limit=0)
    assert streamed.kept is None
    for one, other in zip(Batches(pixels, 10, shuffled=True), Batches(streamed, 10, shuffled=True), strict=True):
        assert torch.equal(one[0], other[0])


def test_the_learning_rate_rises_and_falls_to_nothing():
    factors = [Schedule(100, 10)(step) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1
    assert np.all(np.diff(factors[10:]) <= 0)
    assert factors[100] == pytest.approx(0)
    assert Schedule(100, 0)(0) == 1


def test_rare_classes_weigh_more():
    weights = class_weights(torch.tensor([0] * 30 + [1] * 10), 2, 1.0)
    assert weights.tolist() == pytest.approx([20 / 30, 2.0])
    assert class_weights(torch.tensor([0] * 30 + [1] * 10), 2, 0.0).tolist() == [1, 1]


def test_early_stopping_counts_from_the_best_epoch():
    losses = [{"val_loss": loss} for loss in (3.0, 1.0, 2.0, 2.0)]
    assert stopped_early(losses, 2)
    assert not stopped_early(losses, 3)
    assert not stopped_early(losses, 0)


def test_defaults_follow_the_data(dataset):
    found = data.read(dataset)
    plan = recipe.chosen(defaults({}), found, None, same_head=False)
    assert plan.image_size == 16
    assert plan.epochs == 100
    assert plan.batch_size == 32
    assert plan.class_weights == 0
    assert not plan.flip
    assert recipe.chosen(defaults({"epochs": 3, "image_size": 40}), found, None, same_head=False).image_size == 40
