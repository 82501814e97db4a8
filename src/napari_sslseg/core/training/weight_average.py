"""Moving average of the weights of a network during training.

The average varies less than the weights of any single step, which matters most with few training
slices (Polyak & Juditsky 1992; Tarvainen & Valpola, NeurIPS 2017). A copy of it, taken at the
beginning of each round, is the teacher that labels unlabelled slices.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class AveragedNetwork(nn.Module):
    """The network itself in training mode, the average of its weights in evaluation mode.

    Average, teacher and step count are part of the state dict, so that a training resumes exactly.

    Parameters
    ----------
    learner : nn.Module
        Module that the optimiser trains: ``network``, possibly with a branch around it.
    network : nn.Module
        The part that is averaged and saved.
    decay : float
        Factor of the old average in each update, 0…1. It is at most (1 + steps) / (10 + steps),
        so that the random initial weights soon have no influence.
    rounds : sequence of int
        Steps after which the average is copied to the teacher.

    Attributes
    ----------
    average : nn.Module
        Same architecture as ``network``; the optimiser does not change it.
    teacher : nn.Module or None
        The average at the beginning of the current round; None without rounds.
    steps : Tensor, shape (), int64
        Number of updates of the average.
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
        # In a tuple, so that it is no submodule: its weights are those of the learner already.
        self._network = (network,)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def round(self) -> int:
        """Number of rounds that have begun."""
        done = int(self.steps)  # Read once, since this waits for the GPU.
        return sum(done >= start for start in self.rounds)

    def train(self, mode: bool = True) -> "AveragedNetwork":
        """Set the mode of the learner; average and teacher stay in evaluation mode."""
        super().train(mode)
        self.average.eval()
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, *inputs: Tensor) -> Any:
        """Output of the learner, or of the average in evaluation mode."""
        return self.learner(*inputs) if self.training else self.average(*inputs)

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after a step; counts among the buffers are copied.

        Running statistics of normalisation are averaged as the weights are, since they belong to
        features of these weights, and not of the newest ones.
        """
        (network,) = self._network
        done = int(self.steps)
        decay = min(self.decay, (1 + done) / (10 + done))
        averages: list[Tensor] = list(self.average.parameters())
        values: list[Tensor] = list(network.parameters())
        for own, current in zip(self.average.buffers(), network.buffers(), strict=True):
            if own.is_floating_point():
                averages.append(own)
                values.append(current)
            else:
                own.copy_(current)
        torch._foreach_lerp_(averages, values, 1 - decay)
        self.steps += 1
        if self.teacher is not None and done + 1 in self.rounds:
            self.teacher.load_state_dict(self.average.state_dict())
