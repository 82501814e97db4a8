"""Settings of a training loop, and the defaults of both stages.

The command line and the window take their defaults from here. Loads no PyTorch.
"""

from typing import Any, Literal

from pydantic import Field, field_validator

from napari_sslseg.core.common.settings_base import Settings, make_settings

MOST_STEPS = 10_000_000
"""Largest number of steps or epochs."""

LEARNING_RATE = 1e-3
"""Default learning rate of pretraining and fine-tuning."""

BATCH_SIZE = 16
"""Default number of slices per step."""

VOLUME_BATCH_SIZE = 2
"""Default number of crops of volumes per step."""

PRETRAIN_STEPS = 1000
"""Default length of the pretraining."""

FINETUNE_STEPS = 400
"""Default length of the fine-tuning."""

VALIDATION_SHARE = 0.2
"""Default fraction of the labelled subjects of a project for the validation of a fine-tuning."""

FINETUNE_GRADIENT_CLIP = 12.0
"""Default largest norm of the gradient in the fine-tuning."""

StageKind = Literal["pretrain", "finetune"]


class EarlyStopping(Settings):
    """Stop when the monitored value has not improved by ``min_delta`` for ``patience`` rounds.

    As in Dominic et al. 2023 the margin only decides when to stop: the best weights are those of
    any improvement, however small.
    """

    min_delta: float = Field(ge=0, title="Smallest improvement")
    patience: int = Field(ge=1, title="Rounds without improvement")


class Training(Settings):
    """Settings of one training loop.

    Three defaults depend on the stage that the settings belong to: the steps, the batch size and
    the gradient clipping. A field that is not set takes the default of its stage; one that is set
    keeps its value, also None.
    """

    steps: int = Field(
        500,
        ge=1,
        le=MOST_STEPS,
        title="Steps",
        description=f"Number of batches to train on; if not set, {PRETRAIN_STEPS} in the "
        f"pretraining and {FINETUNE_STEPS} in the fine-tuning.",
    )
    epochs: int | None = Field(
        None,
        ge=1,
        le=MOST_STEPS,
        title="Epochs",
        description="Number of passes over all training slices; replaces the steps if set.",
    )
    batch_size: int = Field(
        BATCH_SIZE,
        ge=1,
        le=4096,
        title="Batch size",
        description=f"Slices per step; crops of volumes are {VOLUME_BATCH_SIZE} per step if not "
        "set.",
    )
    learning_rate: float = Field(LEARNING_RATE, gt=0, le=10, title="Learning rate")
    optimizer: Literal["adam", "sgd"] = Field(
        "adam",
        title="Optimiser",
        description="Adam, with the weight decay as an L2 penalty; or SGD with Nesterov momentum "
        "0.99.",
    )
    betas: tuple[float, float] = Field((0.9, 0.999), title="Adam betas")
    weight_decay: float = Field(0.0, ge=0, title="Weight decay")
    schedule: Literal["constant", "warmup-poly", "step-decay", "cosine-restarts", "plateau"] = (
        Field(
            "warmup-poly",
            title="Learning-rate schedule",
            description="constant; warmup-poly: linear warm-up, then polynomial decay; step-decay: "
            "decreases by a tenth every second epoch (Dominic et al. 2023); cosine-restarts: "
            "decreases to 0 along a cosine and restarts (PolyCL); plateau: halved when the "
            "validation stops improving (Umapathy et al. 2022, Dhere & Sivaswamy).",
        )
    )
    warmup: float = Field(0.05, ge=0, lt=1, title="Warm-up", description="Fraction of the steps.")
    restart_every: int = Field(
        10,
        ge=1,
        le=MOST_STEPS,
        title="Restart every",
        description="Epochs between the restarts of cosine-restarts; 10 in PolyCL. Between "
        "restarts the rate decreases with every batch.",
    )
    plateau_patience: int = Field(
        10,
        ge=0,
        le=MOST_STEPS,
        title="Patience of the plateau",
        description="Validations without improvement before plateau halves the rate.",
    )
    gradient_clip: float | None = Field(
        None,
        gt=0,
        title="Gradient clipping",
        description=f"Largest norm of the gradient; None for no clipping. If not set, "
        f"{FINETUNE_GRADIENT_CLIP:g} in the fine-tuning and no clipping in the pretraining.",
    )
    validate_every: int | None = Field(
        None,
        ge=1,
        title="Validate every",
        description="Steps between validations. If not set, every epoch, but at most about 20 "
        "times in all unless the length is set in epochs.",
    )
    early_stopping: EarlyStopping | None = Field(None, title="Early stopping")
    checkpoint_seconds: float = Field(
        30.0,
        gt=0,
        title="Checkpoint interval",
        description="Seconds between saved states; one is also saved after each epoch.",
    )
    checkpoint_share: float = Field(
        0.01,
        gt=0,
        le=1,
        title="Time for checkpoints",
        description="Largest fraction of the time spent on saving states; with a slow disk states "
        "are saved less often.",
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", title="Precision")
    compile: bool = Field(
        False,
        title="Compile",
        description="Compile the network. This takes about a minute at the start and pays off in "
        "long trainings; if it fails, the training continues without it.",
    )
    seed: int = Field(0, ge=0, lt=2**31, title="Seed")

    @field_validator("betas")
    @classmethod
    def _check_betas(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("both must be at least 0 and less than 1")
        return betas


def default_batch_size(dimensions: Literal[2, 3]) -> int:
    """Give the default batch size of networks of slices (2) or volumes (3)."""
    return VOLUME_BATCH_SIZE if dimensions == 3 else BATCH_SIZE


def stage_defaults(stage: StageKind, dimensions: Literal[2, 3] = 2) -> dict[str, Any]:
    """Give the defaults of a training that depend on its stage and network.

    Parameters
    ----------
    stage : {"pretrain", "finetune"}
        The stage.
    dimensions : {2, 3}
        2 for a network of slices, 3 for a network of volumes.

    Returns
    -------
    dict
        Values by name of the field of :class:`Training`.
    """
    finetuning = stage == "finetune"
    return {
        "steps": FINETUNE_STEPS if finetuning else PRETRAIN_STEPS,
        "batch_size": default_batch_size(dimensions),
        "gradient_clip": FINETUNE_GRADIENT_CLIP if finetuning else None,
    }


def default_training(stage: StageKind, dimensions: Literal[2, 3] = 2, **fields: Any) -> Training:
    """Give the default training of a stage.

    Parameters
    ----------
    stage : {"pretrain", "finetune"}
        The stage.
    dimensions : {2, 3}
        2 for a network of slices, 3 for a network of volumes, which sets the batch size.
    **fields
        Fields of :class:`Training` to set to other values; None keeps the default.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> default_training("finetune").steps
    400
    >>> default_training("pretrain", 3, learning_rate=1e-4).batch_size
    2
    """
    values = stage_defaults(stage, dimensions)
    if dimensions == 2:
        del values["batch_size"]  # So that settings with a network of volumes choose theirs.
    given = {name: value for name, value in fields.items() if value is not None}
    return make_settings(Training, **values | given)
