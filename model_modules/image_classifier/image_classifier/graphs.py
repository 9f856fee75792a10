"""The network's part of a step, recorded once on the GPU and replayed from then on.

A small network on small images is started kernel by kernel, which takes the processor several times as long as the GPU
takes to compute them. A CUDA graph starts them all at once. Unlike `torch.compile` it is there in a moment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from image_classifier.network import Classifier


def record(network: Classifier, images: Tensor, factors: Tensor) -> None:
    """Let `network`, while it trains, replay what it does with inputs of these shapes; nothing is learnt from them.

    Every input must have these shapes, types and memory formats until `forget` is called, and the same weights must
    learn. In evaluation it takes any input, as before.

    Args:
        network: On the GPU, in training.
        images: Any, of the shape of a batch.
        factors: Likewise; see `Classifier.forward`.
    """
    buffers = list(network.buffers())
    before = [buffer.clone() for buffer in buffers]
    types = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
    # Weights that autocast has converted must not be kept: the graph converts them anew in each step.
    with torch.autocast("cuda", types, enabled=types is not None, cache_enabled=False):
        torch.cuda.make_graphed_callables(network, (images, factors))
    with torch.no_grad():
        for buffer, value in zip(buffers, before, strict=True):  # its warm-up moved the statistics
            buffer.copy_(value)


def forget(network: Classifier) -> None:
    """Make `network` what it was, so that it can be copied, exported and trained otherwise."""
    network.__dict__.pop("forward", None)
