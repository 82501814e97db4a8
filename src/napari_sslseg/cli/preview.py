"""Command line: a picture of what a pretext task does."""

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.cli.console import say
from napari_sslseg.cli.options import (
    TASK_NAMES,
    Crop,
    Embedding,
    Left,
    Masks,
    MiddleShare,
    ModalityOption,
    Organ,
    OrganSlices,
    PatchSize,
    PresetOption,
    Right,
    Sampling,
    Seed,
    Selection,
    Sides,
    SizeOption,
    modality_of,
    numbers,
    scans_and_options,
)
from napari_sslseg.cli.preparing import preprocessing_changes, preprocessing_for
from napari_sslseg.core.common.errors import ConfigError


def preview(
    images: Annotated[
        list[Path],
        typer.Argument(help="Scans, or folders of scans; several for tasks that compare scans."),
    ],
    out: Annotated[Path, typer.Option(help="Picture to write, such as preview.png.")],
    preset: PresetOption = None,
    task: Annotated[
        str | None,
        typer.Option(help=f"Pretext task: {TASK_NAMES}; context-restoration if not set."),
    ] = None,
    patch_size: PatchSize = None,
    sampling: Sampling = None,
    selection: Selection = None,
    organ_slices: OrganSlices = None,
    masks: Masks = None,
    organ: Organ = None,
    left: Left = None,
    right: Right = None,
    sides: Sides = None,
    crop: Crop = None,
    embedding: Embedding = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Pretraining run, to show what it restores, or how alike it finds slices."
        ),
    ] = None,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Show crops of volumes, as 3D networks see them.")
    ] = False,
    plane: Annotated[
        str | None, typer.Option(help="Slicing plane: axial (default), coronal or sagittal.")
    ] = None,
    size: SizeOption = None,
    middle_share: MiddleShare = None,
    modality: ModalityOption = None,
    seed: Seed = 0,
) -> None:
    """Draw what a pretext task does to scans; of a preset, what its first stage does."""
    from napari_sslseg.core.pretext.pictures.preview import draw_preview
    from napari_sslseg.core.scans.labelled import as_volume
    from napari_sslseg.core.scans.sources import without_labels
    from napari_sslseg.core.settings.presets.registry import preset_named
    from napari_sslseg.core.settings.pretext.registry import TASKS

    base = preset_named(preset) if preset else None
    if base is not None and (task is not None or init is not None):
        raise ConfigError(
            f"The preset {preset} has a task of its own; leave out --task and --init."
        )
    if init is not None:
        asked = {"kind": task, "patch_size": patch_size, "sampling": sampling}
        asked |= {"selection": selection, "plane": plane, "size": size, "volumes": volumes or None}
        _check_run(init, asked)
    if base is not None and volumes and base.network.dimensions == 2:
        raise ConfigError(f"The preset {preset} works on slices; leave out --volumes.")
    name = base.stages[0].task if base else task or "context-restoration"
    scans, options = scans_and_options(
        images,
        [name],
        plane=plane,
        masks=masks,
        tags=organ_slices,
        labels={"organ": organ, "left": left, "right": right},
        patch_size=patch_size,
        sampling=sampling,
        selection=selection,
        sides=sides,
        crop=numbers(crop, "numbers of voxels"),
        embedding=embedding,
    )
    kind = modality_of(modality)
    preprocessing = None
    share = 1.0 if middle_share is None else middle_share
    if base is not None:
        changes = preprocessing_changes(plane, None, size, base.network.dimensions)
        changed = base.with_overrides(preprocessing=changes, options=options)
        options = dict(changed.stages[0].options)
        if middle_share is None:
            share = changed.stages[0].settings.middle_share
        preprocessing = changed.preprocessing(kind or as_volume(without_labels(scans[0])).modality)
    elif init is None:
        only_volumes = name in TASKS and 2 not in TASKS[name].dimensions
        dimensions = 3 if volumes or only_volumes else 2
        preprocessing = preprocessing_for(
            without_labels(scans[0]), kind, dimensions, plane, None, size
        )
    draw_preview(
        scans,
        out=out,
        task=name,
        options=options,
        init=init,
        preprocessing=preprocessing,
        middle_share=share,
        modality=kind,
        seed=seed,
    )
    say(f"Preview: {out}")


def _check_run(init: Path, asked: dict[str, Any]) -> None:
    """Refuse options that are not those of the run to show."""
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.settings.stages import PretrainSettings

    run = Run.open(init, "pretrain")
    preprocessing = run.settings(PretrainSettings).preprocessing
    known = run.task().model_dump()
    if preprocessing is not None:
        known |= {"plane": preprocessing.plane, "volumes": preprocessing.kind == "volumes"}
    for name, value in asked.items():
        if value is not None and known.get(name) != value:
            option = "--" + {"kind": "task"}.get(name, name).replace("_", "-")
            raise ConfigError(
                f"A preview of the run {init} shows what it was trained with; leave {option} out."
            )
