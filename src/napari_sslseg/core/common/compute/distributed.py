"""Processes that train one network together: which one this is, and what they tell each other.

Each process holds the whole network and takes its share of every batch; Fabric's DDP averages the
gradients. The functions here serve what goes beyond that: losses that look at a whole batch,
decisions that all processes must take alike, and files that one of them writes. With a single
process each of them returns what it is given.
"""

import atexit
import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from napari_sslseg.core.common.errors import ConfigError, LostProcessError, SslsegError

if TYPE_CHECKING:
    import numpy as np
    import torch

Result = TypeVar("Result")
FAREWELL_SECONDS = 1.5
_alone = 0
_layout = 1, 1


def layout() -> tuple[int, int]:
    """Devices of each machine, and machines, that :func:`launch` brought together."""
    return _layout


def world_size() -> int:
    """Number of processes that train together; 1 within :func:`single_process`."""
    return 1 if _alone else _layout[0] * _layout[1]


def rank() -> int:
    """Number of this process, from 0."""
    if _layout == (1, 1):
        return 0
    import torch.distributed as dist

    return dist.get_rank()


def is_first() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return rank() == 0


@contextmanager
def single_process() -> Iterator[None]:
    """Do something that other processes do not do at the same time, so tell them nothing."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def launch(devices: int | None = None, nodes: int | None = None, device: str = "auto") -> None:
    """Start or join the processes that train together; call it once, before a job.

    What ``torchrun`` or SLURM's ``srun`` started joins the others. Otherwise this script is run
    again, with the same arguments, once for each further device.

    Parameters
    ----------
    devices : int, optional
        Devices of each machine, one process each; if not given, as many as ``torchrun`` or
        ``srun`` started, else one.
    nodes : int, optional
        Machines, likewise.
    device : str
        Kind of device: ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ConfigError
        If the machine has fewer devices, or it is not as many processes as were started.
    """
    from napari_sslseg.core.common.compute.devices import make_fabric

    global _layout
    if _layout != (1, 1):
        return
    started = _launcher_layout()
    devices = devices or started[0]
    nodes = nodes or started[1]
    if devices < 1 or nodes < 1:
        raise ConfigError(
            f"Training takes at least one device and one node, not {devices} and {nodes}."
        )
    if devices * nodes == 1:
        return
    fabric = make_fabric(device, devices=devices, nodes=nodes)
    # Who is there is said once, by the run.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        # Of the cluster's settings, such as another number of tasks.
        raise ConfigError(
            f"{devices} devices on {nodes} nodes cannot train together ({_first_line(error)}); "
            "start as many processes as there are devices in all."
        ) from error
    _layout = devices, nodes
    children = getattr(fabric.strategy.launcher, "procs", [])
    if children:
        atexit.register(_terminate, children)


def _launcher_layout() -> tuple[int, int]:
    """Devices and nodes for which torchrun or srun started a process each."""
    values = os.environ
    with contextlib.suppress(KeyError, ValueError, ZeroDivisionError):
        if "TORCHELASTIC_RUN_ID" in values:
            local = int(values["LOCAL_WORLD_SIZE"])
            return local, int(values["WORLD_SIZE"]) // local
        if "SLURM_PROCID" in values and "SLURM_STEP_ID" in values:
            nodes = int(values["SLURM_NNODES"])
            return int(values["SLURM_STEP_NUM_TASKS"]) // nodes, nodes
    return 1, 1


def _terminate(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let no process outlive the first one, whatever it was about to say."""
    deadline = time.monotonic() + FAREWELL_SECONDS
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
    for child in children:
        child.kill()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def check_batch_divides(batch_size: int) -> None:
    """Refuse a batch that cannot be shared out evenly among the processes.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    world = world_size()
    if batch_size % world:
        raise ConfigError(
            f"A batch of {batch_size} cannot be shared out evenly among {world} processes; choose "
            f"a batch size that is a multiple of {world}."
        )


def shard(batch: "np.ndarray", groups: int = 1) -> "np.ndarray":
    """Samples of a batch that this process takes; no two processes take the same.

    Parameters
    ----------
    batch : ndarray, shape (N,)
        Samples of all processes.
    groups : int
        Parts of equal length that belong together one by one, such as anchors, positives and
        negatives; each process takes the same places of all of them.

    Raises
    ------
    ConfigError
        If they cannot be shared out evenly.
    """
    world = world_size()
    if world == 1:
        return batch
    places = len(batch) // groups
    check_batch_divides(places)
    own = places // world
    parts = batch.reshape(groups, places)[:, rank() * own : (rank() + 1) * own]
    return parts.reshape(-1)


def assign_to_processes(items: Sequence[Result]) -> list[tuple[Result, bool]]:
    """Items, each with whether it is for this process to work on."""
    world = world_size()
    return [(item, number % world == rank() % world) for number, item in enumerate(items)]


def all_reduce_any(*flags: bool) -> tuple[bool, ...]:
    """Whether any process says so, of each flag; all processes hear the same."""
    if world_size() == 1:
        return flags
    import torch
    import torch.distributed as dist

    from napari_sslseg.core.common.compute.distributed import collective_device

    said = torch.tensor(flags, dtype=torch.uint8, device=collective_device())
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in said.tolist())


def all_gather_objects(value: Result) -> list[Result]:
    """Value of each process, in their order; small ones, since they are pickled."""
    world = world_size()
    if world == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * world
    dist.all_gather_object(found, value)
    return found


def all_reduce_sum(sums: Mapping[str, float]) -> dict[str, float]:
    """Sums over all processes, by name; one that a process does not have is 0 there."""
    found = all_gather_objects(dict(sums))
    names = dict.fromkeys(name for values in found for name in values)
    return {name: sum(values.get(name, 0.0) for values in found) for name in names}


def run_on_first(work: Callable[[], Result]) -> Result:
    """Do some work in the first process alone, while the others wait, and tell all its result.

    Raises
    ------
    SslsegError
        In all processes, if the first one raises it.
    """
    if world_size() == 1:
        return work()
    import torch.distributed as dist

    told: list[Any] = [None, None]
    if is_first():
        try:
            told[0] = work()
        except SslsegError as error:
            told[1] = error
    dist.broadcast_object_list(told, src=0)
    if told[1] is not None:
        raise told[1]
    return told[0]


def run_on_all(work: Callable[[], Result]) -> Result:
    """Do some work in every process; what fails in one of them fails in all.

    Raises
    ------
    SslsegError
        That of the lowest process in which there is one.
    """
    result: Any = None
    problem: SslsegError | None = None
    try:
        result = work()
    except SslsegError as error:
        problem = error
    for told in all_gather_objects(problem):
        if told is not None:
            raise told
    return result


@contextmanager
def first_then_others() -> Iterator[None]:
    """Let the first process do what the others then find done, such as a folder of samples."""
    if not is_first():
        barrier()
    try:
        yield
    finally:
        if is_first():
            barrier()


def is_lost_process(error: BaseException) -> bool:
    """Whether an error means that another process ended in the middle of an exchange."""
    if world_size() == 1:
        return False
    import torch.distributed as dist

    # Gloo raises plain RuntimeErrors.
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


@contextmanager
def report_lost_process() -> Iterator[None]:
    """Tell in a sentence if another process ends while something is done together.

    Raises
    ------
    LostProcessError
        In place of whatever the exchange raised.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        raise LostProcessError(
            "Another of the processes that train together has ended, so that this one cannot go "
            "on; see what that one said."
        ) from error


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        all_reduce_any(False)


def collective_device(wanted: "torch.device | None" = None) -> "torch.device":
    """Device that the processes speak through: GPUs speak to GPUs, and the CPU to the CPU."""
    import torch
    import torch.distributed as dist

    if dist.get_backend() != "nccl":
        return torch.device("cpu")
    if wanted is not None and wanted.type == "cuda":
        return wanted
    return torch.device("cuda", torch.cuda.current_device())
