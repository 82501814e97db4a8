"""Command line: the stages of the main job, one command each."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_sslseg.cli.console import fail, follow, run_app, say, table
from napari_sslseg.cli.export import ClassNames, export, suffix_of
from napari_sslseg.cli.gui import gui
from napari_sslseg.cli.options import Device, Json, ModalityOption, Out, Seed, modality_of
from napari_sslseg.cli.presets import presets
from napari_sslseg.cli.preview import preview
from napari_sslseg.cli.runs import runs
from napari_sslseg.cli.series import series
from napari_sslseg.cli.train import finetune, pretrain
from napari_sslseg.cli.weights import import_weights
from napari_sslseg.core.common.events import StopFlag

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """Run the main job end to end; compare pretrained and self-trained with scratch."""
    from napari_sslseg.core.demo.demo import iter_demo
    from napari_sslseg.core.demo.plan import FAST, FULL

    stop = StopFlag()
    plan = FAST if fast else FULL
    report = follow(iter_demo(data, out=out, plan=plan, seed=seed, device=device, stop=stop), stop)
    if as_json:
        print(json.dumps(report))
        return
    rows = [
        [arm["arm"], arm["labelled_volumes"], arm["seed"], *arm["dice"].values(), arm["mean"]]
        for arm in report["arms"]
    ]
    names = report["dataset"]["class_names"]
    classes = [names.get(value, f"class {value}") for value in report["arms"][0]["dice"]]
    say("Dice on the test scans:")
    table(["arm", "labelled volumes", "seed", *classes, "mean"], rows)
    say(
        f"Report: {out / 'report.png'} and {out / 'report.json'}; predictions in {out}/predictions."
    )


app.command()(pretrain)
app.command()(finetune)


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
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Average over slightly turned and scaled views (test-time augmentation); takes "
            "up to five times as long.",
        ),
    ] = False,
    least_part: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Leave out loose pieces that are smaller than this share of the largest piece of "
            "their structure, such as 0.1. Not for structures in many pieces, such as lesions.",
        ),
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Segment scans; the labels lie on the grid of each scan."""
    from napari_sslseg.core.results.predict import iter_predict
    from napari_sslseg.core.scans.labelled import read_class_names

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
        tta=tta,
        least_part=least_part,
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
    from napari_sslseg.core.results.evaluate import evaluate_folders

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


app.command()(gui)
app.command()(presets)
app.command()(preview)
app.command()(series)
app.command()(export)
app.command()(runs)
app.command("import-weights")(import_weights)


def main() -> None:
    """Entry point: one plain line and exit code 2 on a user's error, 130 on Ctrl-C."""
    sys.exit(run_app(app))
