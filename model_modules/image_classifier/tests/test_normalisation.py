from __future__ import annotations

import threading

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from image_classifier import normalisation  # noqa: E402
from torch import distributed, nn  # noqa: E402


@pytest.fixture
def group(tmp_path):
    """One process that is connected with itself: what is gathered is its own."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(180, 2))


@pytest.mark.usefixtures("group")
def test_it_is_batch_normalisation_forward_and_backward_and_in_what_it_remembers():
    images = torch.rand(7, 3, 8, 8) * 50
    plain, shared = network(), network()
    normalisation.share_statistics(shared)
    for each in (plain, shared):
        each(images).square().sum().backward()
    assert plain.state_dict().keys() == shared.state_dict().keys()
    for (name, one), other in zip(plain.state_dict().items(), shared.state_dict().values(), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-5), name
    for one, other in zip(plain.parameters(), shared.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    for each in (plain, shared):
        each.eval()
    assert torch.allclose(plain(images), shared(images), atol=1e-5)


def test_two_shares_of_a_batch_are_normalised_as_the_whole(tmp_path, monkeypatch):
    """Two threads stand for two processes, which tell each other their parts."""
    parts: dict[tuple[int, int], torch.Tensor] = {}
    barrier, own = threading.Barrier(2), threading.local()

    def exchanged(mine):
        own.turn = getattr(own, "turn", 0) + 1
        parts[own.rank, own.turn] = mine.clone()
        barrier.wait(20)
        return [parts[rank, own.turn] for rank in (0, 1)]

    def all_gather(told, mine):
        for place, part in zip(told, exchanged(mine), strict=True):
            place.copy_(part)

    monkeypatch.setattr(normalisation.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(normalisation.distributed, "all_gather", all_gather)
    monkeypatch.setattr(normalisation.distributed, "all_reduce", lambda sums: sums.copy_(sum(exchanged(sums))))
    images, above = torch.rand(9, 4, 5, 5) * 30, torch.rand(9, 4, 5, 5)
    weight, bias = torch.rand(4), torch.rand(4)
    found = {}

    def process(rank: int) -> None:
        own.rank = rank
        leaves = [images[rank::2].clone(), weight.clone(), bias.clone()]
        for leaf in leaves:
            leaf.requires_grad_()
        with torch.no_grad():  # as autograd calls it
            normalised, *_ = normalisation._Normalise.forward(context := _Context(), *leaves, 1e-5)
        gradients = normalisation._Normalise.backward(context, above[rank::2])
        found[rank] = (normalised, *gradients[:3])

    threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    whole = [images.clone().requires_grad_(), weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    expected = nn.functional.batch_norm(whole[0], None, None, whole[1], whole[2], training=True)
    expected.backward(above)
    for rank in (0, 1):
        assert torch.allclose(found[rank][0], expected[rank::2], atol=1e-4)
        assert torch.allclose(found[rank][1], whole[0].grad[rank::2], atol=1e-4)
    for at in (1, 2):
        assert torch.allclose(found[0][at + 1] + found[1][at + 1], whole[at].grad, rtol=1e-4, atol=1e-3)


class _Context:
    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors):
        pass
