"""TODO."""

from typing import Literal

from pydantic import Field

from napari_sslseg.core.common.frozen import Settings as Settings

MOST_STEPS = 10_000_000


class EarlyStopping(Settings):
    """Stop when the monitored value has not improved by ``min_delta`` for ``patience`` rounds.

    As in Dominic et al. 2023 the margin decides about stopping alone: the best weights are those
    of any improvement, however small.
    """

    min_delta: float = Field(ge=0, title="Smallest improvement")
    patience: int = Field(ge=1, title="Rounds without improvement")


class Training(Settings):
    """One training loop."""

    steps: int = Field(500, ge=1, le=MOST_STEPS, title="Steps", description="Batches to train on.")
    epochs: int | None = Field(
        None,
        ge=1,
        le=MOST_STEPS,
        title="Epochs",
        description="How often each slice is seen; takes the place of the steps if set.",
    )
    batch_size: int = Field(16, ge=1, le=4096, title="Batch size", description="Slices per step.")
    learning_rate: float = Field(1e-3, gt=0, le=10, title="Learning rate")
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
            "drops by a tenth every second epoch (Dominic et al. 2023); cosine-restarts: falls to "
            "0 along a cosine again and again (PolyCL); plateau: halved whenever the validation no "
            "longer improves (Umapathy et al. 2022, Dhere & Sivaswamy).",
        )
    )
    warmup: float = Field(0.05, ge=0, lt=1, title="Warm-up", description="Share of the steps.")
    restart_every: int = Field(
        10,
        ge=1,
        le=MOST_STEPS,
        title="Restart every",
        description="Epochs after which cosine-restarts begins anew; 10 in PolyCL. Within them the "
        "rate falls with every batch.",
    )
    plateau_patience: int = Field(
        10,
        ge=0,
        le=MOST_STEPS,
        title="Patience of the plateau",
        description="Validations without improvement that plateau bears before it halves the rate.",
    )
    gradient_clip: float | None = Field(
        None, gt=0, title="Gradient clipping", description="Largest norm; none if not set."
    )
    validate_every: int | None = Field(
        None,
        ge=1,
        title="Validate every",
        description="Steps; if not set, once an epoch, at most about 20 times in all unless the "
        "length is set in epochs.",
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
        title="Share for checkpoints",
        description="Largest share of the time for saving states; slow disks save less often.",
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", title="Precision")
    compile: bool = Field(
        False,
        title="Compile",
        description="Compile the network, which takes about a minute at first and pays in long "
        "trainings; where that fails the training goes on without.",
    )
    seed: int = Field(0, ge=0, lt=2**31, title="Seed")
