"""Forward and backward of one step, in as few parts of a batch as the memory allows."""

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
from napari_sslseg.core.training.batch_parts import InParts, averages_over_batches
from napari_sslseg.core.training.compiled import Compiled
from napari_sslseg.core.training.job import Job, TrainingError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Gradients:
    """Computes the gradients of a batch, whatever the memory and the compiler do.

    Parameters
    ----------
    job : Job
        What to train.
    fabric : Fabric
        Device and precision.
    network : InParts
        The network, set up by the fabric; the number of its parts may grow.
    optimizer : Optimizer
        Likewise.
    draws : Generator
        What the loss draws from; set back where something has to be done again.
    compiled : Compiled
        Given up if it fails.
    stands : callable
        Says which checkpoint is left, for errors.
    """

    def __init__(
        self,
        job: Job,
        fabric: "Fabric",
        network: InParts,
        optimizer: torch.optim.Optimizer,
        draws: torch.Generator,
        compiled: Compiled,
        stands: Callable[[], str],
    ) -> None:
        self.job, self.fabric, self.network, self.optimizer = job, fabric, network, optimizer
        self.draws, self.compiled, self.stands = draws, compiled, stands

    def __call__(self, indices: np.ndarray, step: int) -> tuple[float, float, list[Message]]:
        """Compute them; loss, norm of the gradient and what to tell.

        Raises
        ------
        TrainingError
            If the memory suffices for no part of the batch.
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
        # Parts of the model that a loss calls by themselves take the precision from here.
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
            # One that is no number would spoil the weights, however good the loss looks.
            learning = (parameter.grad for parameter in self.job.model.parameters())
            norm = torch.nn.utils.get_total_norm([grad for grad in learning if grad is not None])
        self._figures = float(all_reduce_mean(loss.detach())), 0.0 if norm is None else float(norm)

    def _halve(self, error: BaseException, step: int) -> Message:
        """Take a batch in twice as many parts from now on."""
        where = f"at step {step} with {self.job.settings.batch_size} slices per step"
        if world_size() > 1:
            # The others are in the middle of an exchange, which cannot be taken back.
            raise TrainingError(
                f"Out of memory {where}; lower the batch size.{self.stands()}"
            ) from error
        if not self.job.splits or self.network.parts >= self.job.settings.batch_size:
            why = "" if self.job.splits else ", which this task cannot take in parts"
            raise TrainingError(
                f"Out of memory {where}{why}; lower the batch size, or take a smaller network "
                f"or coarser pixels.{self.stands()}"
            ) from error
        self.network.parts *= 2
        text = f"each batch goes through the network in {self.network.parts} parts"
        if averages_over_batches(self.job.model):
            text += ", and its layers of batch normalisation average over a part"
        else:
            text += ", which takes longer and changes no result"
        return Message(f"Out of memory {where}: {text}.")
