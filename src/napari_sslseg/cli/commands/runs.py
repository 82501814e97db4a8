"""Command: list the runs in a folder, compare two, or write their metrics for TensorBoard."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sslseg.cli.console import for_shell, records, say, table
from napari_sslseg.cli.options import Json
from napari_sslseg.core.common.errors import ConfigError

if TYPE_CHECKING:
    from napari_sslseg.core.runs.listing import RunSummary

TITLES = [
    "run", "kind", "task or start", "network", "preset", "scans", "steps", "status",
    "best validation", "time",
]  # fmt: skip


def runs(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of run folders.")],
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="RUN RUN",
            help="Compare the settings of two runs, named as in the table or by folder.",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder to write the metrics to, for TensorBoard.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the runs in a folder and below, compare two, or write their metrics for TensorBoard."""
    from napari_sslseg.core.runs.listing import list_runs

    if context.args:
        second = Path(context.args[0])
        raise ConfigError(
            "This takes one folder of runs; to compare two runs, write napari-sslseg runs "
            f"{for_shell(folder.parent)} --compare {for_shell(folder)} {for_shell(second)}."
        )
    if compare:
        _compare(folder, compare, as_json)
        return
    found = list_runs(folder)
    if tensorboard is not None:
        _write_events(found, tensorboard)
    if as_json:
        print(json.dumps([run.as_dict() for run in found]))
        return
    good = [run for run in found if run.problem is None]
    if good:
        rows = [_row(run) for run in good]
        # A column without content, such as presets, only takes room.
        used = [n for n, column in enumerate(zip(*rows, strict=True)) if set(column) != {None}]
        records([TITLES[n] for n in used], [[row[n] for n in used] for row in rows])
    for run in found:
        if run.problem is not None:
            say(f"Not usable: {run.problem}")
    say(f"Usable runs: {len(good)} of {len(found)}.")


def _row(run: "RunSummary") -> list[Any]:
    steps: Any = run.steps
    if run.status != "finished" and run.step is not None:
        steps = f"{run.step} of {run.steps}"
    values = [run.name, run.kind, run.learnt, run.network, run.preset, run.scans, steps]
    return [*values, run.status, run.best, _duration(run.seconds)]


def _duration(seconds: float | None) -> str | None:
    """Hours, minutes and seconds, such as 1:02:03 or 2:03."""
    if seconds is None or not 0 <= seconds < 1e9:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _compare(folder: Path, names: tuple[str, str], as_json: bool) -> None:
    from napari_sslseg.core.runs.listing import run_differences
    from napari_sslseg.core.runs.run import Run

    # The table shows names relative to the folder, so these come first.
    first, second = (
        Run.open(folder / name if (folder / name).exists() else Path(name)) for name in names
    )
    found = run_differences(first, second)
    if as_json:
        print(json.dumps({place: [ours, theirs] for place, ours, theirs in found}))
        return
    if not found:
        say("The settings of both runs are the same.")
        return
    table(
        ["setting", *names],
        [[setting, _format_value(a), _format_value(b)] for setting, a, b in found],
    )


def _format_value(value: Any) -> str | None:
    """A value in one line; a long list as its length."""
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} values"
    return None if value is None else str(value)[:60]


def _write_events(found: "list[RunSummary]", folder: Path) -> None:
    from napari_sslseg.core.common.errors import CheckpointError
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.runs.tensorboard import check_tensorboard, write_events

    check_tensorboard()
    for summary in found:
        if summary.problem is not None:
            continue
        try:
            rows = write_events(Run.open(summary.folder), folder / summary.name)
        except CheckpointError as error:
            say(f"Not written: {error}")
        else:
            say(f"{summary.name}: {rows} rows in {folder / summary.name}.")
