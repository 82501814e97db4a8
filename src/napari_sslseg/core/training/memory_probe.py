"""Estimate how much memory a training step takes, before the training begins."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_sslseg.core.common.compute.distributed import shard, single_process, world_size
from napari_sslseg.core.common.compute.memory import (
    available_memory,
    gigabytes,
    is_out_of_memory,
)
from napari_sslseg.core.training.job import TrainingError, TrainingJob
from napari_sslseg.core.training.sampler import BatchSequence

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Images for the estimate: whole pairs and triplets, for tasks whose batches consist of them.
FEW = 6
# Gradients, and the two averages of Adam.
COPIES = 3
# The rest is for buffers of libraries, which take more on a GPU.
USABLE = {"cpu": 0.95, "cuda": 0.85}


@dataclass(frozen=True)
class BatchParts:
    """How a batch passes through the network.

    Attributes
    ----------
    size : int
        Images that pass through the network at once, at most the batch size.
    parts : int
        Number of parts that a batch is divided into.
    message : str
        The estimate, in one sentence; empty if there is none.
    """

    size: int
    parts: int
    message: str


def find_batch_parts(job: TrainingJob, fabric: "Fabric") -> BatchParts:
    """Find how many images of a batch fit into memory at once.

    The memory of a step is estimated from the forward pass of a few images, and compared with the
    free memory of the device. Weights, random states and running averages are not changed. If the
    estimate is too low, batches are divided further during the training, see
    :class:`~napari_sslseg.core.training.gradients.Gradients`.

    Parameters
    ----------
    job : TrainingJob
        What to train.
    fabric : Fabric
        Device and precision.

    Raises
    ------
    TrainingError
        If the forward pass of a few images does not fit into memory.
    """
    size = job.settings.batch_size // world_size()
    if fabric.device.type == "cuda":
        fabric.to_device(job.model)
    free = available_memory(fabric.device)
    if free is None:
        return BatchParts(size, 1, "")
    indices = shard(BatchSequence(job.batches, job.settings.seed).next(), job.groups)
    weights = sum(p.numel() * p.element_size() for p in job.model.parameters())
    activations = _activation_size(job, fabric, indices[:FEW], free)
    need = int(activations * len(indices)) + COPIES * weights
    limit = USABLE[fabric.device.type] * free
    what = f"a step of {len(indices)} slices takes about {gigabytes(need)} of memory"
    if need <= limit:
        return BatchParts(size, 1, f"Memory: {what}, of {gigabytes(free)} free.")
    parts = 1
    while job.splits and parts < size and need / parts > limit:
        parts *= 2
    but = f"Memory: {what}, but {gigabytes(free)} are free"
    if parts == 1:
        return BatchParts(size, 1, f"{but}; lower the batch size.")
    return BatchParts(
        -(-size // parts),
        parts,
        f"{but}, so each batch passes through the network in {parts} parts.",
    )


def _activation_size(job: TrainingJob, fabric: "Fabric", few: np.ndarray, free: int) -> float:
    """Bytes per image that the forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    buffers = [(buffer, buffer.clone()) for buffer in job.model.buffers()]
    training = job.model.training
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    try:
        job.model.train()
        with (
            torch.random.fork_rng(devices=devices),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            fabric.autocast(),
            single_process(),
        ):
            # The loss keeps all tensors until they are counted; freed addresses are used again.
            loss = job.loss(job.model, few, torch.Generator().manual_seed(job.settings.seed))
        del loss
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if job.splits and len(few) > 1:
            smaller = few[: len(few) // 2]
        else:
            raise TrainingError(
                f"Out of memory: a step with {len(few)} slices alone does not fit into the "
                f"{gigabytes(free)} that are free; close other programs, or use a smaller network."
            ) from error
    else:
        return sum(kept.values()) / len(few)
    finally:
        job.model.train(training)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return _activation_size(job, fabric, smaller, free)
