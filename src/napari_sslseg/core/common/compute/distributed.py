"""Distributed training: start processes, find out the rank, and exchange values.

Each process holds the whole network and a part of every batch; Fabric's DDP averages the
gradients. These functions serve what DDP does not cover: losses over a whole batch, decisions that
must be the same in all processes, and files that only one process writes. With a single process,
each function returns its argument.
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
SHUTDOWN_SECONDS = 1.5
_alone = 0
_layout = 1, 1


def layout() -> tuple[int, int]:
    """Return the devices per machine and the machines that :func:`launch` started."""
    return _layout


def world_size() -> int:
    """Return the number of processes; 1 within :func:`single_process`."""
    return 1 if _alone else _layout[0] * _layout[1]


def rank() -> int:
    """Return the rank of this process, from 0."""
    if _layout == (1, 1):
        return 0
    import torch.distributed as dist

    return dist.get_rank()


def is_first() -> bool:
    """Return whether this process has rank 0, which writes files and messages."""
    return rank() == 0


@contextmanager
def single_process() -> Iterator[None]:
    """Run a block as if there were a single process: without exchanges with the others."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def launch(devices: int | None = None, nodes: int | None = None, device: str = "auto") -> None:
    """Start or join the processes of a distributed training; call it once, before a job.

    Processes started by ``torchrun`` or SLURM's ``srun`` join each other. Otherwise this script is
    run again, with the same arguments, once for each further device.

    Parameters
    ----------
    devices : int, optional
        Devices per machine, one process each. Default: as many as ``torchrun`` or ``srun``
        started, else one.
    nodes : int, optional
        Machines. Default: as ``torchrun`` or ``srun`` started, else one.
    device : str
        Kind of device: ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ConfigError
        If the machine has fewer devices, or another number of processes was started.
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
            f"Training needs at least one device and one node, not {devices} and {nodes}."
        )
    if devices * nodes == 1:
        return
    fabric = make_fabric(device, devices=devices, nodes=nodes)
    # The run reports the processes once.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        # Raised for settings of the cluster, such as another number of tasks.
        raise ConfigError(
            f"{devices} devices on {nodes} nodes cannot train together ({_first_line(error)}); "
            "start as many processes as there are devices in all."
        ) from error
    _layout = devices, nodes
    children = getattr(fabric.strategy.launcher, "procs", [])
    if children:
        atexit.register(_terminate, children)


def _launcher_layout() -> tuple[int, int]:
    """Read from the environment how many devices and nodes torchrun or srun started."""
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
    """End the child processes: no process may outlive the first one."""
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
    for child in children:
        child.kill()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def check_batch_divides(batch_size: int) -> None:
    """Check that a batch can be divided evenly among the processes.

    Raises
    ------
    ConfigError
        If the batch size is not a multiple of the number of processes.
    """
    world = world_size()
    if batch_size % world:
        raise ConfigError(
            f"A batch of {batch_size} cannot be divided evenly among {world} processes; choose a "
            f"batch size that is a multiple of {world}."
        )


def shard(batch: "np.ndarray", groups: int = 1) -> "np.ndarray":
    """Return the samples of a batch that belong to this process.

    Parameters
    ----------
    batch : ndarray, shape (N,)
        Samples of all processes.
    groups : int
        Number of equally long parts whose elements correspond, such as anchors, positives and
        negatives; each process gets the same positions of every part.

    Raises
    ------
    ConfigError
        If the samples cannot be divided evenly.
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
    """Pair each item with whether this process has to process it."""
    world = world_size()
    return [(item, number % world == rank() % world) for number, item in enumerate(items)]


def all_reduce_any(*flags: bool) -> tuple[bool, ...]:
    """Return for each flag whether it is set in any process; the same in all processes."""
    if world_size() == 1:
        return flags
    import torch
    import torch.distributed as dist

    reduced = torch.tensor(flags, dtype=torch.uint8, device=collective_device())
    dist.all_reduce(reduced, op=dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in reduced.tolist())


def all_gather_objects(value: Result) -> list[Result]:
    """Return the values of all processes, in order of rank; they are pickled and must be small."""
    world = world_size()
    if world == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * world
    dist.all_gather_object(found, value)
    return found


def all_reduce_sum(sums: Mapping[str, float]) -> dict[str, float]:
    """Add values over all processes, by name; a missing value counts as 0."""
    found = all_gather_objects(dict(sums))
    names = dict.fromkeys(name for values in found for name in values)
    return {name: sum(values.get(name, 0.0) for values in found) for name in names}


def run_on_first(work: Callable[[], Result]) -> Result:
    """Run a function in the first process while the others wait, and return its result in all.

    Raises
    ------
    SslsegError
        In all processes, if the first one raises it.
    """
    if world_size() == 1:
        return work()
    import torch.distributed as dist

    outcome: list[Any] = [None, None]
    if is_first():
        try:
            outcome[0] = work()
        except SslsegError as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def run_on_all(work: Callable[[], Result]) -> Result:
    """Run a function in every process; an error in one of them is raised in all.

    Raises
    ------
    SslsegError
        The error of the lowest rank that failed.
    """
    result: Any = None
    problem: SslsegError | None = None
    try:
        result = work()
    except SslsegError as error:
        problem = error
    for found in all_gather_objects(problem):
        if found is not None:
            raise found
    return result


@contextmanager
def first_then_others() -> Iterator[None]:
    """Run a block in the first process before the others, such as writing a folder of samples."""
    if not is_first():
        barrier()
    try:
        yield
    finally:
        if is_first():
            barrier()


def is_lost_process(error: BaseException) -> bool:
    """Return whether an error means that another process ended during an exchange."""
    if world_size() == 1:
        return False
    import torch.distributed as dist

    # Gloo raises plain RuntimeErrors.
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


@contextmanager
def report_lost_process() -> Iterator[None]:
    """Raise a clear error if another process ends during an exchange in this block.

    Raises
    ------
    LostProcessError
        In place of the error of the exchange.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        raise LostProcessError(
            "Another process of this training has ended, so this one cannot continue; see the "
            "output of that process."
        ) from error


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        all_reduce_any(False)


def collective_device(wanted: "torch.device | None" = None) -> "torch.device":
    """Return the device for exchanges between processes: a GPU for NCCL, else the CPU."""
    import torch
    import torch.distributed as dist

    if dist.get_backend() != "nccl":
        return torch.device("cpu")
    if wanted is not None and wanted.type == "cuda":
        return wanted
    return torch.device("cuda", torch.cuda.current_device())
