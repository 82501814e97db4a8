"""How far the work in a project is, and in one sentence what comes next. Needs no Qt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.runs.run import Run
from napari_sslseg.gui.model.run_words import usable_runs
from napari_sslseg.gui.model.words import many

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.runs.listing import RunSummary
    from napari_sslseg.gui.model.jobs import Job

PROJECT = "Press New… to make a project, or Open to go on with one."
SCANS = "Add scans in step 1: drop files or folders there, or use its buttons."
ADDING = "Scans are being added; wait until all are there."
UNREADABLE = "No scan can be used now; see in step 1 what is wrong with each."
HELD_OUT = "All scans are held out; choose Train for those of some patients in step 1."
PRETRAIN = "Label a slice in step 3; or pretrain in step 2 first, which needs no labels."
INTERRUPTED = "{name} was interrupted; go on with it in step {step}, or start anew."
STRUCTURE = "Name in step 3 what you want to find: add a structure, such as liver."
LABEL = "Label a slice in step 3, and mark it as done."
LABEL_TRAIN = (
    "All done slices are of patients held out; label a slice of another patient in step 3."
)
SECOND = (
    "Label a slice of a second patient in step 3, so that the training can be scored; or train in "
    "step 4 without a score."
)
TRAIN = "Train in step 4 on the {slices} of {patients} that {are} done."
OTHER_SLICES = "The done slices are others than those of the last training: train again in step 4."
OTHER_LABELS = (
    "Labels were changed since the last training: mark what is done, and train again in step 4."
)
INSPECT = "See in step 5 what the network finds; correct a slice there, and mark it as done."
UNUSABLE = " ({count} cannot be used now; see in step 1.)"


@dataclass(frozen=True)
class Progress:
    """Figures of a project.

    Attributes
    ----------
    scans, training, problems : int
        All scans; those to train on; those that cannot be used now.
    done, labelled, patients : int
        Slices that are done; scans and patients that they are of, of those to train on.
    held_out_done : int
        Done slices of patients that are held out.
    pretrained, finetuned : int
        Runs with weights that can be used.
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


def progress_of(
    project: "Project | None", runs: Sequence["RunSummary"], problems: Mapping[str, str]
) -> Progress:
    """Count what there is in a project."""
    if project is None:
        return Progress()
    scans = project.record.scans
    learnt = [scan for scan in scans if scan.role == "train"]
    done = [scan for scan in learnt if scan.done]
    return Progress(
        scans=len(scans),
        training=len(learnt),
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
) -> str:
    """Say in one sentence what to do next.

    Parameters
    ----------
    project : Project or None
    runs : sequence of RunSummary
        Of the project.
    problems : mapping of str to str
        What is wrong with scans, by their names.
    jobs : sequence of Job
        What is at work.
    """
    if project is None:
        return PROJECT
    found = progress_of(project, runs, problems)
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
    sentence = _wanted(project, found, runs, problems)
    return sentence + (
        UNUSABLE.format(count=many(found.problems, "scan")) if found.problems else ""
    )


def _wanted(
    project: "Project",
    found: Progress,
    runs: Sequence["RunSummary"],
    problems: Mapping[str, str],
) -> str:
    """What to do with scans that are there."""
    if not found.training:
        return HELD_OUT
    if not found.pretrained and not found.done and not found.finetuned:
        left = _killed(runs, "pretrain")
        return INTERRUPTED.format(name=left.split("/")[0], step=2) if left else PRETRAIN
    if not project.classes:
        return STRUCTURE
    if not found.done:
        return LABEL_TRAIN if found.held_out_done else LABEL
    left = _killed(runs, "finetune")
    last = max((run.name for run in usable_runs(runs, "finetune")), default="")
    if left > last:
        return INTERRUPTED.format(name=left, step=4)
    if not last:
        if found.patients < 2:
            return SECOND
        return TRAIN.format(
            slices=many(found.done, "slice"),
            patients=many(found.patients, "patient"),
            are="is" if found.done == 1 else "are",
        )
    return _since(project, last, problems)


def _killed(runs: Sequence["RunSummary"], kind: str) -> str:
    """The newest run whose record still says that it is at work; empty if there is none."""
    return max((r.name for r in runs if r.kind == kind and r.status == "running"), default="")


def _since(project: "Project", last: str, problems: Mapping[str, str]) -> str:
    """Whether there is anything new to learn from since a training."""
    from napari_sslseg.core.runs.provenance import entries
    from napari_sslseg.core.scans.slice_ranges import ALL_SLICES, format_ranges

    try:
        run = Run.open(project.folder / "runs" / last)
        learnt = {entry.name: entry.annotated for entry in entries(run)}
    except CheckpointError:
        return INSPECT  # It does not tell what it learnt from.
    usable = [scan for scan in project.record.scans if scan.name not in problems]
    now = {scan.name: scan.done for scan in usable if scan.role == "train" and scan.done}
    axis = PLANE_AXIS[project.plane]
    every = {scan.name: format_ranges(range(scan.shape[axis])) for scan in usable}
    before = {
        n: every[n] if done == ALL_SLICES else done for n, done in learnt.items() if n in every
    }
    if before != now:
        return OTHER_SLICES
    return OTHER_LABELS if _drawn_since(project, now, run) else INSPECT


def _drawn_since(project: "Project", names: Mapping[str, str], run: Run) -> bool:
    """Whether labels were saved after a training began."""
    try:
        # Told in whole seconds.
        began = datetime.fromisoformat(run.record["started"]).timestamp() + 1
        return any(project.labels_path(name).stat().st_mtime > began for name in names)
    except (KeyError, TypeError, ValueError, OSError):
        return False  # Then nothing is claimed.


def while_training(job: "Job") -> str:
    """What can be done while a training is at work."""
    which = "pretraining" if job.kind == "pretrain" else "training"
    step = 2 if job.kind == "pretrain" else 4
    if job.status == "stopping":
        return f"The {which} stops after this step; all of it is saved."
    if job.status == "paused":
        return f"The {which} is paused; press Resume in step {step} to go on."
    if job.kind == "pretrain":
        return "The pretraining runs; label slices in step 3 meanwhile."
    return "The training runs; label more slices in step 3 meanwhile, for the next one."
