"""Scores of runs as rows of a table, and a summary in sentences. Needs no Qt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.project.record import UNKNOWN_VALUE
from napari_sslseg.core.results.evaluate import summarize
from napari_sslseg.core.results.scores import VolumeScores
from napari_sslseg.core.runs.lineage import Use
from napari_sslseg.core.runs.run import Run
from napari_sslseg.gui.model.predictions import run_folder
from napari_sslseg.gui.model.run_descriptions import scan_uses
from napari_sslseg.gui.text import plural

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.results.slice_scores import SliceScores
    from napari_sslseg.gui.model.predictions import Predictions

ORDER: tuple[Use, ...] = ("unseen", "without labels", "validation", "same patient", "training")
NOTHING = "nothing found"
UNBIASED = ORDER[:3]
"""Uses whose scores are not inflated by training on the labels of the patient."""


@dataclass(frozen=True)
class Accepted:
    """Scored slices of a scan with an accepted prediction: no independent ground truth.

    Attributes
    ----------
    count, own : int
        Number of these slices, and of those with a prediction of the scored run.
    runs : tuple of str
        Runs of the predictions.
    """

    count: int = 0
    own: int = 0
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one structure in one scan.

    Attributes
    ----------
    use : Use
        How the first run used the scan.
    dice, hd95, other : float or None
        Scores of the first run; ``other`` is the Dice of the second.
    slices : int
        Number of scored slices.
    worst : int or None
        Slice with the lowest score; without done slices, the one with the highest uncertainty.
    stale : bool
        Whether labels or done slices changed since.
    accepted : Accepted
        Slices that are no independent ground truth.
    other_use, other_stale : Use or None, bool
        The same of the second run.
    ml : float or None
        Volume of the structure in the prediction of the whole scan, in ml.
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
    accepted: Accepted = Accepted()
    other_use: Use | None = None
    other_stale: bool = False
    ml: float | None = None


@dataclass(frozen=True)
class Scored:
    """Scores of a run on one scan, with the use of the scan and accepted slices.

    Attributes
    ----------
    volumes : mapping of int to float
        Volume of each class in the prediction, in ml.
    """

    scan: str
    use: Use
    scores: "SliceScores"
    accepted: Accepted
    stale: bool = False
    volumes: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreSheet:
    """All scores of a run, next to those of another run.

    Attributes
    ----------
    rows : list of ScoreRow
        Scans that were not used for training come first.
    verdict : str
        Summary of the scores of the first run, or of both, in a few sentences.
    """

    rows: list[ScoreRow]
    verdict: str


def uses_of(project: "Project", run: str) -> dict[str, Use]:
    """Return how a run used each scan; "training" for all if unknown, to be safe."""
    try:
        return scan_uses(project, Run.open(run_folder(project, run)))
    except CheckpointError:
        return dict.fromkeys(project.names, "training")


def accepted_among(project: "Project", scan: str, slices: Iterable[int], run: str) -> Accepted:
    """Which of some slices took in a prediction; ``run`` is the one that is scored."""
    wanted = set(slices)
    found = {of: wanted.intersection(numbers) for of, numbers in project.accepted(scan).items()}
    runs = tuple(sorted(of for of, numbers in found.items() if numbers))
    return Accepted(len(set().union(*found.values())), len(found.get(run, ())), runs)


def score_sheet(predictions: "Predictions", first: str, second: str = "") -> ScoreSheet:
    """Scores of all scans that were scored; records of runs are read once for it."""
    project = predictions.project
    if project is None or not first:
        return ScoreSheet([], "")
    mine = _scored(predictions, project, first)
    others = {item.scan: item for item in _scored(predictions, project, second)} if second else {}
    names = project.class_names
    rows = [row for item in mine for row in _rows(item, others.get(item.scan), names)]
    rows += _unscored(predictions, project, first)
    words = verdict(names, mine, _to_predict(predictions, project, first, mine))
    words += _removed_words(predictions, project, first)
    if second:
        scored = list(others.values())
        theirs = verdict(names, scored, _to_predict(predictions, project, second, scored))
        theirs += _removed_words(predictions, project, second)
        words = f"A: {words}\nB: {theirs}"
    return ScoreSheet(rows, words)


def _removed_words(predictions: "Predictions", project: "Project", run: str) -> str:
    """Say which structures a run predicts that were removed from the project; empty if none."""
    found: set[int] = set()
    for scan in project.names:
        figures = predictions.scores(run, scan)
        found |= set(figures.volumes) if figures is not None else set()
    return removed_words(project, run, found)


def removed_words(project: "Project", run: str, predicted: Iterable[int]) -> str:
    """Say which of the predicted structures were removed from the project; empty if none."""
    removed = sorted({*predicted} - {*project.class_names, UNKNOWN_VALUE})
    if not removed:
        return ""
    names = {item.value: item.name for item in project.record.removed_classes}
    listed = join_names([names.get(value, f"class {value}") for value in removed], 6)
    was, it = ("was", "it is") if len(removed) == 1 else ("were", "they are")
    return f" {run} still predicts {listed}, which {was} removed from the project; {it} left out."


def _scored(predictions: "Predictions", project: "Project", run: str) -> list[Scored]:
    found = []
    for scan in project.names:
        figures = predictions.scores(run, scan)
        if figures is not None and figures.scores is not None:
            found.append((scan, figures.scores, figures.volumes))
    uses = uses_of(project, run) if found else {}
    return sorted(
        (
            Scored(
                scan,
                uses[scan],
                scores,
                accepted_among(project, scan, scores.slices, run),
                not predictions.is_up_to_date(run, scan),
                volumes,
            )
            for scan, scores, volumes in found
        ),
        key=lambda item: ORDER.index(item.use),
    )


def _rows(mine: Scored, theirs: Scored | None, names: Mapping[int, str]) -> list[ScoreRow]:
    ours = mine.scores.volume.classes
    others = theirs.scores.volume.classes if theirs is not None else {}
    rows = []
    for value in sorted({*ours, *others} & names.keys()) or [0]:
        score, other = ours.get(value), others.get(value)
        compared = theirs if other is not None else None
        rows.append(
            ScoreRow(
                mine.scan,
                mine.use,
                names[value] if value else NOTHING,
                None if score is None else score.dice,
                None if score is None else score.hd95_mm,
                None if other is None else other.dice,
                len(mine.scores.slices),
                mine.scores.worst,
                mine.stale,
                mine.accepted,
                compared.use if compared is not None else None,
                compared is not None and compared.stale,
                mine.volumes.get(value, 0.0),
            )
        )
    return rows


def _unscored(predictions: "Predictions", project: "Project", run: str) -> list[ScoreRow]:
    """Rows of predicted scans without done slices: volumes, and the most uncertain slice."""
    rows, uses = [], None
    for scan in project.names:
        figures = predictions.scores(run, scan)
        if figures is None or figures.scores is not None:
            continue
        uses = uses or uses_of(project, run)
        worst = int(np.argmax(figures.mean_uncertainty))
        names = project.class_names
        volumes = {value: ml for value, ml in figures.volumes.items() if value in names}
        for value, ml in volumes.items() or ((0, 0.0),):
            name = names[value] if value else NOTHING
            rows.append(ScoreRow(scan, uses[scan], name, None, None, None, 0, worst, False, ml=ml))
    return rows


def _to_predict(
    predictions: "Predictions", project: "Project", run: str, scored: Sequence[Scored]
) -> list[str]:
    """Scans that would give an unbiased score: done slices, no training label, not predicted."""
    if not scored or any(item.use in UNBIASED for item in scored):
        return []
    uses = uses_of(project, run)
    return [
        entry.name
        for entry in project.record.scans
        if entry.done_count
        and uses[entry.name] in UNBIASED
        and predictions.scores(run, entry.name) is None
    ]


def verdict(
    names: Mapping[int, str], scored: Sequence[Scored], to_predict: Sequence[str] = ()
) -> str:
    """Summarise the scores of a run over scans that it was not trained on, in a few sentences.

    Parameters
    ----------
    names : mapping of int to str
        Names of the classes.
    scored : sequence of Scored
        All scores of the run.
    to_predict : sequence of str
        Scans that would give an unbiased score if they were predicted.
    """
    if not scored:
        return "No scan with done slices is predicted yet, so there is no score."
    unbiased = [item for item in scored if item.use in UNBIASED]
    if not unbiased and to_predict:
        return (
            "All scored patients were used for training, so these scores are too high; predict "
            f"{join_names(to_predict, 3)}, not used for training, for a fair score."
        )
    if not unbiased:
        return (
            "All scored patients were used for training, so these scores are too high; mark "
            "slices of another patient as done, or hold one out."
        )
    volumes = [item.scores.volume for item in unbiased]
    slices = sum(len(item.scores.slices) for item in unbiased)
    sentence = f"{_means(names, volumes)} ({plural(slices, 'slice')} of {_patients(volumes)})."
    sentence += accepted_words([item.accepted for item in unbiased], slices)
    unlabelled = sum(item.use == "without labels" for item in unbiased)
    if unlabelled:
        sentence += f" Training used {plural(unlabelled, 'scan')} of these without labels."
    stale = sum(item.stale for item in unbiased)
    if stale:
        sentence += f" Labels of {plural(stale, 'scan')} changed since (*)."
    return sentence


def accepted_words(accepted: Iterable[Accepted], slices: int) -> str:
    """Say on how many slices a prediction was accepted; empty if on none."""
    found = list(accepted)
    count, own = sum(item.count for item in found), sum(item.own for item in found)
    if not count:
        return ""
    if own in (0, count):
        which = f"a prediction of {'this' if own else 'another'} run was accepted"
    else:
        which = f"a prediction was accepted, {own} of this run"
    verb = "are" if own else "may be"
    where = "On this slice" if slices == 1 else f"On {count} of these {slices} slices"
    return f" {where} {which}, so the scores {verb} too high."


def slices_words(slices: int, accepted: Accepted) -> str:
    """Say how many slices were scored, and on how many a prediction was accepted."""
    words = plural(slices, "slice")
    return f"{words}, {accepted.count} accepted from a prediction" if accepted.count else words


def _means(names: Mapping[int, str], volumes: list[VolumeScores]) -> str:
    means = [
        f"{names[value]} {summary.dice:.2f}"
        for value, summary in summarize(volumes).classes.items()
        if summary.dice is not None and value in names
    ]
    return f"Mean Dice on patients not used for training: {', '.join(means) or 'none'}"


def _patients(volumes: list[VolumeScores]) -> str:
    count = len({volume.subject for volume in volumes})
    return plural(count, "patient") + (", a rough guide" if count < 3 else "")
