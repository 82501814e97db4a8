"""What a training trains: the network, the slices, the loss and the validation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.layer_plans import LayerPlan
from napari_sslseg.core.training.sampler import Sampler


class TrainingError(SslsegError):
    """A training that cannot go on."""


@dataclass(frozen=True, eq=False)
class Job:
    """What to train.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    settings : Training
        How.
    batches : callable
        From a random generator to an endless iterator of index arrays. It draws from nothing but
        that generator, so that its position is known by the number of batches drawn.
    steps_per_epoch : int
        Steps in which each slice is seen about once. The validation comes once an epoch, but not
        more than about 20 times in all, unless the settings say otherwise: with a few annotated
        slices an epoch is a single step. Where the settings count in epochs, their steps are
        those of :func:`~napari_sslseg.core.training.schedules.with_steps`.
    loss : callable
        ``(model, indices, generator) -> scalar Tensor``; fetches the batch and goes forward. It
        draws from the generator and from PyTorch's own alone.
    validate : callable or None
        ``model -> figures`` by name, on data that the training does not see.
    monitor : str
        The figure that decides which weights are best.
    better : {"lower", "higher"}
        Which way it improves.
    kept : nn.Module, optional
        The part of the model whose weights are saved; all of it if not given.
    begin_epoch : callable, optional
        Told at the start of every epoch how much of the training has passed: 0 in the first
        epoch, 1 in the last.
    splits : bool
        Whether a batch that is too large for the memory may pass through the network in parts.
    describe : callable, optional
        Names slices by their indices, for messages.
    show : callable, optional
        ``model -> picture`` of what is watched, None if there is nothing to show; draws from no
        generator but its own. The model is in evaluation mode, without gradients.
    after_step : callable, optional
        Called after each step, once the weights are changed.
    count_used : callable, optional
        How many samples of a batch the step uses; all of them if not given.
    groups : int
        Parts of equal length that a batch consists of, such as anchors, positives and negatives;
        processes that train together take the same places of all of them.
    plan : LayerPlan, optional
        Which layers learn when, and how fast; all at once and by the schedule if not given.
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
