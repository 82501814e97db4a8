"""The device that a training runs on: which one, why, and with how many threads."""

import os
import platform
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_sslseg.core.common.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Reading the scans of a large study takes one process long, while the others wait.
LONGEST_WAIT = timedelta(hours=2)


def make_fabric(
    device: str = "auto", precision: str = "32-true", devices: int = 1, nodes: int = 1
) -> "Fabric":
    """Fabric on one device, or on several, each with a process of its own.

    Parameters
    ----------
    device : str
        ``auto`` (the first GPU, else Apple's GPU, else the CPU), ``cpu``, ``cuda``, ``cuda:1``,
        ``mps``.
    precision : str
        As in :class:`~napari_sslseg.core.settings.training.Training`.
    devices : int
        Devices of each machine; on the CPU, processes.
    nodes : int
        Machines.

    Raises
    ------
    ConfigError
        If this machine has no such device, or too few.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    name, number = _accelerator(device)
    choice: dict[str, Any] = {"accelerator": name, "precision": precision}
    if devices * nodes == 1:
        choice["devices"] = [number] if name == "cuda" else 1
    else:
        if name == "mps" or ":" in device:
            raise ConfigError(
                f"Several processes cannot train on {device}; name cpu or cuda, without a number."
            )
        if name == "cuda" and torch.cuda.device_count() < devices:
            raise ConfigError(
                f"This machine has {torch.cuda.device_count()} CUDA devices, not {devices}; choose "
                "fewer."
            )
        strategy = DDPStrategy(timeout=LONGEST_WAIT)
        choice |= {"devices": devices, "num_nodes": nodes, "strategy": strategy}
    with warnings.catch_warnings():
        # Not every training on a machine with SLURM is meant for it.
        warnings.filterwarnings("ignore", "The `srun` command is available")
        return Fabric(**choice)


def _accelerator(device: str) -> tuple[str, int]:
    """Kind and number of a device."""
    name, _, number = device.partition(":")
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    if name not in ("cpu", "cuda", "mps") or (number and not (name == "cuda" and number.isdigit())):
        raise ConfigError(f"There is no device {device}; choose auto, cpu, cuda, cuda:N or mps.")
    if name == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"This machine has {torch.cuda.device_count()} CUDA devices, so {device} cannot be "
            "used; choose auto or cpu."
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("This machine has no MPS device; choose auto or cpu.")
    return name, int(number or 0)


def resolve_device(device: str = "auto") -> torch.device:
    """Device that a training takes, see :func:`make_fabric`.

    Raises
    ------
    ConfigError
        If this machine has no such device.
    """
    name, number = _accelerator(device)
    return torch.device(f"cuda:{number}" if name == "cuda" else name)


def device_name(device: torch.device) -> str:
    """Name of a device, such as that of the graphics card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple GPU ({platform.machine()})"
    return _processor() or platform.processor() or platform.machine() or "CPU"


def device_message(
    device: torch.device, asked: str, threads: int, devices: int = 1, nodes: int = 1
) -> str:
    """Say in one sentence which device is used, and why."""
    name = device_name(device)
    where = f"{device} ({name})"
    if devices * nodes > 1:
        what = "processes on the CPU" if device.type == "cpu" else "CUDA devices"
        machines = f" of {nodes} machines" if nodes > 1 else ""
        return f"Device: {devices * nodes} {what}{machines} ({name}), as asked for."
    if device.type == "cpu":
        where += f", {threads} thread{'s' if threads > 1 else ''}"
    if asked != "auto":
        return f"Device: {where}, as asked for."
    if device.type == "cuda":
        return f"Device: {where}, since it is the first CUDA device."
    missing = "there is no CUDA device" if device.type == "mps" else "there is no GPU"
    if device.type == "cpu" and torch.version.cuda is None and torch.version.hip is None:
        missing = "this PyTorch is one without CUDA"
    return f"Device: {where}, since {missing}."


def limit_threads(threads: int | None = None) -> int:
    """Leave a core to the screen where there are more than two; the number of threads from now on.

    Parameters
    ----------
    threads : int, optional
        Threads of PyTorch on the CPU. If not given, what PyTorch would take (see
        ``OMP_NUM_THREADS``), but one core fewer than there are.

    Raises
    ------
    ConfigError
        If it is below 1.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"Training takes at least one thread, not {threads}.")
    cores = usable_cores()
    usual = torch.get_num_threads()
    wanted = threads or (min(usual, cores - 1) if cores > 2 else usual)
    if wanted != usual:
        torch.set_num_threads(wanted)
    return wanted


def empty_device_cache(device: torch.device) -> None:
    """Give memory that is no longer used back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Model of the processor on Linux, where Python does not know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""
