"""Descriptions of runs for lists and tables, and how each run used the scans of the project."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.runs.listing import RunSummary
from napari_sslseg.core.runs.record import RECORD
from napari_sslseg.core.runs.run import Run
from napari_sslseg.gui.text import plural

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.runs.lineage import Use

ENDS = {
    "finished": "finished",
    "stopped": "stopped early",
    "interrupted": "interrupted",
    "failed": "failed",
}
USE_WORDS: "dict[Use, str]" = {
    "unseen": "unseen",
    "without labels": "no labels",
    "validation": "validation",
    "same patient": "patient",
    "training": "training",
}
"""Short forms for tables, in the window and in reports."""

USE_HINTS: "dict[Use, str]" = {
    "unseen": "Neither the training nor a pretraining before it used this patient.",
    "without labels": "No label of this patient was used, but a scan was used without labels, in "
    "the training or in a pretraining before it; the score of a new patient may be slightly lower.",
    "validation": "Used for validation only: it decided which weights were best.",
    "same patient": "Another scan of this patient was used for training, so the score is too high.",
    "training": "This scan was used for training, so the score is too high.",
}
"""What a use means for the score."""


def usable_runs(
    runs: Iterable[RunSummary], kind: Literal["pretrain", "finetune"]
) -> list[RunSummary]:
    """Runs that have weights and are not running: finished runs first, then the newest first."""
    found = [
        run
        for run in runs
        if run.kind == kind and run.status in ENDS and Run(run.folder, {}).weights.is_file()
    ]
    found.sort(key=lambda run: run.name, reverse=True)
    return sorted(found, key=lambda run: run.status != "finished")


def short_description(run: RunSummary) -> str:
    """Describe a run in a line, for a list."""
    parts = [run.name]
    if run.kind == "finetune":
        if run.best is not None:
            parts.append(f"Dice {run.best:.2f}")
    elif run.learnt:
        parts.append(run.learnt.replace("-", " "))
    if run.status != "finished":
        # Short, since lists have little room.
        parts.append(ENDS.get(run.status or "", "interrupted").removesuffix(" early"))
    return " · ".join(parts)


def _steps(run: RunSummary) -> str:
    """Number of steps, and how many were planned if there were fewer."""
    if run.status == "finished" or run.step is None:
        return plural(run.steps or 0, "step")
    return f"{run.step:,} of {plural(run.steps or 0, 'step')}"


def long_description(run: RunSummary) -> str:
    """Describe a run in a sentence: task or start, scans, steps and score."""
    scans = "an unknown number of scans" if run.scans is None else plural(run.scans, "scan")
    how = f"in {_steps(run)}" if run.steps else ""
    end = ENDS.get(run.status or "", "interrupted")
    if run.kind == "pretrain":
        task = (run.learnt or "an unknown task").replace("-", " ")
        return f"Pretrained with {task} on {scans} {how} ({end})."
    start = "from scratch" if run.learnt == "scratch" else f"starting from {run.learnt}"
    score = "" if run.best is None else f" Dice {run.best:.2f} on the validation patients."
    return f"Trained on {scans}, {start}, {how} ({end}).{score}"


def scan_uses(project: "Project", run: Run) -> "dict[str, Use]":
    """Return how a run used each scan of the project.

    Raises
    ------
    CheckpointError
        If the record of the run does not list its scans.
    """
    from napari_sslseg.core.runs.lineage import find_data_use, use_of

    seen = find_data_use(run)
    return {scan.name: use_of(seen, scan.content, scan.subject) for scan in project.record.scans}


def held_out_scans(project: "Project", folder: Path) -> list[str]:
    """Scans that a run or one of its stages used and that are held out now.

    Runs whose record does not list their scans are skipped.
    """
    from napari_sslseg.core.runs.lineage import find_data_use, patient_key, scan_key
    from napari_sslseg.core.runs.listing import list_runs

    used: set[str] = set()
    for summary in list_runs(folder):
        with suppress(CheckpointError):
            seen = find_data_use(Run.open(summary.folder))
            used |= seen.training | seen.validation | seen.unlabelled
    return [
        scan.name
        for scan in project.record.scans
        if scan.role == "test" and {scan_key(scan.content), patient_key(scan.subject)} & used
    ]


def unusable_scan(project: "Project", folder: Path) -> str | None:
    """Why a scan that a run or one of its stages used cannot be used now; None if all can.

    Runs whose record does not list their scans are skipped.
    """
    from napari_sslseg.core.runs.listing import list_runs
    from napari_sslseg.core.runs.provenance import scan_records

    used: set[str] = set()
    for summary in list_runs(folder):
        with suppress(CheckpointError):
            used |= {scan.name for scan in scan_records(Run.open(summary.folder))}
    problems = (project.problem(name) for name in project.names if name in used)
    return next((problem for problem in problems if problem is not None), None)


def remove_empty_run(folder: Path) -> None:
    """Remove the folder of a run that ended before its record was written."""
    if (folder / RECORD).exists():
        return
    with suppress(OSError):
        folder.rmdir()
