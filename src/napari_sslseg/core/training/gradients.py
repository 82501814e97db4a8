"""Forward and backward pass of one step, in as few parts of a batch as the memory allows."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_sslseg.core.common.compute.collectives import all_reduce_mean
from napari_sslseg.core.common.compute.devices import empty_device_cache
from napari_sslseg.core.common.compute.distributed import world_size
from napari_sslseg.core.common.compute.memory import is_out_of_memory
from napari_sslseg.core.common.compute.randomness import random_states, set_random_states
from napari_sslseg.core.common.events import Message
from napari_sslseg.core.training.batch_parts import InParts, has_batch_norm
from napari_sslseg.core.training.compiled import CompiledNetwork
from napari_sslseg.core.training.job import TrainingError, TrainingJob

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Gradients:
    """Computes the gradients of a batch, and recovers if memory or compiler fail.

    Parameters
    ----------
    job : TrainingJob
        What to train.
    fabric : Fabric
        Device and precision.
    network : InParts
        The network, set up by the fabric; its number of parts may be increased.
    optimizer : Optimizer
        The optimiser, set up by the fabric.
    draws : Generator
        Random generator of the loss; it is reset where a step is repeated.
    compiled : CompiledNetwork
        Disabled if it fails.
    last_checkpoint : callable
        Returns a sentence on the last checkpoint, for errors.
    """

    def __init__(
        self,
        job: TrainingJob,
        fabric: "Fabric",
        network: InParts,
        optimizer: torch.optim.Optimizer,
        draws: torch.Generator,
        compiled: CompiledNetwork,
        last_checkpoint: Callable[[], str],
    ) -> None:
        self.job, self.fabric, self.network, self.optimizer = job, fabric, network, optimizer
        self.draws, self.compiled, self.last_checkpoint = draws, compiled, last_checkpoint

    def __call__(self, indices: np.ndarray, step: int) -> tuple[float, float, list[Message]]:
        """Compute the gradients of a batch.

        Parameters
        ----------
        indices : ndarray
            Samples of the batch.
        step : int
            Number of the step, for messages.

        Returns
        -------
        float, float, list of Message
            Loss, norm of the gradient, and messages on what was changed to make it work.

        Raises
        ------
        TrainingError
            If not even the smallest part of the batch fits into memory.
        """
        messages: list[Message] = []
        work = partial(self._forward_and_backward, indices)
        before = self.draws.get_state(), random_states(self.fabric.device)
        while (error := self.compiled.attempt(work)) is not None:
            if not is_out_of_memory(error):
                messages.append(self.compiled.give_up(error))
            else:
                messages.append(self._halve(error, step))
            del error
            self.optimizer.zero_grad(set_to_none=True)
            empty_device_cache(self.fabric.device)
            self.draws.set_state(before[0])
            set_random_states(before[1], self.fabric.device)
        return *self._figures, messages

    def _forward_and_backward(self, indices: np.ndarray) -> None:
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        # Also applies to parts of the model that a loss calls directly.
        with self.fabric.autocast():
            loss = self.job.loss(self.network, indices, self.draws)
        self.fabric.backward(loss)
        norm: torch.Tensor | None
        if self.job.settings.gradient_clip:
            norm = self.fabric.clip_gradients(
                self.network.network,
                self.optimizer,
                max_norm=self.job.settings.gradient_clip,
                error_if_nonfinite=False,
            )
        else:
            # A gradient that is not finite would ruin the weights, even if the loss is finite.
            gradients = (parameter.grad for parameter in self.job.model.parameters())
            norm = torch.nn.utils.get_total_norm([grad for grad in gradients if grad is not None])
        self._figures = float(all_reduce_mean(loss.detach())), 0.0 if norm is None else float(norm)

    def _halve(self, error: BaseException, step: int) -> Message:
        """Divide batches into twice as many parts from now on."""
        where = f"at step {step} with {self.job.settings.batch_size} slices per step"
        if world_size() > 1:
            # The other processes wait in a collective operation, which cannot be undone.
            raise TrainingError(
                f"Out of memory {where}; lower the batch size.{self.last_checkpoint()}"
            ) from error
        if not self.job.splits or self.network.parts >= self.job.settings.batch_size:
            why = "" if self.job.splits else ", which this task cannot process in parts"
            raise TrainingError(
                f"Out of memory {where}{why}; lower the batch size, or use a smaller network "
                f"or a larger spacing.{self.last_checkpoint()}"
            ) from error
        self.network.parts *= 2
        text = f"each batch now passes through the network in {self.network.parts} parts"
        if has_batch_norm(self.job.model):
            text += ", and batch normalisation averages over a part"
        else:
            text += ", which takes longer and changes no result"
        return Message(f"Out of memory {where}: {text}.")
