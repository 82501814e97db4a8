"""Command: list the presets of the papers, or describe one."""

import json
import textwrap
from typing import Annotated

import typer

from napari_sslseg.cli.console import table
from napari_sslseg.cli.options import Json

WIDTH = 100
INDENT = 24


def presets(
    name: Annotated[
        str | None, typer.Argument(help="Preset to describe; lists all if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the methods of the papers, or describe all settings of one."""
    from napari_sslseg.core.settings.presets.description import preset_rows
    from napari_sslseg.core.settings.presets.registry import PRESETS, preset_named

    if name is None:
        if as_json:
            print(json.dumps([preset.model_dump(mode="json") for preset in PRESETS.values()]))
            return
        rows = [
            [p.name, p.paper, ", ".join(stage.task for stage in p.stages), p.network.title]
            for p in PRESETS.values()
        ]
        table(["preset", "paper", "pretext task", "network"], rows)
        return
    preset = preset_named(name)
    if as_json:
        print(json.dumps(preset.model_dump(mode="json")))
        return
    print(f"{preset.name}: {preset.title}\n")
    for heading, words in preset_rows(preset):
        _print_row(heading, words)
    print("\nWhere it differs from the paper, or the paper does not specify a setting:\n")
    for decision in preset.decisions:
        _print_row(decision.what, f"Paper: {decision.printed}.")
        _print_row("", f"Here: {decision.here}.")
        _print_row("", decision.why)


def _print_row(heading: str, words: str) -> None:
    """Print one row of two columns, both wrapped."""
    left = textwrap.wrap(heading, INDENT - 2)
    right = textwrap.wrap(words, WIDTH - INDENT)
    for number in range(max(len(left), len(right))):
        start = left[number] if number < len(left) else ""
        rest = right[number] if number < len(right) else ""
        print(f"{start:<{INDENT}}{rest}".rstrip())
