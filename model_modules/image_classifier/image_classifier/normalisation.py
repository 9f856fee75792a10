"""Batch normalisation over the whole batch, where several processes share it.

Each process alone would normalise by the statistics of its own share, and the more processes, the noisier they are:
the training would be another one. PyTorch's own `SyncBatchNorm` knows no CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional


def share_statistics(network: nn.Module) -> None:
    """Let every batch normalisation of `network` use the statistics of all processes' images, from now on.

    Names of weights stay what they are. timm's, which contain an activation, are changed too; an unknown kind that
    does more than normalise stays as it is.
    """
    for module in network.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = _Shared
        elif type(module).__name__ == "BatchNormAct2d":
            module.__class__ = _SharedWithActivation


class _Shared(nn.modules.batchnorm._BatchNorm):
    def _check_input_dim(self, input: Tensor) -> None:
        """Statistics are taken over all axes but the second, however many there are."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.running_mean is None:
            return super().forward(input)
        return _normalised(self, input)  # type: ignore[call-arg] - the decorator's type is that of another use


class _SharedWithActivation(_Shared):
    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))  # type: ignore[operator] - timm's own layers


@torch.compiler.disable  # the processes talk to each other in here, which a graph cannot hold
def _normalised(module: Any, images: Tensor) -> Tensor:
    normalised, mean, variance, count = _Normalise.apply(images, module.weight, module.bias, module.eps)  # type: ignore[misc]
    with torch.no_grad():
        module.num_batches_tracked += 1
        momentum = module.momentum if module.momentum is not None else 1 / float(module.num_batches_tracked)
        module.running_mean.lerp_(mean.to(module.running_mean.dtype), momentum)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        module.running_var.lerp_(unbiased.to(module.running_var.dtype), momentum)
    return normalised


class _Normalise(torch.autograd.Function):
    """Batch normalisation by the mean and variance over all processes.

    Source:
        Ioffe and Szegedy 2015, "Batch Normalization", section 3; variances are joined as in Chan, Golub and LeVeque
        1979, eq. 2.1, which unlike the mean of squares loses no digits.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`images` is of shape (N, C, ...); also gives mean and variance, shape (C,), and count, shape ()."""
        axes = [axis for axis in range(images.ndim) if axis != 1]
        own_variance, own_mean = torch.var_mean(images.float(), axes, correction=0)
        count = own_mean.new_full((1,), images.numel() / images.shape[1])
        own = torch.cat([own_mean, own_variance, count])
        told = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(told, own)
        every = torch.stack(told)  # (processes, 2 C + 1)
        channels = images.shape[1]
        means, variances, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / total
        ctx.save_for_backward(images, weight, mean, torch.rsqrt(variance + eps), total)
        normalised = functional.batch_norm(images, mean, variance, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, variance, total)
        return normalised, mean, variance, total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        """Of the sum of all processes' losses; the one of weight and bias is this process' part, which DDP adds up."""
        images, weight, mean, inverse, total = ctx.saved_tensors
        shape = [1, -1] + [1] * (images.ndim - 2)
        axes = [axis for axis in range(images.ndim) if axis != 1]
        above = grad_outputs[0].float()
        centred = (images.float() - mean.view(shape)) * inverse.view(shape)
        sums = torch.stack([above.sum(axes), (above * centred).sum(axes)])
        of_bias, of_weight = sums.clone()
        distributed.all_reduce(sums)
        sums = sums / total
        below = above - sums[0].view(shape) - centred * sums[1].view(shape)
        scale = inverse if weight is None else inverse * weight.float()
        below = (below * scale.view(shape)).to(images.dtype)
        if weight is None:
            return below, None, None, None
        return below, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None
