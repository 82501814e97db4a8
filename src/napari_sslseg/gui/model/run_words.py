"""The runs of a project as a person chooses them: which there are, and what they are, in words."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.runs.listing import RunSummary
from napari_sslseg.core.runs.record import RECORD
from napari_sslseg.core.runs.run import Run
from napari_sslseg.gui.model.words import many

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project

ENDS = {"finished": "finished", "stopped": "stopped early", "failed": "failed"}
Use = Literal["not seen", "without labels", "kept out", "same patient", "learnt from"]
USE_WORDS: dict[Use, str] = {
    "not seen": "unseen",
    "without labels": "no labels",
    "kept out": "kept out",
    "same patient": "patient",
    "learnt from": "learnt",
}
"""The same as a table shows it, in the window and in reports."""

USE_HINTS: dict[Use, str] = {
    "not seen": "Neither the training nor a pretraining before it saw this patient.",
    "without labels": "No label of this patient was learnt from, but the network saw their scans "
    "before; a patient that is new to it may come out a little worse.",
    "kept out": "Kept out of the training; it only decided which weights were best.",
    "same patient": "The training saw another scan of this patient, so the score is too good.",
    "learnt from": "The training learnt from this scan, so the score is too good.",
}
"""What a run made of a scan, the most telling first."""


def usable_runs(
    runs: Iterable[RunSummary], kind: Literal["pretrain", "finetune"]
) -> list[RunSummary]:
    """Runs with weights that nothing works on; finished ones first, then the newest."""
    found = [
        run
        for run in runs
        if run.kind == kind and run.status in ENDS and Run(run.folder, {}).weights.is_file()
    ]
    found.sort(key=lambda run: run.name, reverse=True)
    return sorted(found, key=lambda run: run.status != "finished")


def short_words(run: RunSummary) -> str:
    """A run in a line, for a list to choose from."""
    parts = [run.name]
    if run.kind == "finetune":
        if run.best is not None:
            parts.append(f"Dice {run.best:.2f}")
    elif run.learnt:
        parts.append(run.learnt.replace("-", " "))
    if run.status != "finished":
        parts.append(ENDS.get(run.status or "", "interrupted"))
    return " · ".join(parts)


def long_words(run: RunSummary) -> str:
    """What a run learnt, in a sentence."""
    scans = "an unknown number of scans" if run.scans is None else many(run.scans, "scan")
    how = f"in {run.steps:,} steps" if run.steps else ""
    end = ENDS.get(run.status or "", "interrupted")
    if run.kind == "pretrain":
        task = (run.learnt or "an unknown task").replace("-", " ")
        return f"Learnt {task} from {scans} {how} ({end})."
    start = "from scratch" if run.learnt == "scratch" else f"starting from {run.learnt}"
    score = "" if run.best is None else f" Dice {run.best:.2f} on the patients kept out."
    return f"Trained on {scans}, {start}, {how} ({end}).{score}"


def scan_uses(project: "Project", run: Run) -> dict[str, Use]:
    """What a run made of each scan of the project.

    Raises
    ------
    CheckpointError
        If its record does not tell.
    """
    from napari_sslseg.core.runs.lineage import patient_key, scan_key, seen_by

    seen = seen_by(run)
    uses: dict[str, Use] = {}
    for scan in project.record.scans:
        # By their values, since names may be given anew.
        own, patient = scan_key(scan.content), patient_key(scan.subject)
        if own in seen.learnt:
            uses[scan.name] = "learnt from"
        elif patient in seen.learnt:
            uses[scan.name] = "same patient"
        elif own in seen.kept_out or patient in seen.kept_out:
            uses[scan.name] = "kept out"
        elif own in seen.unlabelled or patient in seen.unlabelled or not seen.whole:
            uses[scan.name] = "without labels"
        else:
            uses[scan.name] = "not seen"
    return uses


def now_held_out(project: "Project", folder: Path) -> list[str]:
    """Scans of a run, or of its stages, that are held out by now; none if it does not tell."""
    from napari_sslseg.core.runs.lineage import patient_key, scan_key, seen_by
    from napari_sslseg.core.runs.listing import list_runs

    used: set[str] = set()
    for summary in list_runs(folder):
        with suppress(CheckpointError):
            seen = seen_by(Run.open(summary.folder))
            used |= seen.learnt | seen.kept_out | seen.unlabelled
    return [
        scan.name
        for scan in project.record.scans
        if scan.role == "test" and {scan_key(scan.content), patient_key(scan.subject)} & used
    ]


def forget_empty_run(folder: Path) -> None:
    """Remove the folder of a run that ended before it began."""
    if (folder / RECORD).exists():
        return
    with suppress(OSError):
        (folder / "run.lock").unlink(missing_ok=True)
        folder.rmdir()
