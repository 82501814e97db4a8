"""How long a training on the command line is, and how large its batches are."""

from typing import Annotated, Any

import typer

from napari_sslseg.cli.options import given

# Without a preset; with one, what is not set comes from it.
PRETRAIN_STEPS, FINETUNE_STEPS = 1000, 400
BATCH_SIZE, VOLUME_BATCH_SIZE, LEARNING_RATE = 16, 2, 1e-3

BatchSize = Annotated[
    int | None, typer.Option(help="Slices per step, 16 if not set; crops of volumes, 2.", min=1)
]
LearningRate = Annotated[
    float | None, typer.Option(help="Learning rate after the warm-up; 0.001 if not set.")
]


def training_fields(
    steps: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    compiled: bool,
    seed: int | None,
) -> dict[str, Any]:
    """Fields of the training of a preset that options give a value."""
    found = given(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    return found | given(compile=compiled or None)


def lengths(
    steps: int | None,
    usual: int,
    batch_size: int | None,
    learning_rate: float | None,
    preprocessing: Any,
) -> tuple[int, int, float]:
    """Steps, batch size and learning rate, those not set as they usually are."""
    volumes = preprocessing is not None and preprocessing.kind == "volumes"
    return (
        usual if steps is None else steps,
        (VOLUME_BATCH_SIZE if volumes else BATCH_SIZE) if batch_size is None else batch_size,
        LEARNING_RATE if learning_rate is None else learning_rate,
    )
