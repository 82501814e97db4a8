"""Command: pretrain a network, by options or by the preset of a paper."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sslseg.cli.console import follow, for_shell
from napari_sslseg.cli.options import (
    BatchSize,
    Cache,
    ClassMapOption,
    Clip,
    Compile,
    Crop,
    Device,
    Devices,
    Embedding,
    Json,
    LearningRate,
    Left,
    Masks,
    MiddleShare,
    ModalityOption,
    Neighbours,
    NetworkOption,
    Nodes,
    Organ,
    OrganSlices,
    Out,
    Overwrite,
    PatchSize,
    Patients,
    PresetOption,
    Resume,
    Right,
    RunSeed,
    Sampling,
    ScratchPlane,
    Selection,
    Sides,
    SizeOption,
    Spacing,
    TaskOption,
    Threads,
)
from napari_sslseg.cli.settings import NetworkOptions, scans_and_task_options
from napari_sslseg.cli.training import (
    claim_output,
    name_patients,
    refuse_settings_with_resume,
    report_run,
    training_fields,
)
from napari_sslseg.cli.values import given, parse_modality
from napari_sslseg.core.common.compute.distributed import launch
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Event, StopFlag
from napari_sslseg.core.settings.pretext.registry import DEFAULT_TASK, task_class
from napari_sslseg.core.settings.stages import TRANSFER
from napari_sslseg.core.settings.training import PRETRAIN_STEPS

if TYPE_CHECKING:
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.settings.presets.preset import Preset


def pretrain(
    context: typer.Context,
    images: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Out,
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
    steps: Annotated[
        int | None,
        typer.Option(help=f"Batches to train on; {PRETRAIN_STEPS} if not set.", min=1),
    ] = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    init: Annotated[
        Path | None, typer.Option(help="Pretraining run to start from; scratch if not given.")
    ] = None,
    network: NetworkOption = None,
    plane: ScratchPlane = None,
    spacing: Spacing = None,
    size: SizeOption = None,
    neighbours: Neighbours = None,
    clip: Clip = None,
    middle_share: MiddleShare = None,
    patients: Patients = None,
    modality: ModalityOption = None,
    cache: Cache = None,
    device: Device = "auto",
    devices: Devices = None,
    nodes: Nodes = None,
    threads: Threads = None,
    compiled: Compile = False,
    seed: RunSeed = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Pretrain a network on unlabelled scans."""
    from napari_sslseg.core.settings.presets.registry import preset_named
    from napari_sslseg.core.stages.init_from import open_start, preprocessing_of

    stop = StopFlag()
    common: dict[str, Any] = {"out": out, "device": device, "cache": cache}
    common |= {"threads": threads, "stop": stop}
    if resume:
        refuse_settings_with_resume(context)
        launch(devices, nodes, device)
        run = follow(_resume(images, masks, class_map, init=init, **common), stop)
        preset = (run.record.get("settings") or {}).get("preset")
        report_run(run, as_json, _next_command(out, preset))
        return

    # Names and the run to start from are checked first, since reading scans takes long.
    base = preset_named(preset) if preset else None
    if base is not None and task is not None:
        raise ConfigError(f"The preset {preset} has a task of its own; leave out --task.")
    tasks = [stage.task for stage in base.stages] if base else [task or DEFAULT_TASK]
    start = open_start(init, out, "pretrain")
    claim_output(out, overwrite=overwrite)
    chosen = NetworkOptions(network, plane, spacing, size, neighbours, clip)
    if start is not None:
        chosen.refuse(context, start.folder)
    scans, task_options = scans_and_task_options(
        images,
        tasks,
        # Slices are numbered along the plane of the run to start from, if there is one.
        plane=plane if start is None else preprocessing_of(start).plane,
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
    scans = name_patients(scans, patients)
    training = training_fields(steps, batch_size, learning_rate, seed, compiled)
    common |= {"init": start, "modality": parse_modality(modality), "overwrite": overwrite}
    changes = chosen, training, middle_share, common
    if base is not None:
        events = _pretrain_by_preset(base, scans, task_options, *changes)
    else:
        events = _pretrain_by_options(tasks[0], scans, task_options, *changes)
    launch(devices, nodes, device)
    report_run(follow(events, stop), as_json, _next_command(out, preset, tasks))


def _resume(
    images: list[Path],
    masks: Path | None,
    class_map: Path | None,
    init: Path | None,
    **common: Any,
) -> Iterator[Event]:
    """Resume a pretraining of one stage or of several."""
    from napari_sslseg.core.scans.sources import collect_scans, with_masks
    from napari_sslseg.core.stages.preset import iter_pretrain_preset

    scans = collect_scans(images)
    if masks:
        scans = with_masks(scans, masks, class_map)
    return iter_pretrain_preset(scans, init=init, resume=True, **common)


def _pretrain_by_preset(
    preset: "Preset",
    scans: list[Any],
    task_options: dict[str, Any],
    chosen: NetworkOptions,
    training: dict[str, Any],
    middle_share: float | None,
    common: dict[str, Any],
) -> Iterator[Event]:
    """Pretrain by a preset, whose settings the options replace."""
    from napari_sslseg.core.stages.preset import iter_pretrain_preset

    changed = preset.with_overrides(
        network=chosen.chosen_network(),
        preprocessing=chosen.preprocessing_changes(preset.network.dimensions),
        training=training,
        middle_share=middle_share,
        options=task_options,
    )
    return iter_pretrain_preset(scans, changed, **common)


def _pretrain_by_options(
    task: str,
    scans: list[Any],
    task_options: dict[str, Any],
    chosen: NetworkOptions,
    training: dict[str, Any],
    middle_share: float | None,
    common: dict[str, Any],
) -> Iterator[Event]:
    """Pretrain by options and defaults, from scratch or from a run."""
    from napari_sslseg.core.common.settings_base import make_settings
    from napari_sslseg.core.samples.build import sample_size
    from napari_sslseg.core.scans.sources import without_labels
    from napari_sslseg.core.settings.pretext.registry import make_task
    from napari_sslseg.core.settings.stages import PretrainSettings
    from napari_sslseg.core.stages.init_from import resolve_settings
    from napari_sslseg.core.stages.pretrain import iter_pretrain

    start: Run | None = common["init"]
    scan, modality = without_labels(scans[0]), common["modality"]
    settings = make_settings(
        PretrainSettings,
        **chosen.stage_fields("pretrain", start, scan, modality, training),
        **given(middle_share=middle_share),
    )
    # The default size of the patches depends on the network's input.
    known = resolve_settings(settings, start, scan, modality)
    preprocessing: Any = known.preprocessing
    pretext = make_task(
        task, sample_size(scans, preprocessing), stride=known.network.stride, **task_options
    )
    return iter_pretrain(scans, pretext, settings=settings, **common)


def _next_command(out: Path, preset: str | None, tasks: list[str] | None = None) -> str:
    """Command that fine-tunes from the run."""
    command = f"finetune --images … --labels … --init {for_shell(out)}"
    # A preset sets the transfer itself.
    transfer = task_class(tasks[0]).transfer if tasks and not preset else TRANSFER
    if transfer != TRANSFER:
        command += f" --transfer {transfer}"
    return f"{command} --out …" + (f" --preset {preset}" if preset else "")
