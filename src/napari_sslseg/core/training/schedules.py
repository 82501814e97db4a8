"""Length of a training, its learning rate schedule, and early stopping."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.settings.training import MOST_STEPS, EarlyStopping, Training
from napari_sslseg.core.training.layer_plans import LayerPlan, warmup_poly

PLATEAU_FACTOR = 0.5
SGD_MOMENTUM = 0.99

STATE_KEYS = ("last_epoch", "_step_count", "best", "num_bad_epochs", "cooldown_counter")
"""What changes in a scheduler during training; everything else follows from the settings."""


def with_steps(settings: Training, steps_per_epoch: int) -> Training:
    """Settings with the number of steps resolved, if the length is set in epochs.

    Raises
    ------
    ConfigError
        If there are too many steps.
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

    With a length in epochs there is one after each epoch, since papers count patience in epochs.
    """
    if settings.validate_every:
        return settings.validate_every
    return steps_per_epoch if settings.epochs else max(steps_per_epoch, settings.steps // 20)


def make_optimizer(
    model: torch.nn.Module, settings: Training, plan: LayerPlan | None = None
) -> torch.optim.Optimizer:
    """Make Adam or SGD for the trainable parameters; weight decay is an L2 penalty in both.

    Parameters that a plan freezes only at first are included from the beginning.
    """
    # Several times as fast on the CPU, but gradient clipping does not work with a scaler.
    fused = settings.precision != "16-mixed"
    trainable: Any = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if plan is not None:
        trainable = plan.groups(model, settings.learning_rate)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            trainable,
            lr=settings.learning_rate,
            momentum=SGD_MOMENTUM,
            nesterov=True,
            weight_decay=settings.weight_decay,
            # Fused SGD fails if some parameters get their first gradient later than others.
            fused=fused and (plan is None or not plan.frozen_steps),
        )
    return torch.optim.Adam(
        trainable,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def learning_rate_factor(settings: Training, step: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate at a step (from 0).

    ``warmup-poly`` rises linearly during the warm-up and then falls as (1 − progress)^0.9.
    ``step-decay`` is 0.9^⌊(1 + epoch) / 2⌋, with a learning rate of at least 1e-8 (Dominic et al.
    2023): it drops after the first epoch and then after every second one. ``cosine-restarts`` is
    (1 + cos πt) / 2, where t rises from 0 to 1 over ``restart_every`` epochs, batch by batch, and
    then restarts (PolyCL). ``plateau`` depends on the validation, see :class:`Schedule`.
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
    """Sets the learning rate of an optimiser after each step and after each validation.

    Parameters
    ----------
    optimizer : Optimizer
        Optimiser whose learning rate is set.
    settings : Training
        Settings with the schedule.
    steps_per_epoch : int
        Steps in which each slice is used about once.
    better : {"lower", "higher"}
        Whether lower or higher validation scores are better.
    factor : callable, optional
        Factor on the learning rate by step (from 0), which replaces the schedule.
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
        """Set the learning rate of the next step."""
        if self._by_step is not None:
            self._by_step.step()

    def validated(self, value: float) -> None:
        """Update the learning rate with the score of a validation."""
        if self._by_value is not None:
            self._by_value.step(value)

    def state_dict(self) -> dict[str, Any]:
        """State, as numbers."""
        scheduler = self._by_step or self._by_value
        assert scheduler is not None
        return {k: v for k, v in scheduler.state_dict().items() if k != "lr_lambdas"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        values = {name: state[name] for name in STATE_KEYS if name in state}
        if self._by_step is not None:
            self._by_step.load_state_dict({**values, "lr_lambdas": [None]})
        if self._by_value is not None:
            self._by_value.load_state_dict(values)


class EarlyStopper:
    """Decides when to stop early, see :class:`~napari_sslseg.core.settings.training.EarlyStopping`.

    ``best`` is the best value so far. ``min_delta`` is measured from ``reference``, the last value
    that improved by at least so much.
    """

    def __init__(self, settings: EarlyStopping | None, better: Literal["lower", "higher"]) -> None:
        self.settings = settings
        self.sign = 1.0 if better == "lower" else -1.0
        self.best = math.inf
        self.reference = math.inf
        self.waited = 0

    def improved(self, value: float) -> bool:
        """Record a value, and return whether it is the best so far."""
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
        """Whether to stop the training."""
        return self.settings is not None and self.waited >= self.settings.patience

    def state_dict(self) -> dict[str, Any]:
        """State, as numbers."""
        return {"best": self.best, "reference": self.reference, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self.best, self.reference = state["best"], state["reference"]
        self.waited = state["waited"]
