"""Seeds of a training, and the random states that are saved in a checkpoint."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from napari_sslseg.core.common.compute.distributed import rank

# Offset between the seeds of two processes: a prime, so that seeds of runs do not coincide.
SEEDS_APART = 1_000_003


def process_seed(seed: int) -> int:
    """Return the seed of this process for its own samples; rank 0 has the seed of the run."""
    return seed + SEEDS_APART * rank()


def prepare_processes(model: nn.Module, seed: int, device: torch.device) -> None:
    """Prepare a network for several processes: shared batch statistics, separate dropout."""
    torch.manual_seed(process_seed(seed))
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def random_state_name(number: int) -> str:
    """Return the name under which a checkpoint stores the random state of a process."""
    return "random" if number == 0 else f"random@{number}"


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of PyTorch's default generators, from which dropout draws."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the states of the default generators; states of other devices are ignored."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
