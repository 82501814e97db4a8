"""Counts of a project, and one sentence that says what to do next. Needs no Qt."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.runs.run import Run
from napari_sslseg.gui.model.run_descriptions import usable_runs
from napari_sslseg.gui.text import plural

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.runs.listing import RunSummary
    from napari_sslseg.gui.model.jobs import Job

PROJECT = "Press New… to create a project, or Open to continue one."
SCANS = "Add scans in step 1: drop files or folders there, or use its buttons."
ADDING = "Scans are being added; wait until this is finished."
UNREADABLE = "No scan can be used; step 1 shows the problem of each scan."
HELD_OUT = "All scans are held out; choose Train for some patients in step 1."
PRETRAIN = (
    "Label a slice in step 3 and mark it as done, or pretrain first in step 2, which needs no "
    "labels."
)
INTERRUPTED = "{name} was interrupted; resume it in step {step}, or start a new run."
STRUCTURE = "Add a structure in step 3, such as liver."
LABEL = "Label a slice in step 3 and mark it as done."
LABEL_TRAIN = (
    "All done slices are of held-out patients; label a slice of another patient in step 3."
)
SECOND = (
    "Label a slice of a second patient in step 3, so that the training can be validated; or train "
    "in step 4 without validation."
)
TRAIN = "Train in step 4 on {slices} of {patients}."
OTHER_SLICES = "The done slices have changed since the last training; train again in step 4."
OTHER_LABELS = (
    "Labels have changed since the last training; mark finished slices as done, then train again "
    "in step 4."
)
PREDICT = "Predict a scan in step 5, then correct a slice there and mark it as done."
STOPPED = (
    "{name} was stopped early; resume it in step 4, or predict a scan in step 5 to see what it has "
    "learnt so far."
)
INSPECT = "Inspect the predictions in step 5; correct a slice there and mark it as done."
UNUSABLE = " ({count} cannot be used; see step 1.)"


@dataclass(frozen=True)
class ProjectProgress:
    """Counts of a project.

    Attributes
    ----------
    scans, training, problems : int
        Number of all scans, of training scans, and of scans that cannot be used.
    done, labelled, patients : int
        Number of done slices, and of their scans and patients, among the training scans.
    held_out_done : int
        Number of done slices of held-out patients.
    pretrained, finetuned : int
        Number of runs with usable weights.
    """

    scans: int = 0
    training: int = 0
    problems: int = 0
    done: int = 0
    labelled: int = 0
    patients: int = 0
    held_out_done: int = 0
    pretrained: int = 0
    finetuned: int = 0


def project_progress(
    project: "Project | None", runs: Sequence["RunSummary"], problems: Mapping[str, str]
) -> ProjectProgress:
    """Count the scans, done slices and runs of a project."""
    if project is None:
        return ProjectProgress()
    scans = project.record.scans
    training = [scan for scan in scans if scan.role == "train"]
    done = [scan for scan in training if scan.done]
    return ProjectProgress(
        scans=len(scans),
        training=len(training),
        problems=sum(scan.name in problems for scan in scans),
        done=sum(scan.done_count for scan in done),
        labelled=len(done),
        patients=len({scan.subject for scan in done}),
        held_out_done=sum(scan.done_count for scan in scans if scan.role != "train"),
        pretrained=len(usable_runs(runs, "pretrain")),
        finetuned=len(usable_runs(runs, "finetune")),
    )


def next_step(
    project: "Project | None",
    runs: Sequence["RunSummary"],
    problems: Mapping[str, str],
    jobs: Sequence["Job"] = (),
    predicted: Collection[str] = (),
) -> str:
    """Return one sentence that says what to do next.

    Parameters
    ----------
    project : Project or None
    runs : sequence of RunSummary
        Runs of the project.
    problems : mapping of str to str
        Problems of scans, by scan name.
    jobs : sequence of Job
        Jobs that are running.
    predicted : collection of str
        Runs whose predictions can be inspected.
    """
    if project is None:
        return PROJECT
    found = project_progress(project, runs, problems)
    adding = any(job.kind == "add" and job.active for job in jobs)
    training = next((j for j in jobs if j.kind in ("pretrain", "finetune") and j.active), None)
    if training is not None:
        return while_training(training)
    if adding:
        return ADDING
    if not found.scans:
        return SCANS
    if found.problems == found.scans:
        return UNREADABLE
    sentence = _step_with_scans(project, found, runs, problems)
    if sentence == INSPECT:
        sentence = _inspect(runs, predicted)
    return sentence + (
        UNUSABLE.format(count=plural(found.problems, "scan")) if found.problems else ""
    )


def _step_with_scans(
    project: "Project",
    found: ProjectProgress,
    runs: Sequence["RunSummary"],
    problems: Mapping[str, str],
) -> str:
    """The next step of a project that has usable scans."""
    if not found.training:
        return HELD_OUT
    if not found.pretrained and not found.done and not found.finetuned:
        interrupted = _interrupted(runs, "pretrain")
        if not interrupted:
            return PRETRAIN
        return INTERRUPTED.format(name=interrupted.split("/")[0], step=2)
    if not project.classes:
        return STRUCTURE
    if not found.done:
        return LABEL_TRAIN if found.held_out_done else LABEL
    interrupted = _interrupted(runs, "finetune")
    last = max((run.name for run in usable_runs(runs, "finetune")), default="")
    if interrupted > last:
        return INTERRUPTED.format(name=interrupted, step=4)
    if not last:
        if found.patients < 2:
            return SECOND
        return TRAIN.format(
            slices=plural(found.done, "slice"),
            patients=plural(found.patients, "patient"),
        )
    return _step_after_training(project, last, problems)


def _inspect(runs: Sequence["RunSummary"], predicted: Collection[str]) -> str:
    """What to do after a training: inspect predictions, or make some first."""
    if predicted:
        return INSPECT
    last = max(usable_runs(runs, "finetune"), key=lambda run: run.name)
    return PREDICT if last.status == "finished" else STOPPED.format(name=last.name)


def _interrupted(runs: Sequence["RunSummary"], kind: str) -> str:
    """Name of the newest run that was killed or interrupted; empty if there is none."""
    ended = ("running", "interrupted")
    return max((r.name for r in runs if r.kind == kind and r.status in ended), default="")


def _step_after_training(project: "Project", last: str, problems: Mapping[str, str]) -> str:
    """The next step, depending on what has changed since the last training."""
    from napari_sslseg.core.runs.provenance import scan_records
    from napari_sslseg.core.scans.slices.ranges import ALL_SLICES, format_ranges

    try:
        run = Run.open(project.folder / "runs" / last)
        # Unlabelled scans take part in a training too, but have no done slices.
        trained = {e.name: e.annotated for e in scan_records(run) if e.role != "unlabelled"}
    except CheckpointError:
        return INSPECT  # The record does not list the scans.
    usable = [scan for scan in project.record.scans if scan.name not in problems]
    now = {scan.name: scan.done for scan in usable if scan.role == "train" and scan.done}
    axis = PLANE_AXIS[project.plane]
    every = {scan.name: format_ranges(range(scan.shape[axis])) for scan in usable}
    before = {
        n: every[n] if done == ALL_SLICES else done for n, done in trained.items() if n in every
    }
    if before != now:
        return OTHER_SLICES
    return OTHER_LABELS if _labels_saved_since(project, now, run) else INSPECT


def _labels_saved_since(project: "Project", names: Mapping[str, str], run: Run) -> bool:
    """Whether labels were saved after the start of a run; False if that is not known."""
    try:
        # The record stores whole seconds.
        began = datetime.fromisoformat(run.record["started"]).timestamp() + 1
        return any(project.labels_path(name).stat().st_mtime > began for name in names)
    except (KeyError, TypeError, ValueError, OSError):
        return False


def while_training(job: "Job") -> str:
    """Return what the user can do while a training is running."""
    which = "pretraining" if job.kind == "pretrain" else "training"
    step = 2 if job.kind == "pretrain" else 4
    if job.status == "stopping":
        return f"The {which} stops after this step and is saved."
    if job.status == "paused":
        return f"The {which} is paused; press Resume in step {step} to continue."
    if job.kind == "pretrain":
        return "The pretraining is running; you can label slices in step 3."
    return "The training is running; you can label more slices in step 3 for the next one."
