"""How much memory a step takes, tried or estimated before a training begins."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_sslseg.core.common.compute.devices import device_name
from napari_sslseg.core.common.compute.distributed import shard, single_process, world_size
from napari_sslseg.core.common.compute.memory import is_out_of_memory
from napari_sslseg.core.training.batch_parts import InParts
from napari_sslseg.core.training.job import Job, TrainingError
from napari_sslseg.core.training.sampler import Draws

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Images for the estimate: whole pairs and triplets, for tasks whose batches are made of them.
FEW = 6
# Gradients, and the two averages of Adam.
COPIES = 3
SPARE = 0.95


@dataclass(frozen=True)
class BatchPlan:
    """How a batch passes through the network.

    Attributes
    ----------
    size : int
        Slices that pass through it at once, at most those of the settings.
    parts : int
        In how many parts a batch does.
    message : str
        What was found, in one sentence; empty if there is nothing to tell.
    """

    size: int
    parts: int
    message: str


def find_batch_size(job: Job, fabric: "Fabric") -> BatchPlan:
    """Find how many slices of a batch pass through the network at once, up to the batch size.

    On a CUDA device one step is tried, with fewer slices at once until it fits. On other devices
    nothing is tried, since too much would end the process: the memory is estimated from a few
    slices and compared with what the machine has left. Weights, random numbers and running
    averages stay as they are.

    Parameters
    ----------
    job : Job
        What to train.
    fabric : Fabric
        Where.

    Raises
    ------
    TrainingError
        If not even one slice at a time fits on the device.
    """
    if fabric.device.type == "cuda":
        return _tried(job, fabric)
    if fabric.device.type == "cpu":
        return _estimated(job, fabric)
    return BatchPlan(job.settings.batch_size, 1, "")


def available_memory() -> int | None:
    """Bytes of memory that the machine has left for this process; None if it does not tell."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")
        if limit.isdigit():
            found.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass  # Not Linux, or not the second version of control groups.
    return max(0, min(found)) if found else None


def _estimated(job: Job, fabric: "Fabric") -> BatchPlan:
    """Count what forward keeps for backward, for a few slices of a batch."""
    size = job.settings.batch_size // world_size()
    free = available_memory()
    if free is None:
        return BatchPlan(size, 1, "")
    indices = shard(Draws(job.batches, job.settings.seed).next(), job.groups)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    few = indices[:FEW]
    buffers = [(buffer, buffer.clone()) for buffer in job.model.buffers()]
    training = job.model.training
    weights = sum(p.numel() * p.element_size() for p in job.model.parameters())
    try:
        job.model.train()
        with (
            torch.random.fork_rng(devices=[]),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            fabric.autocast(),
            single_process(),
        ):
            # Kept until all is counted, since memory that is given back is used again.
            loss = job.loss(job.model, few, torch.Generator().manual_seed(job.settings.seed))
        del loss
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"Out of memory: a step with {len(few)} slices alone does not fit into the "
            f"{_gigabytes(free)} that are free; close other programs, or take a smaller network."
        ) from error
    finally:
        job.model.train(training)
        _put_back(buffers)
    need = int(sum(kept.values()) * len(indices) / len(few)) + COPIES * weights
    what = f"a step of {len(indices)} slices takes about {_gigabytes(need)} of memory"
    if need <= SPARE * free:
        return BatchPlan(size, 1, f"Memory: {what}, of {_gigabytes(free)} free.")
    parts = 1
    while job.splits and parts < size and need / parts > SPARE * free:
        parts *= 2
    if parts == 1:
        lower = f"Memory: {what}, but {_gigabytes(free)} are free; lower the batch size."
        return BatchPlan(size, 1, lower)
    return BatchPlan(
        -(-size // parts),
        parts,
        f"Memory: {what}, but {_gigabytes(free)} are free, so that each batch goes through the "
        f"network in {parts} parts.",
    )


def _tried(job: Job, fabric: "Fabric") -> BatchPlan:
    """Go forward and backward with the first batch, in ever more parts until it fits."""
    device, size = fabric.device, job.settings.batch_size // world_size()
    total = torch.cuda.get_device_properties(device).total_memory
    fabric.to_device(job.model)
    buffers = [(buffer, buffer.clone()) for buffer in job.model.buffers()]
    weights = sum(p.numel() * p.element_size() for p in job.model.parameters())
    parts = 1
    try:
        with torch.random.fork_rng(devices=[device]):
            while True:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
                fits = _fits(job, fabric, InParts(job.model, parts))
                need = torch.cuda.max_memory_allocated(device) + (COPIES - 1) * weights
                if fits and need <= SPARE * total:
                    break
                if parts >= size or not job.splits:
                    raise TrainingError(
                        f"A step with {-(-size // parts)} slices at once does not fit into the "
                        f"{_gigabytes(total)} of {device_name(device)}; lower the batch size, or "
                        "take a smaller network or coarser pixels."
                    )
                parts *= 2
    finally:
        for parameter in job.model.parameters():
            parameter.grad = None
        _put_back(buffers)
        torch.cuda.empty_cache()
    once = -(-size // parts)
    where = f"of the {_gigabytes(total)} of {device_name(device)}"
    if parts == 1:
        text = f"Memory: a step of {size} slices takes {_gigabytes(need)} {where}."
    else:
        text = (
            f"Memory: a batch of {size} slices is too large, so {once} at a time go through the "
            f"network, which takes {_gigabytes(need)} {where}."
        )
    return BatchPlan(once, parts, text)


def _put_back(buffers: list[tuple[Tensor, Tensor]]) -> None:
    """Give running averages their values of before."""
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def _fits(job: Job, fabric: "Fabric", network: nn.Module) -> bool:
    indices = shard(Draws(job.batches, job.settings.seed).next(), job.groups)
    try:
        network.train()
        with fabric.autocast(), single_process():
            generator = torch.Generator().manual_seed(job.settings.seed)
            loss = job.loss(network, indices, generator)
        loss.backward()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        for parameter in job.model.parameters():
            parameter.grad = None
    return True


def _gigabytes(size: int) -> str:
    return f"{size / 1024**3:.2g} GB" if size < 1024**4 else f"{size / 1024**3:.0f} GB"
