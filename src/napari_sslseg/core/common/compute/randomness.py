"""Random numbers of a training: their seeds, and the states that go into a checkpoint."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from napari_sslseg.core.common.compute.distributed import rank

# Between the seeds of processes that train together: a prime, so that runs do not meet.
SEEDS_APART = 1_000_003


def process_seed(seed: int) -> int:
    """Seed of what this process draws for samples of its own; that of the run in the first."""
    return seed + SEEDS_APART * rank()


def prepare_processes(model: nn.Module, seed: int, device: torch.device) -> None:
    """Make a network fit for several processes: statistics of all, but dropout of each its own."""
    torch.manual_seed(process_seed(seed))
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def random_state_name(number: int) -> str:
    """Where a state keeps the random numbers of a process."""
    return "random" if number == 0 else f"random@{number}"


def random_states(device: torch.device) -> dict[str, Tensor]:
    """States of PyTorch's own generators, of the CPU and of the device; dropout draws from them."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the generators to such states; those of other devices say nothing here."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
