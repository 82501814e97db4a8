"""Command line: a picture of what a pretext task does."""

from pathlib import Path
from typing import Annotated

import typer

from napari_sslseg.console import say
from napari_sslseg.options import (
    ModalityOption,
    PatchSize,
    PlaneOption,
    Sampling,
    Seed,
    TaskOption,
    given,
    modality_of,
    preprocessing_for,
)


def preview(
    image: Annotated[Path, typer.Argument(help="A scan.")],
    out: Annotated[Path, typer.Option(help="Picture to write, such as preview.png.")],
    task: TaskOption = "context-restoration",
    patch_size: PatchSize = None,
    sampling: Sampling = None,
    init: Annotated[
        Path | None, typer.Option(help="Pretraining run, to show what it restores.")
    ] = None,
    plane: PlaneOption = "axial",
    modality: ModalityOption = None,
    seed: Seed = 0,
) -> None:
    """Draw what a pretext task does to a scan."""
    from napari_sslseg.core.preview import draw_preview

    preprocessing = (
        None if init else preprocessing_for(image, modality_of(modality), 2, plane, None, None)
    )
    draw_preview(
        image,
        out=out,
        task=task,
        options=given(patch_size=patch_size, sampling=sampling),
        init=init,
        preprocessing=preprocessing,
        modality=modality_of(modality),
        seed=seed,
    )
    say(f"Preview: {out}")
