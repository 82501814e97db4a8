"""Pass a batch through a network in parts, where the whole batch does not fit into memory.

The forward pass of each part keeps only its output. The loss takes the outputs of the whole batch,
so losses that compare the images of a batch, or sum over them, do not change. In the backward pass
the forward pass of each part is repeated, and the gradients of the parts are summed (gradient
checkpointing). This takes about a third more time, and the memory of one part.

Only layers that average over a batch (BatchNorm) give other results: they average over a part.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class InParts(nn.Module):
    """A network that processes each batch in parts, and otherwise behaves like the network.

    Parameters
    ----------
    network : nn.Module
        Takes tensors of shape (N, …), processes images independently, and returns one or several
        tensors of shape (N, …). Other attributes, such as ``encoder``, are those of the network.
    parts : int
        Number of parts; 1 changes nothing.
    """

    def __init__(self, network: nn.Module, parts: int) -> None:
        super().__init__()
        self.network = network
        self.parts = parts

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, *inputs: Tensor) -> Any:
        """Output for the whole batch."""
        if self.parts == 1:
            return self.network(*inputs)
        pieces = zip(*(tensor.chunk(self.parts) for tensor in inputs), strict=True)
        if not torch.is_grad_enabled():
            return _concatenate([self.network(*piece) for piece in pieces])
        return _concatenate(
            [
                checkpoint(self.network, *piece, use_reentrant=False, context_fn=self._contexts)
                for piece in pieces
            ]
        )

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(self.network)


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a network has layers that average over a batch."""
    return any(isinstance(module, BATCH_NORMS) for module in model.modules())


@contextmanager
def _frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Do not update running averages, so that the second pass of a part does not count."""
    norms: list[Any] = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    before = [norm.momentum for norm in norms]
    counts = [
        None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
        for norm in norms
    ]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, before, counts, strict=True):
            norm.momentum = momentum
            if count is not None:
                norm.num_batches_tracked.copy_(count)


def _concatenate(outputs: list[Any]) -> Any:
    """Concatenate the outputs of all parts, which are tensors or sequences of them."""
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return type(outputs[0])(_concatenate(list(parts)) for parts in zip(*outputs, strict=True))
