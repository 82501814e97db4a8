"""A network that learns, and the moving average of its weights, which is what is kept.

The average is steadier than any single step, the more so where a few slices are all there is to
learn from; as a teacher it says what unlabelled slices show (Tarvainen & Valpola, NeurIPS 2017).
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class Averaged(nn.Module):
    """In training the network itself; in evaluation the average of its weights so far.

    Parameters
    ----------
    learner : nn.Module
        What the optimiser changes; it may be ``network`` with more around it.
    network : nn.Module
        The part that is averaged, and kept in the end.
    decay : float
        Share of the average that each step leaves as it is, 0…1. The first steps leave less,
        (1 + steps) / (10 + steps), so that the random weights of the beginning are soon forgotten.

    Attributes
    ----------
    average : nn.Module
        Of the same kind as ``network``; learns nothing by itself.
    steps : Tensor, shape (), int64
        How many steps are in it; part of the state, so that a training goes on exactly.
    """

    steps: Tensor

    def __init__(self, learner: nn.Module, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.learner = learner
        self.average = deepcopy(network).requires_grad_(False)
        self.decay = decay
        # Not a part of this one: its weights are those of the learner already.
        self._network = (network,)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> "Averaged":
        """Switch the learner; the average is in evaluation at all times."""
        super().train(mode)
        self.average.eval()
        return self

    def forward(self, *inputs: Tensor) -> Any:
        """Output of the network, or in evaluation of the average."""
        return self.learner(*inputs) if self.training else self.average(*inputs)

    @torch.no_grad()
    def follow(self) -> None:
        """Take in the weights after a step; running averages of layers are taken as they are."""
        (network,) = self._network
        done = int(self.steps)
        decay = min(self.decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(list(self.average.parameters()), list(network.parameters()), 1 - decay)
        for mine, theirs in zip(self.average.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
        self.steps += 1
