"""Command line: the stages of the main job, one command each."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.cli_files import ClassNames, export, suffix_of
from napari_sslseg.cli_preview import preview
from napari_sslseg.cli_series import series
from napari_sslseg.console import fail, follow, run_app, say, table
from napari_sslseg.core.events import StopFlag
from napari_sslseg.options import (
    Cache,
    Json,
    ModalityOption,
    NetworkOption,
    OrganSlices,
    PatchSize,
    Sampling,
    ScratchPlane,
    Seed,
    Selection,
    Spacing,
    TaskOption,
    modality_of,
    network_and_preprocessing,
    numbers,
    settings_for,
    task_options,
)

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Overwrite = Annotated[bool, typer.Option(help="Replace an older run in the same folder.")]
Steps = Annotated[int, typer.Option(help="Batches to train on.", min=1)]
BatchSize = Annotated[int, typer.Option(help="Slices per step.", min=1)]
LearningRate = Annotated[float, typer.Option(help="Learning rate after the warm-up.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        import napari_sslseg

        print(napari_sslseg.__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Few-shot segmentation of MR and CT.

    Pretrain on unlabelled scans, fine-tune on a few labelled slices, predict, evaluate.
    """


@app.command()
def demo(
    out: Out,
    data: Annotated[
        Path | None, typer.Option(help="Folder with images/ and labels/; phantoms if not given.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="A few minutes on two cores.")] = False,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Run the main job end to end and compare pretrained with scratch."""
    from napari_sslseg.core.demo import iter_demo
    from napari_sslseg.core.demo_plan import FAST, FULL

    stop = StopFlag()
    plan = FAST if fast else FULL
    report = follow(iter_demo(data, out=out, plan=plan, seed=seed, device=device, stop=stop), stop)
    if as_json:
        print(json.dumps(report))
        return
    rows = [
        [arm["init"], arm["labelled_volumes"], arm["seed"], *arm["dice"].values(), arm["mean"]]
        for arm in report["arms"]
    ]
    names = report["dataset"]["class_names"]
    classes = [names.get(value, f"class {value}") for value in report["arms"][0]["dice"]]
    say("Dice on the test scans:")
    table(["start", "labelled volumes", "seed", *classes, "mean"], rows)
    say(
        f"Report: {out / 'report.png'} and {out / 'report.json'}; predictions in {out}/predictions."
    )


@app.command()
def pretrain(
    images: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Out,
    task: TaskOption = "context-restoration",
    patch_size: PatchSize = None,
    sampling: Sampling = None,
    selection: Selection = None,
    organ_slices: OrganSlices = None,
    steps: Steps = 1000,
    batch_size: BatchSize = 16,
    learning_rate: LearningRate = 1e-3,
    init: Annotated[
        Path | None, typer.Option(help="Pretraining run to start from; scratch if not given.")
    ] = None,
    network: NetworkOption = None,
    plane: ScratchPlane = None,
    spacing: Spacing = None,
    modality: ModalityOption = None,
    cache: Cache = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Pretrain a network on unlabelled scans."""
    from napari_sslseg.core.labelled import read_annotated
    from napari_sslseg.core.pretext.registry import make_task
    from napari_sslseg.core.pretrain import gather_scans, iter_pretrain, sample_size
    from napari_sslseg.core.start import open_start, settled

    scans = gather_scans(images)
    kind = modality_of(modality)
    name, preprocessing = network_and_preprocessing(init, scans[0], network, plane, spacing, kind)
    settings = settings_for(
        "PretrainSettings", name, steps, batch_size, learning_rate, seed, preprocessing
    )
    start = open_start(init, out, "pretrain")
    preprocessing = settled(settings, start, scans[0], kind).preprocessing
    options = task_options(
        patch_size=patch_size,
        sampling=sampling,
        selection=selection,
        organ_slices=read_annotated(organ_slices) if organ_slices else None,
    )
    pretext = make_task(task, sample_size(scans, preprocessing), **options)
    stop = StopFlag()
    events = iter_pretrain(
        scans,
        pretext,
        init=start,
        out=out,
        settings=settings,
        device=device,
        modality=kind,
        cache=cache,
        stop=stop,
        overwrite=overwrite,
    )
    # Without its decoder, this stage would have been for nothing.
    parts = " --transfer encoder+decoder" if task == "local-contrast" else ""
    following = f"finetune --images … --labels … --init {out}{parts} --out …"
    _finish(follow(events, stop), as_json, following)


@app.command()
def finetune(
    images: Annotated[Path, typer.Option(help="Folder of scans (or one scan).")],
    labels: Annotated[Path, typer.Option(help="Folder of labels with the names of their scans.")],
    out: Out,
    init: Annotated[
        str, typer.Option(help="Pretraining run to start from, or scratch.")
    ] = "scratch",
    annotated: Annotated[
        Path | None,
        typer.Option(help='JSON of annotated slices, {"scan": [3, 9]}; all slices if not given.'),
    ] = None,
    validation_share: Annotated[
        float, typer.Option(help="Share of the subjects kept out to choose the best weights.")
    ] = 0.0,
    classes: Annotated[
        str | None,
        typer.Option(help="All values that the labels hold, such as 1,2; those found if unset."),
    ] = None,
    transfer: Annotated[
        str, typer.Option(help="Pretrained parts to start from: encoder or encoder+decoder.")
    ] = "encoder",
    steps: Steps = 400,
    batch_size: BatchSize = 16,
    learning_rate: LearningRate = 1e-3,
    network: NetworkOption = None,
    plane: ScratchPlane = None,
    spacing: Spacing = None,
    modality: ModalityOption = None,
    cache: Cache = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a U-Net on annotated slices."""
    from napari_sslseg.core.finetune import iter_finetune, split_validation
    from napari_sslseg.core.labelled import pair_scans, read_annotated

    marked = read_annotated(annotated) if annotated else None
    pairs = pair_scans(images, labels, marked)
    training, validation = split_validation(pairs, validation_share, seed)
    start = None if init == "scratch" else Path(init)
    kind = modality_of(modality)
    name, preprocessing = network_and_preprocessing(
        start, pairs[0].scan, network, plane, spacing, kind
    )
    others = {} if classes is None else {"classes": numbers(classes)}
    settings = settings_for(
        "FinetuneSettings",
        name,
        steps,
        batch_size,
        learning_rate,
        seed,
        preprocessing,
        transfer=transfer,
        **others,
    )
    stop = StopFlag()
    events = iter_finetune(
        training,
        init=start or "scratch",
        out=out,
        settings=settings,
        validation=validation,
        device=device,
        modality=kind,
        cache=cache,
        stop=stop,
        overwrite=overwrite,
    )
    _finish(follow(events, stop), as_json, f"predict {out} … --out …")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Fine-tuning run.")],
    images: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Out,
    modality: ModalityOption = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace files of the same names.")] = False,
    as_format: Annotated[
        str, typer.Option("--format", help="nii.gz, nii, nrrd, mha, or dcm for DICOM SEG.")
    ] = "nii.gz",
    class_names: ClassNames = None,
    as_json: Json = False,
) -> None:
    """Segment scans; the labels lie on the grid of each scan."""
    from napari_sslseg.core.labelled import read_class_names
    from napari_sslseg.core.predict import iter_predict

    stop = StopFlag()
    events = iter_predict(
        run,
        images,
        out=out,
        suffix=suffix_of(as_format),
        classes=read_class_names(class_names) if class_names else None,
        device=device,
        modality=modality_of(modality),
        overwrite=overwrite,
        stop=stop,
    )
    written, failed = follow(events, stop)
    if as_json:
        print(json.dumps({"predictions": [str(path) for path in written]}))
    elif written:
        say(f"{len(written)} predictions in {out}.")
    for message in failed:
        fail(message)
    if failed:
        raise typer.Exit(2)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder (or file) of predicted labels.")],
    truth: Annotated[Path, typer.Argument(help="Folder (or file) of true labels.")],
    as_json: Json = False,
) -> None:
    """Compare predictions with true labels: Dice and HD95 in mm, per class and volume."""
    from napari_sslseg.core.evaluate import evaluate_folders

    found = evaluate_folders(predictions, truth).as_dict()
    if as_json:
        print(json.dumps(found, allow_nan=False))
        return
    rows = [
        [name, values["dice"], values["hd95_mm"], values["n"], values["hd95_undefined"]]
        for name, values in found["classes"].items()
    ]
    table(["class", "Dice", "HD95 (mm)", "volumes", "HD95 undefined"], rows)
    mean = found["mean_dice"]
    print("Mean Dice: " + ("none" if mean is None else f"{mean:.4f}"))
    if found["unpredicted"]:
        say(f"Not predicted, so not scored: {', '.join(found['unpredicted'])}.")


app.command()(preview)
app.command()(series)
app.command()(export)


def main() -> None:
    """Entry point: one plain line and exit code 2 on a user's error, 130 on Ctrl-C."""
    sys.exit(run_app(app))


def _finish(run: Any, as_json: bool, following: str) -> None:
    if as_json:
        print(json.dumps({"run": str(run.folder), **run.record}))
    else:
        say(f"Run: {run.folder}. Next: napari-sslseg {following}")


if __name__ == "__main__":
    main()
