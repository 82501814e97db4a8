"""Command: compare predictions with true labels."""

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_sslseg.cli.console import records, say, table
from napari_sslseg.cli.options import (
    BackgroundValue,
    ClassMapOption,
    IgnoreValue,
    Json,
    LabelledClassesOption,
    Patients,
    SequenceOption,
)
from napari_sslseg.cli.values import parse_annotated, parse_integers


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder (or file) of predicted labels.")],
    truth: Annotated[Path, typer.Argument(help="Folder (or file) of true labels.")],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the scans, if the true labels find their predictions only by them, as "
            "DICOM files do; scans beside the true labels are found without it."
        ),
    ] = None,
    sequence: SequenceOption = None,
    patients: Patients = None,
    class_map: ClassMapOption = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Values of the classes to score, such as 1,2; all if not set."),
    ] = None,
    ignore_value: IgnoreValue = None,
    background_value: BackgroundValue = 0,
    labelled_classes: LabelledClassesOption = None,
    annotated: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='JSON of annotated axial slices, {"scan": [3, 9]}; or the word labelled (slices '
            "with any label in the truth) or all (default). Others are not scored.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare predictions with true labels: Dice and HD95 in mm, per class and volume."""
    from napari_sslseg.core.results.evaluate import evaluate_folders
    from napari_sslseg.core.scans.classes.partial_labels import read_labelled_classes
    from napari_sslseg.core.scans.matching.subjects import describe_subjects

    scores = evaluate_folders(
        predictions,
        truth,
        images=images,
        sequence=sequence,
        classes=parse_integers(classes),
        patients=patients,
        class_map=class_map,
        ignore=ignore_value,
        background=background_value,
        labelled_classes=read_labelled_classes(labelled_classes) if labelled_classes else None,
        annotated=parse_annotated(annotated),
    ).as_dict()
    if as_json:
        print(json.dumps(scores, allow_nan=False))
        return
    volumes = [
        [volume["name"], volume["subject"], volume["mean_dice"], volume["use"]]
        for volume in scores["volumes"]
    ]
    # Known only if predict wrote the predictions.
    known = 4 if any(row[-1] for row in volumes) else 3
    titles = ["scan", "patient", "mean Dice", "use by the run"]
    records(titles[:known], [row[:known] for row in volumes])
    names = scores["class_names"]
    rows = [
        [
            f"{value} {names[value]}" if value in names else value,
            *(found[key] for key in ("dice", "hd95_mm", "n", "hd95_undefined")),
        ]
        for value, found in scores["classes"].items()
    ]
    table(["class", "Dice", "HD95 (mm)", "volumes", "HD95 undefined"], rows)
    subjects = [volume["subject"] for volume in scores["volumes"]]
    say(describe_subjects(subjects))
    mean = scores["mean_dice"]
    print("Mean Dice: " + ("none" if mean is None else f"{mean:.4f}"))
    if scores["unpredicted"]:
        say(f"No prediction, so no score: {', '.join(scores['unpredicted'])}.")
