"""What a training will run on, found out in the background, since PyTorch takes time to load."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sslseg.gui.model.run_lines import time_like

if TYPE_CHECKING:
    import torch

    from napari_sslseg.core.project.project import Project


@dataclass(frozen=True)
class DeviceInfo:
    """The device that a training takes.

    Attributes
    ----------
    words : str
        Which device, why, and with how many threads.
    devices : tuple of str
        Names of those that can be asked for; ``auto`` is the first.
    """

    words: str
    devices: tuple[str, ...]


def describe_device(device: str = "auto") -> DeviceInfo:
    """Find out what a training on ``device`` takes; loads PyTorch."""
    import torch

    from napari_sslseg.core.common.compute.devices import limit_threads, resolve_device

    found = ["auto", "cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return DeviceInfo(device_sentence(resolve_device(device), limit_threads()), tuple(found))


def device_sentence(device: "torch.device", threads: int) -> str:
    """Say where a training computes, with how much memory, and why not faster."""
    import torch

    from napari_sslseg.core.common.compute.devices import device_name

    name = device_name(device)
    free = _free_memory(device)
    room = f", {free / 2**30:.1f} GB of memory free" if free is not None else ""
    if device.type != "cpu":
        return f"Computes on the graphics card ({name}{room})."
    many = "1 thread" if threads == 1 else f"{threads} threads"
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        why = "the graphics card would be faster"
    elif torch.version.cuda is None and torch.version.hip is None:
        why = "this PyTorch cannot use a graphics card"
    else:
        why = "there is no graphics card"
    return f"Computes on the processor ({name}, {many}{room}); {why}."


def _free_memory(device: "torch.device") -> int | None:
    """Bytes that are free where a training computes; None if it cannot be told."""
    import torch

    from napari_sslseg.core.training.memory_probe import available_memory

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


@dataclass(frozen=True, eq=False)
class EstimateRequest:
    """A training, to find out on what it will run and how long.

    Attributes
    ----------
    device, task : str
    steps, batch : int
    network : NetworkSettings
    project : Project or None
        Whose earlier runs tell the speed.
    """

    device: str
    steps: int
    task: str
    network: Any
    batch: int
    project: "Project | None"


def estimate_run(asked: EstimateRequest) -> tuple[DeviceInfo, tuple[float, float] | None]:
    """Find the machine, and the seconds per step of an earlier run that did the same."""
    each = time_like(asked.project, asked.task, asked.network, asked.batch)
    return describe_device(asked.device), each
