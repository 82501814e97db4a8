"""A training state, as somebody else may have written it: checked before a training goes on."""

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_sslseg.core.common.safe_json import LARGEST
from napari_sslseg.core.common.text import LONGEST, printable
from napari_sslseg.core.runs.record import MOST_PROCESSES
from napari_sslseg.core.settings.training import MOST_STEPS, Training

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from napari_sslseg.core.runs.state import State

Count = Annotated[int, Field(ge=0, le=2 * MOST_STEPS)]
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Figure = Annotated[float, Field(ge=-math.inf)]  # which leaves NaN out
Index = Annotated[str, Field(pattern=r"^\d{1,6}$")]

HELD = {"Adam": {"step", "exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}
"""What an optimiser remembers of each weight."""


class _Part(BaseModel):
    """Keys that are not named, of other versions, are not used."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Group(_Part):
    """Weights with one learning rate."""

    lr: float = Field(ge=0, le=LARGEST)


class Optimizer(_Part):
    """What an optimiser remembers beside tensors."""

    groups: list[Group]
    values: dict[Index, dict[Literal["step", "exp_avg", "exp_avg_sq", "momentum_buffer"], None]]


class ScheduleNumbers(_Part):
    """Where the learning rate is."""

    last_epoch: Count
    step_count: Count | None = Field(default=None, alias="_step_count")
    best: Figure | None = None
    num_bad_epochs: Count | None = None
    cooldown_counter: Count | None = None


class PatienceNumbers(_Part):
    """What early stopping remembers."""

    best: Figure
    reference: Figure
    waited: Count


class Numbers(_Part):
    """Numbers of a state that a training goes on with, see ``Loop.state``."""

    step: Count
    optimizer: Optimizer
    schedule: ScheduleNumbers
    patience: PatienceNumbers
    precision: dict[str, Finite]
    drawn: Count
    sampler: dict[str, Any]
    parts: int = Field(ge=1)
    rows: Count
    row: dict[Literal["step", "loss", "learning_rate"], Finite]
    processes: int = Field(default=1, ge=1, le=MOST_PROCESSES)


def check_state(state: "State", training: Training) -> None:
    """Check what a state says against the settings of its run.

    Raises
    ------
    ValueError
        With a short reason, if no training of these settings can have written it.
    """
    import torch

    from napari_sslseg.core.common.compute.randomness import random_state_name

    try:
        numbers = Numbers.model_validate({**state.numbers, "step": state.step})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = printable(".".join(map(str, first["loc"])), LONGEST)
        raise ValueError(f"{place}: {printable(first['msg'], LONGEST)}") from error
    for name, value, most in (
        ("step", numbers.step, training.steps),
        ("drawn", numbers.drawn, numbers.step),
        ("schedule", numbers.schedule.last_epoch, numbers.step),
        ("rows", numbers.rows, 2 * numbers.step),
        ("parts", numbers.parts, training.batch_size),
    ):
        if value > most:
            raise ValueError(f"{name}: {value} of {most}")
    for number in range(numbers.processes):
        for name in ("cpu", "draws"):
            random = state.tensors.get(f"{random_state_name(number)}.{name}")
            _check_random(random, torch.device("cpu"))
    for name, tensor in state.part("model").items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{printable(name, LONGEST)} holds values that are no numbers")


def fitted(
    state: "State",
    optimizer: "torch.optim.Optimizer",
    precision: dict[str, Any],
    device: "torch.device",
) -> "dict[str, Any]":
    """State of an optimiser from that of a training, as ``load_state_dict`` takes it.

    Its settings stay those of the run: of the groups only the learning rates are taken over.

    Parameters
    ----------
    state : State
        One that passed :func:`check_state`, or that was written by this process.
    optimizer : Optimizer
        The one that goes on.
    precision : dict
        State of the precision as it is now; that of the training has the same keys. One that
        keeps nothing, as on the CPU, needs nothing.
    device : torch.device
        Whose random numbers go on.

    Raises
    ------
    ValueError
        With a short reason, if the state is of another network or another optimiser.
    """
    from napari_sslseg.core.common.compute.distributed import rank
    from napari_sslseg.core.common.compute.randomness import random_state_name

    numbers = state.numbers
    if precision and set(numbers["precision"]) != set(precision):
        raise ValueError("its precision is another")
    now = optimizer.state_dict()["param_groups"]
    groups = numbers["optimizer"]["groups"]
    if len(groups) != len(now):
        raise ValueError("its optimiser has other groups of weights")
    held: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in numbers["optimizer"]["values"].items()
    }
    for name, tensor in state.part("optimizer").items():
        place, _, what = name.partition(".")
        # As they are written, so that no two are the same.
        if not place.isascii() or not place.isdigit() or str(int(place[:9])) != place:
            raise ValueError(f"its optimiser holds {printable(name, LONGEST)}")
        held.setdefault(int(place), {})[what] = tensor
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    wanted = HELD[type(optimizer).__name__]
    for index, values in held.items():
        if index >= len(weights) or set(values) != wanted:
            raise ValueError("its optimiser holds other values")
        for what, value in values.items():
            shape = () if what == "step" else weights[index].shape
            if not _is_held(value, shape, optional=what == "momentum_buffer"):
                raise ValueError(f"its optimiser holds another {what} of weight {index}")
    if device.type != "cpu":
        random = state.part(random_state_name(rank()))
        _check_random(random.get(device.type), device, optional=True)
    rates = [{**group, "lr": float(was["lr"])} for group, was in zip(now, groups, strict=True)]
    return {"state": held, "param_groups": rates}


def _is_held(value: Any, shape: tuple[int, ...], *, optional: bool) -> bool:
    import torch

    if not isinstance(value, torch.Tensor):
        return value is None and optional
    return value.shape == shape and value.is_floating_point()


def _check_random(
    value: "Tensor | None", device: "torch.device", *, optional: bool = False
) -> None:
    """Refuse what a generator does not take; those that exist are left alone."""
    import torch

    if value is None and optional:
        return
    try:
        if value is None:
            raise TypeError
        torch.Generator(device).set_state(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError("its random numbers are in no state that there is") from error
