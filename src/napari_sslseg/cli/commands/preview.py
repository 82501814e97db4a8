"""Command: draw what a pretext task does to scans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sslseg.cli.console import say
from napari_sslseg.cli.options import (
    ClassMapOption,
    Crop,
    Embedding,
    Left,
    Masks,
    MiddleShare,
    ModalityOption,
    Organ,
    OrganSlices,
    OverwriteFile,
    PatchSize,
    PlaneOption,
    PresetOption,
    Right,
    Sampling,
    Seed,
    Selection,
    Sides,
    SizeOption,
    TaskOption,
)
from napari_sslseg.cli.settings import NetworkOptions, scans_and_task_options
from napari_sslseg.cli.values import parse_modality
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.safe_files import refuse_existing
from napari_sslseg.core.settings.pretext.registry import DEFAULT_TASK

if TYPE_CHECKING:
    from napari_sslseg.core.settings.presets.preset import Preset


def preview(
    images: Annotated[
        list[Path],
        typer.Argument(help="Scans, or folders of scans; several for tasks that compare scans."),
    ],
    out: Annotated[Path, typer.Option(help="Picture to write, such as preview.png.")],
    preset: PresetOption = None,
    task: TaskOption = None,
    patch_size: PatchSize = None,
    sampling: Sampling = None,
    selection: Selection = None,
    organ_slices: OrganSlices = None,
    masks: Masks = None,
    organ: Organ = None,
    left: Left = None,
    right: Right = None,
    class_map: ClassMapOption = None,
    sides: Sides = None,
    crop: Crop = None,
    embedding: Embedding = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Pretraining run: show what it restores, or how similar it finds slices."
        ),
    ] = None,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Show crops of volumes, the input of 3D networks.")
    ] = False,
    plane: PlaneOption = None,
    size: SizeOption = None,
    middle_share: MiddleShare = None,
    modality: ModalityOption = None,
    seed: Seed = 0,
    overwrite: OverwriteFile = False,
) -> None:
    """Draw what a pretext task does to scans; for a preset, the task of its first stage."""
    from napari_sslseg.core.pretext.pictures.preview import draw_preview
    from napari_sslseg.core.scans.labelled import as_volume
    from napari_sslseg.core.scans.sources import without_labels
    from napari_sslseg.core.settings.presets.registry import preset_named

    refuse_existing(out, overwrite=overwrite)
    base = preset_named(preset) if preset else None
    if base is not None:
        _check_preset(base, task, init, volumes)
    if init is not None:
        asked = {"kind": task, "patch_size": patch_size, "sampling": sampling}
        asked |= {"selection": selection, "plane": plane, "size": size, "volumes": volumes or None}
        _check_run(init, asked)
    name = base.stages[0].task if base else task or DEFAULT_TASK
    scans, options = scans_and_task_options(
        images,
        [name],
        plane=plane,
        masks=masks,
        organ_slices=organ_slices,
        labels={"organ": organ, "left": left, "right": right},
        class_map=class_map,
        patch_size=patch_size,
        sampling=sampling,
        selection=selection,
        sides=sides,
        crop=crop,
        embedding=embedding,
    )
    kind = parse_modality(modality)
    chosen = NetworkOptions(plane=plane, size=size)
    scan = without_labels(scans[0])
    preprocessing = None  # that of the run
    if base is not None:
        changes = chosen.preprocessing_changes(base.network.dimensions)
        base = base.with_overrides(preprocessing=changes, options=options)
        options = dict(base.stages[0].options)
        preprocessing = base.preprocessing(kind or as_volume(scan).modality)
        if middle_share is None:
            middle_share = base.stages[0].settings.middle_share
    elif init is None:
        preprocessing = chosen.preprocessing(scan, kind, _dimensions(name, volumes))
    draw_preview(
        scans,
        out=out,
        overwrite=overwrite,
        task=name,
        options=options,
        init=init,
        preprocessing=preprocessing,
        middle_share=1.0 if middle_share is None else middle_share,
        modality=kind,
        seed=seed,
    )
    say(f"Preview: {out}")


def _check_preset(preset: "Preset", task: str | None, init: Path | None, volumes: bool) -> None:
    """Refuse options that contradict a preset."""
    if task is not None or init is not None:
        raise ConfigError(
            f"The preset {preset.name} has a task of its own; leave out --task and --init."
        )
    if volumes and preset.network.dimensions == 2:
        raise ConfigError(f"The preset {preset.name} works on slices; leave out --volumes.")


def _check_run(init: Path, asked: dict[str, Any]) -> None:
    """Refuse options that differ from those that the run was trained with."""
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
                f"A preview of the run {init} shows what it was trained with; leave out {option}."
            )


def _dimensions(task: str, volumes: bool) -> int:
    """2 for slices, 3 for volumes, if asked for or if the task works only on them."""
    from napari_sslseg.core.settings.pretext.registry import TASKS

    works_on_slices = task not in TASKS or 2 in TASKS[task].dimensions
    return 3 if volumes or not works_on_slices else 2
