"""How long a training is, how its learning rate goes, and when it stops early."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.settings.training import MOST_STEPS, EarlyStopping, Training
from napari_sslseg.core.training.layer_plans import LayerPlan, warmup_poly

PLATEAU_FACTOR = 0.5
SGD_MOMENTUM = 0.99

MOVES = ("last_epoch", "_step_count", "best", "num_bad_epochs", "cooldown_counter")
"""What changes in a schedule; all else is of the settings."""


def with_steps(settings: Training, steps_per_epoch: int) -> Training:
    """Settings whose steps are those of their epochs, if the length is set in epochs.

    Raises
    ------
    ConfigError
        If these are too many steps.
    """
    if settings.epochs is None:
        return settings
    steps = settings.epochs * steps_per_epoch
    if steps > MOST_STEPS:
        raise ConfigError(
            f"{settings.epochs} epochs of {steps_per_epoch} steps are more than {MOST_STEPS:,} "
            "steps; set fewer epochs."
        )
    return settings.model_copy(update={"steps": steps})


def validation_interval(settings: Training, steps_per_epoch: int) -> int:
    """Steps between validations, see :class:`~napari_sslseg.core.settings.training.Training`.

    Papers count their patience in epochs, so that a length in epochs means one after each.
    """
    if settings.validate_every:
        return settings.validate_every
    return steps_per_epoch if settings.epochs else max(steps_per_epoch, settings.steps // 20)


def make_optimizer(
    model: torch.nn.Module, settings: Training, plan: LayerPlan | None = None
) -> torch.optim.Optimizer:
    """Adam or SGD over what is not frozen; the weight decay is an L2 penalty in both.

    What a plan freezes for a while is in it from the beginning, but moves only with a gradient.
    """
    # Several times as fast on the CPU; a gradient scaler cannot clip gradients for it.
    fused = settings.precision != "16-mixed"
    learning: Any = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if plan is not None:
        learning = plan.groups(model, settings.learning_rate)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            learning,
            lr=settings.learning_rate,
            momentum=SGD_MOMENTUM,
            nesterov=True,
            weight_decay=settings.weight_decay,
            # The fused one cannot begin with some weights later than with others.
            fused=fused and (plan is None or not plan.frozen_steps),
        )
    return torch.optim.Adam(
        learning,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def learning_rate_factor(settings: Training, step: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate of ``step`` (from 0).

    ``warmup-poly`` rises linearly over the first share of the steps and then falls as
    (1 − progress)^0.9. ``step-decay`` is 0.9^⌊(1 + epoch) / 2⌋, not below 1e-8 in all (Dominic et
    al. 2023): it drops after the first epoch and then every second one. ``cosine-restarts`` is
    (1 + cos πt) / 2, where t goes from 0 to 1 over ``restart_every`` epochs, batch by batch, and
    then begins anew (PolyCL). ``plateau`` depends on the validation, see :class:`Schedule`.
    """
    if settings.schedule == "step-decay":
        factor = 0.9 ** ((1 + step // steps_per_epoch) // 2)
        return max(factor, 1e-8 / settings.learning_rate)
    if settings.schedule == "warmup-poly":
        return warmup_poly(step, round(settings.warmup * settings.steps), settings.steps)
    if settings.schedule == "cosine-restarts":
        cycle = settings.restart_every * steps_per_epoch
        return (1 + math.cos(math.pi * (step % cycle) / cycle)) / 2
    return 1.0


class Schedule:
    """Sets the learning rate of an optimiser, after each step and after each validation.

    Parameters
    ----------
    optimizer : Optimizer
        Its learning rate is changed.
    settings : Training
        Which schedule.
    steps_per_epoch : int
        Steps in which each slice is seen about once.
    better : {"lower", "higher"}
        Which way the monitored value improves.
    factor : callable, optional
        Factor on the learning rate by step (from 0), in place of the schedule of the settings.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        settings: Training,
        steps_per_epoch: int,
        better: Literal["lower", "higher"],
        factor: Callable[[int], float] | None = None,
    ) -> None:
        self._by_step: torch.optim.lr_scheduler.LambdaLR | None = None
        self._by_value: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        if settings.schedule == "plateau" and factor is None:
            self._by_value = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode="min" if better == "lower" else "max",
                factor=PLATEAU_FACTOR,
                patience=settings.plateau_patience,
            )
        else:
            self._by_step = torch.optim.lr_scheduler.LambdaLR(
                optimizer,
                factor or (lambda step: learning_rate_factor(settings, step, steps_per_epoch)),
            )

    def step(self) -> None:
        """Go on to the next batch."""
        if self._by_step is not None:
            self._by_step.step()

    def validated(self, value: float) -> None:
        """Take in the monitored value of a validation."""
        if self._by_value is not None:
            self._by_value.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as numbers."""
        scheduler = self._by_step or self._by_value
        assert scheduler is not None
        return {k: v for k, v in scheduler.state_dict().items() if k != "lr_lambdas"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        moved = {name: state[name] for name in MOVES if name in state}
        if self._by_step is not None:
            self._by_step.load_state_dict({**moved, "lr_lambdas": [None]})
        if self._by_value is not None:
            self._by_value.load_state_dict(moved)


class Patience:
    """Decides when to stop early, see :class:`~napari_sslseg.core.settings.training.EarlyStopping`.

    ``best`` is the best of all; the margin counts from the value that last beat it.
    """

    def __init__(self, settings: EarlyStopping | None, better: Literal["lower", "higher"]) -> None:
        self.settings = settings
        self.sign = 1.0 if better == "lower" else -1.0
        self.best = math.inf
        self.reference = math.inf
        self.waited = 0

    def improved(self, value: float) -> bool:
        """Take in a value; whether it is the best so far."""
        value *= self.sign
        margin = self.settings.min_delta if self.settings else 0.0
        if value < self.reference - margin:
            self.reference, self.waited = value, 0
        else:
            self.waited += 1
        if value < self.best:
            self.best = value
            return True
        return False

    @property
    def exhausted(self) -> bool:
        """Whether to stop."""
        return self.settings is not None and self.waited >= self.settings.patience

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, as numbers."""
        return {"best": self.best, "reference": self.reference, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember that."""
        self.best, self.reference = state["best"], state["reference"]
        self.waited = state["waited"]
