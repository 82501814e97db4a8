"""Command line: pretraining and fine-tuning, by options or by the preset of a paper."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.cli.console import follow
from napari_sslseg.cli.options import (
    FINETUNE_STEPS,
    PRETRAIN_STEPS,
    TASK_NAMES,
    BatchSize,
    Cache,
    Compile,
    Crop,
    Device,
    Devices,
    Embedding,
    Json,
    LearningRate,
    Left,
    ManyPieces,
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
    StrategyOption,
    Threads,
    Unlabelled,
    given,
    lengths,
    modality_of,
    numbers,
    scans_and_options,
    settings_for,
    training_fields,
)
from napari_sslseg.cli.preparing import (
    network_and_preprocessing,
    preprocessing_changes,
    refuse_with_start,
)
from napari_sslseg.cli.resuming import finish, refuse_with_resume, resume_finetune, resume_pretrain
from napari_sslseg.core.common.compute.distributed import launch
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import StopFlag


def pretrain(
    images: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Out,
    preset: PresetOption = None,
    task: Annotated[
        str | None,
        typer.Option(help=f"Pretext task: {TASK_NAMES}; context-restoration if not set."),
    ] = None,
    patch_size: PatchSize = None,
    sampling: Sampling = None,
    selection: Selection = None,
    tags: OrganSlices = None,
    masks: Masks = None,
    organ: Organ = None,
    left: Left = None,
    right: Right = None,
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
    middle_share: MiddleShare = None,
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
    from napari_sslseg.core.scans.sources import without_labels
    from napari_sslseg.core.settings.networks import named_network
    from napari_sslseg.core.settings.presets.registry import preset_named
    from napari_sslseg.core.settings.pretext.registry import make_task
    from napari_sslseg.core.stages.init_from import open_start, preprocessing_of, settled
    from napari_sslseg.core.stages.preset import iter_pretrain_preset
    from napari_sslseg.core.stages.pretrain import iter_pretrain, sample_size

    start_processes = partial(launch, devices, nodes, device)
    if resume:
        refuse_with_resume(
            preset, task, patch_size, sampling, selection, tags, organ, left, right, sides, crop,
            embedding, steps,
            batch_size, learning_rate, network, plane, spacing, size, neighbours, middle_share,
            modality, compiled or None, seed, overwrite or None,
        )  # fmt: skip
        start_processes()
        resume_pretrain(images, masks, out, init, cache, device, threads, as_json)
        return
    # Before the scans are read: a name with a slip should not wait for them.
    base = preset_named(preset) if preset else None
    if base is not None and task is not None:
        raise ConfigError(f"The preset {preset} has a task of its own; leave out --task.")
    tasks = [stage.task for stage in base.stages] if base else [task or "context-restoration"]
    start = open_start(init, out, "pretrain")
    if start is not None:
        refuse_with_start(start.folder, network, plane, spacing, size, neighbours)
    found = None if start is None else preprocessing_of(start)
    scans, options = scans_and_options(
        images,
        tasks,
        # The slices are numbered along the plane of the run to start from, if there is one.
        plane=plane if found is None else found.plane,
        masks=masks,
        tags=tags,
        labels={"organ": organ, "left": left, "right": right},
        patch_size=patch_size,
        sampling=sampling,
        selection=selection,
        sides=sides,
        crop=numbers(crop, "numbers of voxels"),
        embedding=embedding,
    )
    kind = modality_of(modality)
    stop = StopFlag()
    common: dict[str, Any] = {
        "init": start,
        "out": out,
        "device": device,
        "modality": kind,
        "cache": cache,
        "stop": stop,
        "threads": threads,
        "overwrite": overwrite,
    }
    if base is not None:
        dimensions = base.network.dimensions
        chosen = base.with_overrides(
            network=named_network(network) if network else None,
            preprocessing=preprocessing_changes(plane, spacing, size, dimensions, neighbours),
            training=training_fields(steps, batch_size, learning_rate, compiled, seed),
            middle_share=middle_share,
            options=options,
        )
        events = iter_pretrain_preset(scans, chosen, **common)
    else:
        name, preprocessing = network_and_preprocessing(
            init, without_labels(scans[0]), kind, network, plane, spacing, size, neighbours
        )
        settings = settings_for(
            "PretrainSettings",
            name,
            *lengths(steps, PRETRAIN_STEPS, batch_size, learning_rate, preprocessing or found),
            seed or 0,
            preprocessing,
            compiled=compiled,
            **given(middle_share=middle_share),
        )
        known = settled(settings, start, without_labels(scans[0]), kind)
        pretext = make_task(
            tasks[0],
            sample_size(scans, known.preprocessing),
            stride=known.network.stride,
            **options,
        )
        events = iter_pretrain(scans, pretext, settings=settings, **common)
    start_processes()
    # Without its decoder, this stage would have been for nothing; presets say so themselves.
    parts = " --transfer encoder+decoder" if tasks == ["local-contrast"] and not preset else ""
    following = f"finetune --images … --labels … --init {out}{parts} --out …"
    finish(follow(events, stop), as_json, following + (f" --preset {preset}" if preset else ""))


def finetune(
    images: Annotated[Path, typer.Option(help="Folder of scans (or one scan).")],
    labels: Annotated[Path, typer.Option(help="Folder of labels with the names of their scans.")],
    out: Out,
    init: Annotated[
        str, typer.Option(help="Pretraining run to start from, or scratch.")
    ] = "scratch",
    preset: PresetOption = None,
    annotated: Annotated[
        Path | None,
        typer.Option(help='JSON of annotated slices, {"scan": [3, 9]}; all slices if not given.'),
    ] = None,
    unlabelled: Unlabelled = None,
    many_pieces: ManyPieces = False,
    validation_share: Annotated[
        float | None,
        typer.Option(help="Share of the subjects kept out to choose the best weights; 0 if unset."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="All values that the labels hold, such as 1,2; those found if unset."),
    ] = None,
    transfer: Annotated[
        str | None,
        typer.Option(help="Pretrained parts to start from: encoder (default) or encoder+decoder."),
    ] = None,
    strategy: StrategyOption = None,
    steps: Annotated[
        int | None,
        typer.Option(help=f"Batches to train on; {FINETUNE_STEPS} if not set.", min=1),
    ] = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    network: NetworkOption = None,
    plane: ScratchPlane = None,
    spacing: Spacing = None,
    size: SizeOption = None,
    neighbours: Neighbours = None,
    middle_share: MiddleShare = None,
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
    """Fine-tune a U-Net on annotated slices."""
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.scans.labelled import pair_scans, read_annotated
    from napari_sslseg.core.settings.networks import named_network
    from napari_sslseg.core.settings.presets.registry import preset_named
    from napari_sslseg.core.settings.self_training import self_trained
    from napari_sslseg.core.stages.finetune import iter_finetune, split_validation
    from napari_sslseg.core.stages.init_from import preprocessing_of
    from napari_sslseg.core.stages.preset import iter_finetune_preset

    start_processes = partial(launch, devices, nodes, device)
    if resume:
        refuse_with_resume(
            preset, annotated, classes, transfer, strategy, steps, batch_size, learning_rate,
            network, plane, spacing, size, neighbours, middle_share, modality, validation_share,
            compiled or None, seed, overwrite or None, many_pieces or None,
        )  # fmt: skip
        start_processes()
        resume_finetune(images, labels, unlabelled, out, init, cache, device, threads, as_json)
        return
    if many_pieces and not unlabelled:
        raise ConfigError("--many-pieces is about unlabelled slices; give --unlabelled as well.")
    base = preset_named(preset) if preset else None
    if base is not None and unlabelled:
        raise ConfigError(
            f"The preset {preset} fine-tunes on labelled slices alone; leave out --unlabelled "
            "and what belongs to it."
        )
    marked = read_annotated(annotated) if annotated else None
    pairs = pair_scans(images, labels, marked)
    training, validation = split_validation(pairs, validation_share or 0.0, seed or 0)
    scratch = init == "scratch"
    kind = modality_of(modality)
    found = None
    if not scratch:
        refuse_with_start(init, network, plane, spacing, size, neighbours)
        found = preprocessing_of(Run.open(init))
    name, preprocessing = None, None
    if base is None:
        name, preprocessing = network_and_preprocessing(
            None if scratch else init,
            pairs[0].scan,
            kind,
            network,
            plane,
            spacing,
            size,
            neighbours,
        )
    others = given(transfer=transfer, strategy=strategy, classes=numbers(classes))
    if unlabelled:
        others |= self_trained(many_pieces)
    stop = StopFlag()
    common: dict[str, Any] = {
        "init": "scratch" if scratch else Path(init),
        "out": out,
        "validation": validation,
        "device": device,
        "modality": kind,
        "cache": cache,
        "stop": stop,
        "threads": threads,
        "overwrite": overwrite,
    }
    if base is not None:
        chosen = base.with_overrides(
            network=named_network(network) if network else None,
            preprocessing=preprocessing_changes(
                plane, spacing, size, base.network.dimensions, neighbours
            ),
            training=training_fields(steps, batch_size, learning_rate, compiled, seed),
            middle_share=middle_share,
            finetuning=others,
        )
        events = iter_finetune_preset(training, chosen, **common)
    else:
        settings = settings_for(
            "FinetuneSettings",
            name,
            *lengths(steps, FINETUNE_STEPS, batch_size, learning_rate, preprocessing or found),
            seed or 0,
            preprocessing,
            compiled=compiled,
            **others | given(middle_share=middle_share),
        )
        events = iter_finetune(training, settings=settings, unlabelled=unlabelled or (), **common)
    start_processes()
    finish(follow(events, stop), as_json, f"predict {out} … --out …")
