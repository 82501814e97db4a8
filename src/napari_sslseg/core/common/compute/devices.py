"""Select the device and the number of threads of a training, and describe them."""

import os
import platform
import warnings
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.text import LONGEST, printable

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# One process may read the scans of a large study for long while the others wait.
LONGEST_WAIT = timedelta(hours=2)

GPUS = ("cuda", "mps")
"""Kinds of GPUs, in the order in which they are chosen."""


def make_fabric(
    device: str = "auto", precision: str = "32-true", devices: int = 1, nodes: int = 1
) -> "Fabric":
    """Create a Fabric for one device, or for several with one process each.

    Parameters
    ----------
    device : str
        ``auto`` (the first GPU, else Apple's GPU, else the CPU; a GPU that does not work is passed
        over), ``cpu``, ``cuda``, ``cuda:1``,
        ``mps``.
    precision : str
        As in :class:`~napari_sslseg.core.settings.training.Training`.
    devices : int
        Devices per machine; on the CPU, processes.
    nodes : int
        Number of machines.

    Raises
    ------
    ConfigError
        If this machine has no such device, it does not work, or there are too few devices.
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
        # Training outside SLURM on a machine that has it is legitimate.
        warnings.filterwarnings("ignore", "The `srun` command is available")
        return Fabric(**choice)


def _accelerator(device: str) -> tuple[str, int]:
    """Parse a device into its kind and number."""
    name, _, number = device.partition(":")
    if name == "auto":
        usable = (kind for kind in GPUS if has_gpu(kind) and gpu_problem(kind) is None)
        return next(usable, "cpu"), 0
    if name not in ("cpu", *GPUS) or (number and not (name == "cuda" and number.isdigit())):
        raise ConfigError(f"There is no device {device}; choose auto, cpu, cuda, cuda:N or mps.")
    if name == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"This machine has {torch.cuda.device_count()} CUDA devices, so {device} cannot be "
            "used; choose auto or cpu."
        )
    if name == "mps" and not has_gpu("mps"):
        raise ConfigError("This machine has no MPS device; choose auto or cpu.")
    if name in GPUS and (problem := gpu_problem(name, int(number or 0))) is not None:
        raise ConfigError(
            f"The device {device} does not work with this PyTorch ({problem}); choose auto or cpu, "
            "or install a PyTorch for this GPU and its driver."
        )
    return name, int(number or 0)


def has_gpu(kind: str) -> bool:
    """Return whether this machine has a GPU of a kind, ``cuda`` or ``mps``."""
    return torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()


@cache
def gpu_problem(kind: str, number: int = 0) -> str | None:
    """Try a GPU with a small convolution, once in each process.

    A GPU may be present that this PyTorch has no kernels for, whose driver is too old, or whose
    memory is full.

    Parameters
    ----------
    kind : str
        ``cuda`` or ``mps``.
    number : int
        Number of the GPU.

    Returns
    -------
    str or None
        Why it does not work, in a few words; None if it works.
    """
    try:
        where = torch.device(kind, number)
        image = torch.ones(1, 1, 8, 8, device=where, requires_grad=True)
        weight = torch.ones(1, 1, 3, 3, device=where)
        torch.nn.functional.conv2d(image, weight).sum().backward()
        works = image.grad is not None and float(image.grad.sum()) == 9 * 36
    # A PyTorch without CUDA raises an AssertionError.
    except (RuntimeError, AssertionError) as error:
        return printable(str(error).partition("\n")[0], LONGEST)
    return None if works else "it computes wrong results"


def resolve_device(device: str = "auto") -> torch.device:
    """Resolve a device name to the device that a training uses, see :func:`make_fabric`.

    Raises
    ------
    ConfigError
        If this machine has no such device.
    """
    name, number = _accelerator(device)
    return torch.device(f"cuda:{number}" if name == "cuda" else name)


def device_name(device: torch.device) -> str:
    """Return the product name of a device, such as that of the graphics card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple GPU ({platform.machine()})"
    return _processor() or platform.processor() or platform.machine() or "CPU"


def device_message(
    device: torch.device, asked: str, threads: int, devices: int = 1, nodes: int = 1
) -> str:
    """Describe in one sentence which device is used, and why."""
    name = device_name(device)
    where = f"{device} ({name})"
    if devices * nodes > 1:
        what = "processes on the CPU" if device.type == "cpu" else "CUDA devices"
        machines = f" of {nodes} machines" if nodes > 1 else ""
        return f"Device: {devices * nodes} {what}{machines} ({name}), as requested."
    if device.type == "cpu":
        where += f", {threads} thread{'s' if threads > 1 else ''}"
    if asked != "auto":
        return f"Device: {where}, as requested."
    if device.type == "cuda":
        return f"Device: {where}, the first CUDA device."
    missing = "there is no CUDA device" if device.type == "mps" else why_no_gpu()
    return f"Device: {where}, since {missing}."


def why_no_gpu() -> str:
    """Return why ``auto`` is the CPU, as a clause such as "there is no GPU"."""
    problems = [problem for kind in GPUS if has_gpu(kind) and (problem := gpu_problem(kind))]
    if problems:
        return f"the GPU does not work with this PyTorch ({problems[0]})"
    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch is built without CUDA"
    return "there is no GPU"


def limit_threads(threads: int | None = None) -> int:
    """Set the number of CPU threads of PyTorch, by default one core fewer than available.

    One core is left to the user interface on machines with more than two cores.

    Parameters
    ----------
    threads : int, optional
        Number of threads. If not given, PyTorch's default (see ``OMP_NUM_THREADS``), but at most
        one fewer than the available cores.

    Returns
    -------
    int
        Number of threads in use.

    Raises
    ------
    ConfigError
        If ``threads`` is below 1.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"Training needs at least one thread, not {threads}.")
    cores = usable_cores()
    usual = torch.get_num_threads()
    wanted = threads or (min(usual, cores - 1) if cores > 2 else usual)
    if wanted != usual:
        torch.set_num_threads(wanted)
    return wanted


def empty_device_cache(device: torch.device) -> None:
    """Release unused memory of PyTorch's cache to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Read the model of the processor on Linux, where Python does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""
