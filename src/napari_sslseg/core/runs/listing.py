"""Summaries of the runs below a folder, and differences between two runs. Loads no PyTorch."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.errors import PATH, CheckpointError, DataError, check_type
from napari_sslseg.core.common.safe_json import MOST_SIDECAR, read_json
from napari_sslseg.core.runs.record import RECORD
from napari_sslseg.core.runs.run import Run

COMPARED = ("kind", "settings", "task", "init", "scans", "slices", "classes", "seed", "device")
"""Parts of a record that determine the result; times and versions always differ."""


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run; values that it does not have are None.

    Attributes
    ----------
    name : str
        Path of its folder, relative to the folder that was searched.
    folder : Path
        The folder.
    kind : str or None
        ``pretrain`` or ``finetune``.
    learnt : str or None
        Pretext task of a pretraining, or what a fine-tuning started from.
    network, preset : str or None
        Kind of the network, and preset if one was used.
    scans, steps : int or None
        Number of scans used for training, and planned number of steps.
    step : int or None
        Last step whose weights were saved, of the last stage that has weights.
    loss : float or None
        Loss at that step.
    status : str or None
        ``running``, ``finished``, ``stopped``, ``interrupted`` or ``failed``.
    best : float or None
        Best validation: Dice of a fine-tuning, loss of a pretraining.
    seconds : float or None
        From start to end.
    problem : str or None
        Why the folder cannot be used, in one sentence.
    """

    name: str
    folder: Path
    kind: str | None = None
    learnt: str | None = None
    network: str | None = None
    preset: str | None = None
    scans: int | None = None
    steps: int | None = None
    step: int | None = None
    loss: float | None = None
    status: str | None = None
    best: float | None = None
    seconds: float | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """All values, for JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def list_runs(folder: str | Path) -> list[RunSummary]:
    """Summarise every run in a folder and below; a damaged one has its ``problem`` instead.

    Raises
    ------
    DataError
        If the folder does not exist.
    """
    check_type(folder, PATH, "folder", "the folder of the runs, such as 'runs'")
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"The folder {folder} does not exist; check the path.")
    return [summarise(path, folder) for path in sorted(_run_folders(folder))]


def _run_folders(folder: Path) -> Iterator[Path]:
    # Links are not followed, since they may form cycles or lead anywhere.
    for here, inner, files in os.walk(folder):
        if RECORD in files:
            yield Path(here)
            # A run contains no others, but may contain thousands of slices.
            inner.clear()


def summarise(folder: Path, root: Path) -> RunSummary:
    """Summarise one run, also a damaged one; its name is relative to ``root``."""
    name = str(folder.relative_to(root)) if folder != root else folder.resolve().name
    try:
        run = Run.open(folder)
        settings = _part(run.record, "settings")
        network, training = _part(settings, "network"), _part(settings, "training")
        pretraining = run.kind == "pretrain"
        scans = run.record.get("scans")
        best, last = _sidecar(folder, "best"), _sidecar(folder, "last")
        figure = "loss" if pretraining else "dice"
        return RunSummary(
            name=name,
            folder=folder,
            kind=run.kind,
            learnt=_text(_part(run.record, "task").get("kind") if pretraining else None)
            or _text(run.record.get("init")),
            network=_text(network.get("kind")),
            preset=_text(settings.get("preset")),
            scans=None if scans is None else len(scans),
            steps=_number(training.get("steps"), int),
            step=_number(last.get("step"), int),
            loss=_number(_part(last, "metrics").get("loss"), float),
            status=_text(run.record.get("status")),
            best=_number(_part(best, "metrics").get(figure), float),
            seconds=_seconds(run.record),
        )
    except CheckpointError as error:
        return RunSummary(name, folder, problem=str(error))


def _sidecar(folder: Path, which: str) -> Mapping[str, Any]:
    """What is recorded beside the best or the last weights; empty if there is nothing."""
    try:
        return _part(read_json(folder / f"{which}.json", MOST_SIDECAR), None)
    except (OSError, ValueError):  # There was no validation, or the file is damaged.
        return {}


def _seconds(record: Mapping[str, Any]) -> float | None:
    try:
        started, finished = (datetime.fromisoformat(record[k]) for k in ("started", "finished"))
        return (finished - started).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _part(values: Any, key: str | None) -> Mapping[str, Any]:
    """A mapping within another; empty if it is missing or something else."""
    inner = values.get(key) if key is not None and isinstance(values, Mapping) else values
    return inner if isinstance(inner, Mapping) else {}


def _text(value: Any) -> str | None:
    return value[:100] if isinstance(value, str) else None


def _number(value: Any, kind: type) -> Any:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return kind(value) if plain else None


def run_differences(first: Run, second: Run) -> list[tuple[str, Any, Any]]:
    """Settings in which two runs differ.

    Parameters
    ----------
    first, second : Run
        Runs of any kind.

    Returns
    -------
    list of (str, Any, Any)
        Place such as ``settings.training.steps``, and the values in both; None if missing.
    """
    ours, theirs = (_flat(run.record) for run in (first, second))
    places = dict.fromkeys([*ours, *theirs])
    return [
        (place, ours.get(place), theirs.get(place))
        for place in places
        if ours.get(place) != theirs.get(place)
    ]


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pending = [(key, record[key]) for key in reversed(COMPARED) if key in record]
    while pending:
        place, value = pending.pop()
        if isinstance(value, Mapping) and value:
            pending += [(f"{place}.{key}", inner) for key, inner in reversed(list(value.items()))]
        else:
            found[place] = value
    return found
