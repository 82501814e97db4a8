"""The scores of runs as rows of a table, and what they say in a sentence. Needs no Qt."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sslseg.core.errors import CheckpointError
from napari_sslseg.core.evaluate import summarize
from napari_sslseg.core.runs import Run
from napari_sslseg.core.scores import VolumeScores
from napari_sslseg.gui.predictions import run_folder
from napari_sslseg.gui.run_words import Use, scan_uses
from napari_sslseg.gui.words import many

if TYPE_CHECKING:
    from napari_sslseg.core.project import Project
    from napari_sslseg.gui.predictions import Predictions

ORDER: tuple[Use, ...] = ("not seen", "without labels", "kept out", "same patient", "learnt from")
HONEST = ORDER[:3]
"""What tells how a run does on patients whose labels it did not learn from."""


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one structure in one scan.

    Attributes
    ----------
    use : Use
        What the first run made of the scan.
    dice, hd95, other : float or None
        Of the first run; ``other`` is the Dice of the second.
    slices : int
        How many were scored.
    worst : int or None
        Slice to look at.
    stale : bool
        Whether labels or done slices were changed since.
    other_use, other_stale : Use or None, bool
        The same of the second run.
    """

    scan: str
    use: Use
    structure: str
    dice: float | None
    hd95: float | None
    other: float | None
    slices: int
    worst: int | None
    stale: bool
    other_use: Use | None = None
    other_stale: bool = False


def uses_of(project: "Project", run: str) -> dict[str, Use]:
    """What a run made of each scan; all learnt from if it does not tell, to be on the safe side."""
    try:
        return scan_uses(project, Run.open(run_folder(project, run)))
    except CheckpointError:
        return dict.fromkeys(project.names, "learnt from")


def score_rows(predictions: "Predictions", first: str, second: str = "") -> list[ScoreRow]:
    """Rows of all scans that were scored; those that the training did not see come first."""
    project = predictions.session.project
    if project is None or not first:
        return []
    uses, names, rows = uses_of(project, first), project.class_names, []
    other_uses = uses_of(project, second) if second else {}
    for scan in project.names:
        found = predictions.figures(first, scan)
        if found is None or found.scores is None:
            continue
        other = predictions.figures(second, scan) if second else None
        others = other.scores.volume.classes if other is not None and other.scores else {}
        mine = found.scores.volume.classes
        for value in sorted({*mine, *others}):
            score, theirs = mine.get(value), others.get(value)
            rows.append(
                ScoreRow(
                    scan,
                    uses[scan],
                    names.get(value, f"class {value}"),
                    None if score is None else score.dice,
                    None if score is None else score.hd95_mm,
                    None if theirs is None else theirs.dice,
                    len(found.scores.slices),
                    found.scores.worst,
                    not predictions.fresh(first, scan),
                    other_uses.get(scan) if theirs is not None else None,
                    theirs is not None and not predictions.fresh(second, scan),
                )
            )
    return sorted(rows, key=lambda row: ORDER.index(row.use))


def verdict(predictions: "Predictions", run: str) -> str:
    """What the scores of a run are, over scans that it did not learn from, in a sentence."""
    project = predictions.session.project
    if project is None or not run:
        return ""
    uses, volumes, slices = uses_of(project, run), [], 0
    scored = stale = unlabelled = 0
    for scan in project.names:
        found = predictions.figures(run, scan)
        if found is None or found.scores is None:
            continue
        scored += 1
        if uses[scan] in HONEST:
            volumes.append(found.scores.volume)
            slices += len(found.scores.slices)
            stale += not predictions.fresh(run, scan)
            unlabelled += uses[scan] == "without labels"
    if not scored:
        return "No scan with done slices was predicted yet, so there is no score."
    if not volumes:
        return (
            "The training learnt from all scored patients, so these scores are too good; mark "
            "slices of another patient as done, or keep one out."
        )
    sentence = f"{_means(project, volumes)} ({many(slices, 'slice')} of {_patients(volumes)})."
    if unlabelled:
        sentence += f" The pretraining saw {many(unlabelled, 'scan')} of these, without labels."
    if stale:
        sentence += f" Labels of {many(stale, 'scan')} were changed since (*)."
    return sentence


def _means(project: "Project", volumes: list[VolumeScores]) -> str:
    names = project.class_names
    means = [
        f"{names.get(value, f'class {value}')} {summary.dice:.2f}"
        for value, summary in summarize(volumes).classes.items()
        if summary.dice is not None
    ]
    return f"Mean Dice on patients not learnt from: {', '.join(means) or 'none'}"


def _patients(volumes: list[VolumeScores]) -> str:
    count = len({volume.subject for volume in volumes})
    return many(count, "patient") + (", a rough guide" if count < 3 else "")
