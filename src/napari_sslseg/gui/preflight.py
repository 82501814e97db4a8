"""What a training will run on, found out in the background, since PyTorch takes time to load."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sslseg.gui.run_lines import time_like

if TYPE_CHECKING:
    from napari_sslseg.core.project import Project


@dataclass(frozen=True)
class Machine:
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


def look_at_machine(device: str = "auto") -> Machine:
    """Find out what a training on ``device`` takes; loads PyTorch."""
    import torch

    from napari_sslseg.core.devices import chosen_device, device_message, limit_threads

    found = ["auto", "cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    words = device_message(chosen_device(device), device, limit_threads())
    return Machine(words, tuple(found))


@dataclass(frozen=True, eq=False)
class Asked:
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


def look_ahead(asked: Asked) -> tuple[Machine, tuple[float, float] | None]:
    """Find the machine, and the seconds per step of an earlier run that did the same."""
    each = time_like(asked.project, asked.task, asked.network, asked.batch)
    return look_at_machine(asked.device), each
