"""Description of a training: the network, the batches, the loss and the validation."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.layer_plans import LayerPlan
from napari_sslseg.core.training.sampler import Sampler


class TrainingError(SslsegError):
    """A training that cannot continue."""


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """What to train.

    Parameters
    ----------
    model : nn.Module
        Network, trained in place.
    settings : Training
        Schedule, optimiser and so on.
    batches : callable
        Sampler: from a random generator to an endless iterator of index arrays. It uses no other
        randomness, so that the number of batches drawn determines its position.
    steps_per_epoch : int
        Steps in which each slice is used about once. By default there is a validation after each
        epoch, but not more than about 20 in all: with a few annotated slices an epoch is a single
        step. For a length in epochs, see
        :func:`~napari_sslseg.core.training.schedules.with_steps`.
    loss : callable
        ``(model, indices, generator) -> scalar Tensor``; loads the batch and computes the loss.
        It uses only randomness of the generator and of PyTorch's global generators.
    validate : callable or None
        ``model -> scores`` by name, on validation data.
    monitor : str
        Name of the score that decides which weights are best.
    better : {"lower", "higher"}
        Whether lower or higher scores are better.
    kept : nn.Module, optional
        Part of the model whose weights are saved; the whole model if not given.
    begin_epoch : callable, optional
        Called at the start of each epoch with the progress of the training: 0 in the first epoch,
        1 in the last.
    splits : bool
        Whether a batch that does not fit into memory may pass through the network in parts.
    describe : callable, optional
        From the indices of samples to their names, for messages.
    show : callable, optional
        ``model -> picture`` for a preview; None if there is nothing to show. It uses only a random
        generator of its own. The model is in evaluation mode, without gradients.
    after_step : callable, optional
        Called after each step, when the weights have changed.
    count_used : callable, optional
        Number of samples of a batch that the step uses; all of them if not given.
    groups : int
        Number of groups of equal size in a batch, such as anchors, positives and negatives. Of
        each group, a process takes the samples at the same positions.
    plan : LayerPlan, optional
        Learning rates of the layers; all follow the schedule if not given.
    costs : tuple of (int, float)
        Steps, from 0, from which each step takes so many times as long as the first ones.
    """

    model: nn.Module
    settings: Training
    batches: Sampler
    steps_per_epoch: int
    loss: Callable[[nn.Module, np.ndarray, torch.Generator], Tensor]
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    monitor: str = "loss"
    better: Literal["lower", "higher"] = "lower"
    kept: nn.Module | None = None
    begin_epoch: Callable[[float], None] | None = None
    splits: bool = True
    describe: Callable[[np.ndarray], str] | None = None
    show: Callable[[nn.Module], Any] | None = None
    after_step: Callable[[], None] | None = None
    count_used: Callable[[np.ndarray], int] | None = None
    groups: int = 1
    plan: LayerPlan | None = None
    costs: tuple[tuple[int, float], ...] = ()

    def cost(self, step: int) -> float:
        """Work of a step, from 0, relative to that of the first ones."""
        return next((cost for begin, cost in reversed(self.costs) if step >= begin), 1.0)

    def cost_left(self, step: int) -> float:
        """Work of all steps from this one on, relative to one of the first ones."""
        total = self.settings.steps
        begins = [0, *(begin for begin, _ in self.costs), total]
        return sum(
            self.cost(first) * max(0, min(last, total) - max(first, step))
            for first, last in pairwise(begins)
        )
