"""How long a training is, and how its learning rate goes."""

import math
from typing import Literal

import torch

from napari_sslseg.core.config import MOST_STEPS, Training
from napari_sslseg.core.errors import ConfigError

PLATEAU_FACTOR = 0.5
SGD_MOMENTUM = 0.99


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
    """Steps between validations, see :class:`~napari_sslseg.core.config.Training`.

    Papers count their patience in epochs, so that a length in epochs means one after each.
    """
    if settings.validate_every:
        return settings.validate_every
    return steps_per_epoch if settings.epochs else max(steps_per_epoch, settings.steps // 20)


def make_optimizer(model: torch.nn.Module, settings: Training) -> torch.optim.Optimizer:
    """Adam or SGD over what is not frozen; the weight decay is an L2 penalty in both."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            learning,
            lr=settings.learning_rate,
            momentum=SGD_MOMENTUM,
            nesterov=True,
            weight_decay=settings.weight_decay,
        )
    return torch.optim.Adam(
        learning,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
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
        warmup = round(settings.warmup * settings.steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return (1 - (step - warmup) / max(1, settings.steps - warmup)) ** 0.9
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
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        settings: Training,
        steps_per_epoch: int,
        better: Literal["lower", "higher"],
    ) -> None:
        self._by_step: torch.optim.lr_scheduler.LambdaLR | None = None
        self._by_value: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        if settings.schedule == "plateau":
            self._by_value = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode="min" if better == "lower" else "max",
                factor=PLATEAU_FACTOR,
                patience=settings.plateau_patience,
            )
        else:
            self._by_step = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: learning_rate_factor(settings, step, steps_per_epoch)
            )

    def step(self) -> None:
        """Go on to the next batch."""
        if self._by_step is not None:
            self._by_step.step()

    def validated(self, value: float) -> None:
        """Take in the monitored value of a validation."""
        if self._by_value is not None:
            self._by_value.step(value)
