"""A network that learns, and the moving average of its weights, which is what is kept.

The average is steadier than any single step, the more so where a few slices are all there is to
learn from (Polyak & Juditsky 1992; Tarvainen & Valpola, NeurIPS 2017). As it was at some steps, it
can be the teacher that labels other slices.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class AveragedNetwork(nn.Module):
    """In training the network itself; in evaluation the average of its weights so far.

    All that it holds is part of its state, so that a training goes on exactly.

    Parameters
    ----------
    learner : nn.Module
        What the optimiser changes; it may be ``network`` with more around it.
    network : nn.Module
        The part that is averaged, and kept in the end.
    decay : float
        Share of the average that each step leaves as it is, 0…1. The first steps leave less,
        (1 + steps) / (10 + steps), so that the random weights of the beginning are soon forgotten.
    rounds : sequence of int
        After which steps the average becomes the teacher.

    Attributes
    ----------
    average : nn.Module
        Of the same kind as ``network``; learns nothing by itself.
    teacher : nn.Module or None
        The average as it was when the last round began; None without rounds.
    steps : Tensor, shape (), int64
        How many steps are in the average.
    """

    steps: Tensor

    def __init__(
        self, learner: nn.Module, network: nn.Module, decay: float, rounds: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.learner = learner
        self.average = deepcopy(network).requires_grad_(False)
        self.teacher = deepcopy(self.average) if rounds else None
        self.decay = decay
        self.rounds = tuple(rounds)
        # Not a part of this one: its weights are those of the learner already.
        self._network = (network,)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def round(self) -> int:
        """How many rounds have begun."""
        done = int(self.steps)  # Once, since a GPU has to be waited for.
        return sum(done >= start for start in self.rounds)

    def train(self, mode: bool = True) -> "AveragedNetwork":
        """Switch the learner; average and teacher are in evaluation at all times."""
        super().train(mode)
        self.average.eval()
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, *inputs: Tensor) -> Any:
        """Output of the network, or in evaluation of the average."""
        return self.learner(*inputs) if self.training else self.average(*inputs)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step; running averages of layers are taken as they are."""
        (network,) = self._network
        done = int(self.steps)
        decay = min(self.decay, (1 + done) / (10 + done))
        mine: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(mine, list(network.parameters()), 1 - decay)
        for kept, theirs in zip(self.average.buffers(), network.buffers(), strict=True):
            kept.copy_(theirs)
        self.steps += 1
        if self.teacher is not None and done + 1 in self.rounds:
            self.teacher.load_state_dict(self.average.state_dict())
