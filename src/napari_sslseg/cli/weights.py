"""Command line: weights of other programs as a run to start from."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.cli.console import say, table
from napari_sslseg.cli.options import (
    NETWORK_WORDS,
    Json,
    Out,
    Overwrite,
    SizeOption,
    modality_of,
    numbers,
)
from napari_sslseg.cli.preparing import preprocessing_changes
from napari_sslseg.core.common.errors import ConfigError

NETWORKS = NETWORK_WORDS.replace(" (default)", "")  # since nobody can guess it


def import_weights(
    file: Annotated[Path, typer.Argument(help="Weights: .safetensors, .pt or .pth.")],
    network: Annotated[str, typer.Option(help=f"The network that they are of: {NETWORKS}.")],
    out: Out,
    widths: Annotated[
        str | None,
        typer.Option(help="Its channels per level, such as 32,64,128; as usual if not given."),
    ] = None,
    renames: Annotated[
        list[str] | None,
        typer.Option("--map", help="A prefix of its names and what it is here: old=new."),
    ] = None,
    modality: Annotated[
        str, typer.Option(help="Kind of scans that it was trained on: MR or CT.")
    ] = "MR",
    plane: Annotated[
        str | None, typer.Option(help="Slicing plane: axial (default), coronal or sagittal.")
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(help="keep (default), isotropic, or mm; for volumes keep or 3,1.5,1.5."),
    ] = None,
    size: SizeOption = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a run to start from out of the weights of another program, without running its code."""
    from napari_sslseg.core.common.frozen import make_settings
    from napari_sslseg.core.runs.weights.adopt import import_weights
    from napari_sslseg.core.samples.build import default_preprocessing
    from napari_sslseg.core.settings.networks import named_network

    chosen: Any = named_network(network)
    if widths is not None:
        if "widths" not in type(chosen).model_fields:
            raise ConfigError(f"The network {network} has no widths; leave --widths out.")
        chosen = make_settings(
            type(chosen), **chosen.model_dump() | {"widths": numbers(widths, "widths")}
        )
    base = default_preprocessing(modality_of(modality), chosen.dimensions)
    changes = preprocessing_changes(plane, spacing, size, chosen.dimensions)
    run = import_weights(
        file,
        network=chosen,
        out=out,
        preprocessing=make_settings(type(base), **base.model_dump() | changes),
        renames=_renames(renames or []),
        overwrite=overwrite,
    )
    if as_json:
        print(json.dumps({"run": str(run.folder), **run.record}))
        return
    found = run.record["transfer"]
    rows = [[item["name"], item["as"], f"copied, by {item['by']}"] for item in found["copied"]]
    rows += [
        [item["name"], item["as"], f"not copied: {item['source']}, here {item['target']}"]
        for item in found["mismatched"]
    ]
    rows += [[item["name"], None, item["reason"]] for item in found["skipped"]]
    rows += [[None, name, "not in the file; starts at random"] for name in found["missing"]]
    table(["there", "here", "what became of it"], rows)
    counts = {name: len(items) for name, items in found.items()}
    say(
        f"{counts['copied']} tensors copied, {counts['mismatched']} of another shape and "
        f"{counts['skipped']} others not; {counts['missing']} of the network are missing."
    )
    say(f"Run: {out}. Next: napari-sslseg finetune --images … --labels … --init {out} --out …")


def _renames(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not equals:
            raise ConfigError(f"--map {pair} does not say what the prefix is here; write old=new.")
        found[old] = new
    return found
