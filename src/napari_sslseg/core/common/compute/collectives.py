"""Collective operations on tensors, for losses over the batch of all processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from napari_sslseg.core.common.compute.distributed import collective_device, world_size


class _Gather(torch.autograd.Function):
    """All-gather with gradients: each process receives the gradient of its own rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, own.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Every process differentiates the same loss, and DDP averages the gradients.
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return whole.chunk(dist.get_world_size())[dist.get_rank()]


def all_gather_rows(own: Tensor) -> Tensor:
    """Concatenate the rows of all processes, in order of rank and with gradients.

    For losses that compare the samples of a batch. Each process then computes the loss of the
    whole batch, and DDP's mean of the gradients is the gradient of that loss.

    Parameters
    ----------
    own : Tensor, shape (N, …)
        Rows of this process; N is the same in every process.

    Returns
    -------
    Tensor, shape (processes · N, …)
    """
    if world_size() == 1:
        return own
    if own.dtype == torch.bool:
        return all_gather_rows(own.to(torch.uint8)).to(torch.bool)
    device = own.device
    found: Tensor = _Gather.apply(own.to(collective_device(device)))
    return found.to(device)


def all_reduce_mean(value: Tensor) -> Tensor:
    """Average a value over all processes, without gradients, such as a number of pixels.

    If each process divides its own sum by this mean, the average over the processes is the ratio
    of the sums over the whole batch.
    """
    world = world_size()
    if world == 1:
        return value
    whole = value.detach().to(collective_device(value.device), torch.float64, copy=True)
    dist.all_reduce(whole)
    return (whole / world).to(value.device)
