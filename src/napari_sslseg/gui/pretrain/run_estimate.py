"""Device and time that a training will take, found in the background: PyTorch loads slowly."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sslseg.gui.model.run_lines import expected_step_seconds
from napari_sslseg.gui.text import plural

if TYPE_CHECKING:
    import torch

    from napari_sslseg.core.project.project import Project


@dataclass(frozen=True)
class DeviceInfo:
    """The device that a training uses.

    Attributes
    ----------
    description : str
        Name of the device, its free memory, number of threads, and why not a faster device.
    devices : tuple of str
        Devices to choose from; ``auto`` is the first.
    """

    description: str
    devices: tuple[str, ...]


def describe_device(device: str = "auto") -> DeviceInfo:
    """Find out what a training on ``device`` uses; loads PyTorch."""
    import torch

    from napari_sslseg.core.common.compute.devices import has_gpu, limit_threads, resolve_device

    found = ["auto", "cpu"]
    if has_gpu("cuda"):
        found += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if has_gpu("mps"):
        found.append("mps")
    return DeviceInfo(_device_sentence(resolve_device(device), limit_threads()), tuple(found))


def _device_sentence(device: "torch.device", threads: int) -> str:
    from napari_sslseg.core.common.compute.devices import device_name, resolve_device, why_no_gpu

    name = device_name(device)
    free = _free_memory(device)
    memory = f", {free / 2**30:.1f} GB of memory free" if free is not None else ""
    if device.type != "cpu":
        return f"Runs on the GPU ({name}{memory})."
    chosen = resolve_device("auto").type != "cpu"
    why = "the GPU would be faster" if chosen else why_no_gpu()
    return f"Runs on the CPU ({name}, {plural(threads, 'thread')}{memory}); {why}."


def _free_memory(device: "torch.device") -> int | None:
    """Free memory of the device in bytes; None if it is unknown."""
    import torch

    from napari_sslseg.core.common.compute.memory import available_memory

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


@dataclass(frozen=True, eq=False)
class EstimateRequest:
    """A training whose device and speed are wanted.

    Attributes
    ----------
    device, task : str
        Names of the device and the pretext task.
    network : NetworkSettings
        Settings of the network.
    batch : int
        Batch size.
    project : Project or None
        Its earlier runs give the speed.
    """

    device: str
    task: str
    network: Any
    batch: int
    project: "Project | None"


def estimate_run(request: EstimateRequest) -> tuple[DeviceInfo, tuple[float, float] | None]:
    """Find the device, and the seconds per step (lowest, highest) of a similar earlier run."""
    seconds = expected_step_seconds(request.project, request.task, request.network, request.batch)
    return describe_device(request.device), seconds
