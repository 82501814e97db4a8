"""Validation of a training state, which is an untrusted file, before a training resumes."""

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

    from napari_sslseg.core.runs.states.state import State

Count = Annotated[int, Field(ge=0, le=2 * MOST_STEPS)]
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Figure = Annotated[float, Field(ge=-math.inf)]  # excludes NaN
Index = Annotated[str, Field(pattern=r"^\d{1,6}$")]

OPTIMIZER_TENSORS = {"Adam": {"step", "exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}
"""State of an optimiser for each weight."""


class _StatePart(BaseModel):
    """Unknown keys, which other versions may write, are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class GroupNumbers(_StatePart):
    """A group of weights with one learning rate."""

    lr: float = Field(ge=0, le=LARGEST)


class OptimizerNumbers(_StatePart):
    """State of an optimiser, apart from tensors."""

    groups: list[GroupNumbers]
    values: dict[Index, dict[Literal["step", "exp_avg", "exp_avg_sq", "momentum_buffer"], None]]


class ScheduleNumbers(_StatePart):
    """Position in the schedule of the learning rate."""

    last_epoch: Count
    step_count: Count | None = Field(default=None, alias="_step_count")
    best: Figure | None = None
    num_bad_epochs: Count | None = None
    cooldown_counter: Count | None = None


class PatienceNumbers(_StatePart):
    """State of early stopping."""

    best: Figure
    reference: Figure
    waited: Count


class StateNumbers(_StatePart):
    """Numbers of a state from which a training resumes, see ``Loop.state``."""

    step: Count
    optimizer: OptimizerNumbers
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
    """Check a state against the settings of its run.

    Raises
    ------
    ValueError
        With a short reason, if no training with these settings can have written the state.
    """
    import torch

    from napari_sslseg.core.common.compute.randomness import random_state_name

    try:
        numbers = StateNumbers.model_validate({**state.numbers, "step": state.step})
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
            raise ValueError(f"{name}: {value}, but at most {most} is possible")
    for number in range(numbers.processes):
        for name in ("cpu", "draws"):
            random = state.tensors.get(f"{random_state_name(number)}.{name}")
            _check_random(random, torch.device("cpu"))
    for name, tensor in state.part("model").items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{printable(name, LONGEST)} has values that are not finite")


def optimizer_state(
    state: "State",
    optimizer: "torch.optim.Optimizer",
    precision: dict[str, Any],
    device: "torch.device",
) -> "dict[str, Any]":
    """State of an optimiser for ``load_state_dict``, from the state of a training.

    The settings of the optimiser stay; only the learning rates of its groups are taken over.

    Parameters
    ----------
    state : State
        A state that passed :func:`check_state` or was made by this process.
    optimizer : Optimizer
        The optimiser that resumes.
    precision : dict
        Current state of the precision plugin; the state of the training must have the same keys.
        Empty if the plugin has no state, as on the CPU.
    device : torch.device
        Device whose random numbers resume.

    Raises
    ------
    ValueError
        With a short reason, if the state is that of another network or optimiser.
    """
    from napari_sslseg.core.common.compute.distributed import rank
    from napari_sslseg.core.common.compute.randomness import random_state_name

    numbers = state.numbers
    if precision and set(numbers["precision"]) != set(precision):
        raise ValueError("it has another precision")
    now = optimizer.state_dict()["param_groups"]
    groups = numbers["optimizer"]["groups"]
    if len(groups) != len(now):
        raise ValueError("its optimiser has other groups of weights")
    per_weight: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in numbers["optimizer"]["values"].items()
    }
    for name, tensor in state.part("optimizer").items():
        place, _, what = name.partition(".")
        # Only as this program writes them, so that no two names mean the same weight.
        if not place.isascii() or not place.isdigit() or str(int(place[:9])) != place:
            raise ValueError(f"its optimiser has the entry {printable(name, LONGEST)}")
        per_weight.setdefault(int(place), {})[what] = tensor
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    wanted = OPTIMIZER_TENSORS[type(optimizer).__name__]
    for index, values in per_weight.items():
        if index >= len(weights) or set(values) != wanted:
            raise ValueError("its optimiser has other values")
        for what, value in values.items():
            shape = () if what == "step" else weights[index].shape
            if not _is_optimizer_value(value, shape, optional=what == "momentum_buffer"):
                raise ValueError(f"its optimiser has another {what} of weight {index}")
    if device.type != "cpu":
        random = state.part(random_state_name(rank()))
        _check_random(random.get(device.type), device, optional=True)
    rates = [{**group, "lr": float(was["lr"])} for group, was in zip(now, groups, strict=True)]
    return {"state": per_weight, "param_groups": rates}


def _is_optimizer_value(value: Any, shape: tuple[int, ...], *, optional: bool) -> bool:
    import torch

    if not isinstance(value, torch.Tensor):
        return value is None and optional
    return value.shape == shape and value.is_floating_point()


def _check_random(
    value: "Tensor | None", device: "torch.device", *, optional: bool = False
) -> None:
    """Refuse a state that a new random number generator does not accept."""
    import torch

    if value is None and optional:
        return
    try:
        if value is None:
            raise TypeError
        torch.Generator(device).set_state(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError("the state of its random numbers is invalid") from error
