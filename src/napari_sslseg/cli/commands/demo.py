"""Command: run all stages on a folder of scans or on phantoms, and compare the results."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.cli.console import follow, say, table
from napari_sslseg.cli.options import Device, Json, Out, Patients, Seed
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import StopFlag


def demo(
    out: Out,
    data: Annotated[
        Path | None, typer.Option(help="Folder with images/ and labels/; phantoms if not given.")
    ] = None,
    patients: Patients = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Short version: a few minutes on two cores.")
    ] = False,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Pretrain, fine-tune, predict and score; compare with training from scratch."""
    from napari_sslseg.core.demo.demo import iter_demo
    from napari_sslseg.core.demo.plan import FAST, FULL

    stop = StopFlag()
    plan = FAST if fast else FULL
    if patients and data is None:
        raise ConfigError(
            "The patients of phantoms are known; leave out --patients, or give --data."
        )
    events = iter_demo(
        data, out=out, plan=plan, seed=seed, patients=patients, device=device, stop=stop
    )
    again = "A demonstration cannot be continued; the same command begins it anew."
    report = follow(events, stop, again=again)
    if as_json:
        print(json.dumps(report))
        return
    names = report["dataset"]["class_names"]
    classes = [names.get(value, f"class {value}") for value in report["arms"][0]["dice"]]
    keys = ["training", "labelled scans", "seed"]
    several = ["mean"] * (len(classes) > 1)
    for title, measure in (("Dice", "dice"), ("HD95 in mm", "hd95_mm")):
        say(f"{title} on the test scans, mean over scans:")
        table([*keys, *classes, *several], [_row(arm, measure) for arm in report["arms"]])
    for sentence in (report["length"], *report["comparison"], report["caution"]):
        say(sentence)
    folder = out / report["predictions"]["folder"]
    say(
        f"Report: {out / 'report.png'} and {out / 'report.json'}; predictions of "
        f"{report['predictions']['arm']} in {folder}."
    )


def _row(arm: dict[str, Any], measure: str) -> list[Any]:
    from napari_sslseg.core.results.scores import mean_of

    scores = list(arm[measure].values())
    mean = arm["mean"] if measure == "dice" else mean_of(scores)
    if measure == "hd95_mm":
        scores, mean = [_millimetres(score) for score in scores], _millimetres(mean)
    return [
        arm["arm"], arm["labelled_volumes"], arm["seed"], *scores, *[mean] * (len(scores) > 1)
    ]  # fmt: skip


def _millimetres(distance: float | None) -> str:
    return "–" if distance is None else f"{distance:.1f}"
