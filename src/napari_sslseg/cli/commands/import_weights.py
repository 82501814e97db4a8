"""Command: make a run from the weights of another program."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.cli.console import for_shell, say, table
from napari_sslseg.cli.options import (
    Json,
    Out,
    Overwrite,
    PlaneOption,
    SizeOption,
    describe_networks,
)
from napari_sslseg.cli.settings import NetworkOptions
from napari_sslseg.cli.values import parse_integers, parse_modality
from napari_sslseg.core.common.errors import ConfigError


def import_weights(
    file: Annotated[Path, typer.Argument(help="Weights: .safetensors, .pt, .pth or .ckpt.")],
    network: Annotated[
        str, typer.Option(help=f"Network of the weights: {describe_networks(default=False)}.")
    ],
    out: Out,
    widths: Annotated[
        str | None,
        typer.Option(
            help="Channels per level, such as 32,64,128; the default of the network if not given."
        ),
    ] = None,
    renames: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="Prefix of the names in the file, and its replacement: old=new."
        ),
    ] = None,
    modality: Annotated[
        str, typer.Option(help="Modality that the network was trained on: MR or CT.")
    ] = "MR",
    plane: PlaneOption = None,
    spacing: Annotated[
        str | None,
        typer.Option(help="keep (default), isotropic, or mm; for volumes keep or 3,1.5,1.5."),
    ] = None,
    size: SizeOption = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a run to start from, with the weights of another program, without running its code."""
    from napari_sslseg.core.common.settings_base import make_settings
    from napari_sslseg.core.runs.weights.import_weights import import_weights
    from napari_sslseg.core.samples.build import default_preprocessing
    from napari_sslseg.core.settings.networks import named_network

    chosen: Any = named_network(network)
    if widths is not None:
        if "widths" not in type(chosen).model_fields:
            raise ConfigError(f"The network {network} has no widths; leave out --widths.")
        chosen = make_settings(
            type(chosen), **chosen.model_dump() | {"widths": parse_integers(widths, "widths")}
        )
    base = default_preprocessing(parse_modality(modality), chosen.dimensions)
    options = NetworkOptions(plane=plane, spacing=spacing, size=size)
    changes = options.preprocessing_changes(chosen.dimensions)
    run = import_weights(
        file,
        network=chosen,
        out=out,
        preprocessing=make_settings(type(base), **base.model_dump() | changes),
        renames=_parse_renames(renames or []),
        overwrite=overwrite,
    )
    if as_json:
        print(json.dumps({"run": str(run.folder), **run.record}))
        return
    _print_transfer(run.record["transfer"])
    init = for_shell(out)
    say(f"Run: {out}. Next: napari-sslseg finetune --images … --labels … --init {init} --out …")


def _print_transfer(report: Mapping[str, list[Any]]) -> None:
    """Print what happened to every tensor of the file and of the network."""
    rows = [[item["name"], item["as"], f"copied, by {item['by']}"] for item in report["copied"]]
    for item in report["mismatched"]:
        shapes = f"{item['source']} in the file, {item['target']} in the network"
        rows.append([item["name"], item["as"], f"not copied: {shapes}"])
    rows += [[item["name"], None, item["reason"]] for item in report["skipped"]]
    rows += [[None, name, "not in the file; initialized randomly"] for name in report["missing"]]
    table(["in the file", "in the network", "result"], rows)
    counts = {name: len(items) for name, items in report.items()}
    say(
        f"{counts['copied']} tensors copied; not copied: {counts['mismatched']} of another shape, "
        f"{counts['skipped']} others. {counts['missing']} tensors of the network are missing."
    )


def _parse_renames(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not equals:
            raise ConfigError(f"--map {pair} has no replacement for the prefix; write old=new.")
        found[old] = new
    return found
