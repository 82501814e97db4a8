"""Command: run all stages on a folder of scans or on phantoms, and compare the results."""

import json
from pathlib import Path
from typing import Annotated

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
    report = follow(events, stop)
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
