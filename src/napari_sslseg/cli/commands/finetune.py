"""Command: fine-tune a network on labelled slices, by options or by the preset of a paper."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sslseg.cli.console import follow, for_shell, say
from napari_sslseg.cli.options import (
    BackgroundValue,
    BatchSize,
    Cache,
    ClassMapOption,
    Clip,
    Compile,
    Device,
    Devices,
    IgnoreValue,
    Json,
    LabelledClassesOption,
    LearningRate,
    ManyPieces,
    MiddleShare,
    ModalityOption,
    Neighbours,
    NetworkOption,
    Nodes,
    Out,
    Overwrite,
    Patients,
    PresetOption,
    Resume,
    RunSeed,
    ScratchPlane,
    SequenceOption,
    SizeOption,
    Spacing,
    StrategyOption,
    Threads,
    Unlabelled,
)
from napari_sslseg.cli.settings import NetworkOptions
from napari_sslseg.cli.training import (
    claim_output,
    name_patients,
    refuse_settings_with_resume,
    report_run,
    training_fields,
)
from napari_sslseg.cli.values import (
    given,
    parse_annotated,
    parse_integers,
    parse_modality,
    parse_plane,
)
from napari_sslseg.core.common.compute.distributed import is_first, launch
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Event, StopFlag
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.settings.training import FINETUNE_STEPS

if TYPE_CHECKING:
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.scans.labelled import LabelledScan
    from napari_sslseg.core.settings.presets.preset import Preset

SCRATCH = "scratch"


def finetune(
    context: typer.Context,
    images: Annotated[Path, typer.Option(help="Folder of scans (or one scan).")],
    labels: Annotated[
        Path,
        typer.Option(
            help="Folder of labels with the names of their scans; may be that of --images."
        ),
    ],
    out: Out,
    init: Annotated[str, typer.Option(help="Pretraining run to start from, or scratch.")] = SCRATCH,
    preset: PresetOption = None,
    annotated: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='JSON of annotated slices, {"scan": [3, 9]}; or the word labelled (slices with '
            "any label) or all (default).",
        ),
    ] = None,
    some_labelled: Annotated[
        bool,
        typer.Option(
            "--some-labelled",
            help="Only some of the scans have labels; leave out the others, or use them as well "
            "with --unlabelled.",
        ),
    ] = False,
    ignore_value: IgnoreValue = None,
    background_value: BackgroundValue = 0,
    labelled_classes: LabelledClassesOption = None,
    sequence: SequenceOption = None,
    patients: Patients = None,
    unlabelled: Unlabelled = None,
    many_pieces: ManyPieces = False,
    validation_share: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="Fraction of the subjects held out to choose the best weights; 0 if not set.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="All values in the labels, such as 1,2; those found if not set."),
    ] = None,
    class_map: ClassMapOption = None,
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
    clip: Clip = None,
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
    """Fine-tune a network on annotated slices."""
    from napari_sslseg.core.scans.classes.partial_labels import read_labelled_classes
    from napari_sslseg.core.scans.labelled import LabelledScan
    from napari_sslseg.core.scans.matching.pair_scans import pair_scans
    from napari_sslseg.core.scans.matching.sequences import choose_sequence
    from napari_sslseg.core.scans.sources import collect_scans
    from napari_sslseg.core.segmentation.unlabelled import remove_same_files
    from napari_sslseg.core.settings.presets.registry import preset_named
    from napari_sslseg.core.settings.self_training import self_trained
    from napari_sslseg.core.stages.finetune import split_validation
    from napari_sslseg.core.stages.init_from import open_start

    stop = StopFlag()
    common: dict[str, Any] = {"init": init, "out": out, "device": device, "cache": cache}
    common |= {"threads": threads, "stop": stop}
    following = f"predict {for_shell(out)} … --out …"
    if resume:
        refuse_settings_with_resume(context)
        launch(devices, nodes, device)
        common |= {"class_map": class_map}
        events = _resume(images, labels, sequence, unlabelled or (), **common)
        report_run(follow(events, stop), as_json, following)
        return

    if many_pieces and not unlabelled:
        raise ConfigError("--many-pieces needs --unlabelled; give both, or leave it out.")
    base = preset_named(preset) if preset else None
    if base is not None and unlabelled:
        raise ConfigError(
            f"The preset {preset} fine-tunes on labelled slices only; leave out --unlabelled."
        )
    start = open_start(init, out)
    claim_output(out, overwrite=overwrite)
    pairs = pair_scans(
        images,
        labels,
        parse_annotated(annotated, _plane(plane, start, base)),
        every_image=not some_labelled,
        class_map=class_map,
        sequence=sequence,
        ignore=ignore_value,
        background=background_value,
        labelled_classes=read_labelled_classes(labelled_classes) if labelled_classes else None,
    )
    others: list[Any] = []
    for folder in unlabelled or ():
        found = collect_scans([folder])
        others += choose_sequence(found, sequence) if sequence else found
    # Before the patients are counted.
    others, copies = remove_same_files(others, pairs)
    if copies and is_first():
        say(
            f"Unlabelled scans that are copies of labelled ones are left out: {join_names(copies)}."
        )
    together = name_patients([*pairs, *others], patients)
    pairs = [item for item in together if isinstance(item, LabelledScan)]
    others = together[len(pairs) :]
    labelled, validation = split_validation(pairs, validation_share or 0.0, seed or 0)
    chosen = NetworkOptions(network, plane, spacing, size, neighbours, clip)
    if start is not None:
        chosen.refuse(context, init)
    training = training_fields(steps, batch_size, learning_rate, seed, compiled)
    stage = given(transfer=transfer, strategy=strategy, classes=parse_integers(classes))
    if unlabelled:
        stage |= self_trained(many_pieces)
    common |= {"validation": validation, "modality": parse_modality(modality)}
    common |= {"overwrite": overwrite, "sequence": sequence}
    if base is not None:
        events = _finetune_by_preset(
            base, labelled, chosen, training, stage, middle_share, **common
        )
    else:
        fields = chosen.stage_fields("finetune", start, pairs[0].scan, common["modality"], training)
        fields |= stage | given(middle_share=middle_share)
        events = _finetune_by_options(labelled, fields, others, **common)
    launch(devices, nodes, device)
    report_run(follow(events, stop), as_json, following)


def _plane(plane: str | None, start: "Run | None", base: "Preset | None") -> Any:
    """Slicing plane of the training, which is also that of the network it starts from."""
    if start is not None:
        return (start.record.get("settings", {}).get("preprocessing") or {}).get("plane", "axial")
    if plane is None and base is not None:
        return getattr(base.mr, "plane", "axial")
    return parse_plane(plane)


def _resume(
    images: Path, labels: Path, sequence: str | None, unlabelled: Sequence[Path], **common: Any
) -> Iterator[Event]:
    from napari_sslseg.core.scans.matching.pair_scans import pair_scans
    from napari_sslseg.core.stages.finetune import iter_finetune
    from napari_sslseg.core.stages.resume import open_resumed

    sequence = sequence or open_resumed(common["out"], "finetune").sequence
    labelled = pair_scans(images, labels, every_image=False, match_classes=False, sequence=sequence)
    return iter_finetune(labelled, unlabelled=unlabelled, resume=True, **common)


def _finetune_by_preset(
    preset: "Preset",
    labelled: "Sequence[LabelledScan]",
    chosen: NetworkOptions,
    training: dict[str, Any],
    stage: dict[str, Any],
    middle_share: float | None,
    **common: Any,
) -> Iterator[Event]:
    """Fine-tune by a preset, whose settings the options replace."""
    from napari_sslseg.core.stages.preset import iter_finetune_preset

    changed = preset.with_overrides(
        network=chosen.chosen_network(),
        preprocessing=chosen.preprocessing_changes(preset.network.dimensions),
        training=training,
        middle_share=middle_share,
        finetuning=stage,
    )
    return iter_finetune_preset(labelled, changed, **common)


def _finetune_by_options(
    labelled: "Sequence[LabelledScan]",
    fields: dict[str, Any],
    unlabelled: Sequence[Any],
    **common: Any,
) -> Iterator[Event]:
    """Fine-tune by options and defaults, from scratch or from a run."""
    from napari_sslseg.core.common.settings_base import make_settings
    from napari_sslseg.core.settings.stages import FinetuneSettings
    from napari_sslseg.core.stages.finetune import iter_finetune

    settings = make_settings(FinetuneSettings, **fields)
    return iter_finetune(labelled, settings=settings, unlabelled=unlabelled, **common)
