"""Command: compare predictions with true labels."""

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_sslseg.cli.console import say, table
from napari_sslseg.cli.options import ClassMapOption, Json, Patients


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder (or file) of predicted labels.")],
    truth: Annotated[Path, typer.Argument(help="Folder (or file) of true labels.")],
    patients: Patients = None,
    class_map: ClassMapOption = None,
    as_json: Json = False,
) -> None:
    """Compare predictions with true labels: Dice and HD95 in mm, per class and volume."""
    from napari_sslseg.core.results.evaluate import evaluate_folders
    from napari_sslseg.core.scans.matching.subjects import describe_subjects

    scores = evaluate_folders(predictions, truth, patients=patients, class_map=class_map).as_dict()
    if as_json:
        print(json.dumps(scores, allow_nan=False))
        return
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
