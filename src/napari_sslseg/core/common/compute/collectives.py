"""Tensors of all processes that train together, for losses that look at a whole batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from napari_sslseg.core.common.compute.distributed import collective_device, world_size


class _Gather(torch.autograd.Function):
    """Rows of all processes, one after another; the gradient of each goes back to its own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, own.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Every process goes back from the same loss; DDP takes the mean of what comes out.
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return whole.chunk(dist.get_world_size())[dist.get_rank()]


def all_gather_rows(own: Tensor) -> Tensor:
    """Rows of all processes, shape (processes · N, …), in their order and with gradients.

    For losses that compare the samples of a batch. Each process then has the loss of the whole
    batch, and the mean of their gradients, which DDP takes, is the gradient of that loss.

    Parameters
    ----------
    own : Tensor, shape (N, …)
        As many rows in every process.
    """
    if world_size() == 1:
        return own
    if own.dtype == torch.bool:
        return all_gather_rows(own.to(torch.uint8)).to(torch.bool)
    device = own.device
    found: Tensor = _Gather.apply(own.to(collective_device(device)))
    return found.to(device)


def all_reduce_mean(value: Tensor) -> Tensor:
    """Mean over the processes, without gradients, such as of a number of pixels to divide by.

    A sum over the own share, divided by this, has the ratio of the sums over the whole batch as
    its mean over the processes.
    """
    world = world_size()
    if world == 1:
        return value
    whole = value.detach().to(collective_device(value.device), torch.float64, copy=True)
    dist.all_reduce(whole)
    return (whole / world).to(value.device)
