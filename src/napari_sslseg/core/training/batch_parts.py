"""A batch through a network in parts, where it is too large for the memory.

The parts pass forward one after another and keep nothing but their output. The loss sees the
output of the whole batch, so that losses which compare the images of a batch, or sum over them,
are what they are without parts. On the way back each part passes forward once more, and its
gradient is added to that of the others. That costs about a third more time, and takes the memory
of one part.

What remains of the parts is seen by layers that average over a batch (BatchNorm) alone: they
average over a part.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class InParts(nn.Module):
    """A network that takes a batch in parts; otherwise it is the network itself.

    Parameters
    ----------
    network : nn.Module
        Takes tensors of shape (N, …), treats images alike, and returns a tensor of that shape or
        several. What else is asked of it, such as its ``encoder``, is that of the network.
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
        """Output of the whole batch."""
        if self.parts == 1:
            return self.network(*inputs)
        pieces = zip(*(tensor.chunk(self.parts) for tensor in inputs), strict=True)
        if not torch.is_grad_enabled():
            return _joined([self.network(*piece) for piece in pieces])
        return _joined(
            [
                checkpoint(self.network, *piece, use_reentrant=False, context_fn=self._contexts)
                for piece in pieces
            ]
        )

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _without_statistics(self.network)


def averages_over_batches(model: nn.Module) -> bool:
    """Whether a network has layers that average over a batch."""
    return any(isinstance(module, BATCH_NORMS) for module in model.modules())


@contextmanager
def _without_statistics(model: nn.Module) -> Iterator[None]:
    """Keep running averages as they are: the second pass of a part must not count twice."""
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


def _joined(outputs: list[Any]) -> Any:
    """Outputs of all parts as one, also where each is several tensors."""
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return type(outputs[0])(_joined(list(parts)) for parts in zip(*outputs, strict=True))
