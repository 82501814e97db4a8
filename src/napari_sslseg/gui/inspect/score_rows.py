"""The scores of runs as rows of a table, and what they say in a sentence. Needs no Qt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.results.evaluate import summarize
from napari_sslseg.core.results.scores import VolumeScores
from napari_sslseg.core.runs.run import Run
from napari_sslseg.gui.model.predictions import run_folder
from napari_sslseg.gui.model.run_descriptions import Use, scan_uses
from napari_sslseg.gui.text import plural

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.results.slice_scores import SliceScores
    from napari_sslseg.gui.model.predictions import Predictions

ORDER: tuple[Use, ...] = ("unseen", "without labels", "validation", "same patient", "training")
HONEST = ORDER[:3]
"""What tells how a run does on patients whose labels it did not learn from."""


@dataclass(frozen=True)
class Accepted:
    """Of the scored slices of a scan, those that took in a prediction: no independent truth.

    Attributes
    ----------
    count, own : int
        How many there are, and how many took one of the run that is scored.
    runs : tuple of str
        Whose predictions.
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
        What the first run made of the scan.
    dice, hd95, other : float or None
        Of the first run; ``other`` is the Dice of the second.
    slices : int
        How many were scored.
    worst : int or None
        Slice to look at.
    stale : bool
        Whether labels or done slices were changed since.
    accepted : Accepted
        Which of the slices are no independent truth.
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
    accepted: Accepted = Accepted()
    other_use: Use | None = None
    other_stale: bool = False


@dataclass(frozen=True)
class Scored:
    """Scores of a run on one scan, and what they are worth."""

    scan: str
    use: Use
    scores: "SliceScores"
    accepted: Accepted
    stale: bool = False


@dataclass(frozen=True)
class ScoreSheet:
    """All scores of a run, beside those of another one.

    Attributes
    ----------
    rows : list of ScoreRow
        Those of scans that the training did not see come first.
    verdict : str
        What the scores of the first run are, in a few sentences.
    """

    rows: list[ScoreRow]
    verdict: str


def uses_of(project: "Project", run: str) -> dict[str, Use]:
    """What a run made of each scan; all learnt from if it does not tell, to be on the safe side."""
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
    return ScoreSheet(rows, verdict(names, mine))


def _scored(predictions: "Predictions", project: "Project", run: str) -> list[Scored]:
    found = []
    for scan in project.names:
        figures = predictions.scores(run, scan)
        if figures is not None and figures.scores is not None:
            found.append((scan, figures.scores))
    uses = uses_of(project, run) if found else {}
    return sorted(
        (
            Scored(
                scan,
                uses[scan],
                scores,
                accepted_among(project, scan, scores.slices, run),
                not predictions.is_up_to_date(run, scan),
            )
            for scan, scores in found
        ),
        key=lambda item: ORDER.index(item.use),
    )


def _rows(mine: Scored, theirs: Scored | None, names: Mapping[int, str]) -> list[ScoreRow]:
    ours = mine.scores.volume.classes
    others = theirs.scores.volume.classes if theirs is not None else {}
    rows = []
    for value in sorted({*ours, *others}):
        score, other = ours.get(value), others.get(value)
        compared = theirs if other is not None else None
        rows.append(
            ScoreRow(
                mine.scan,
                mine.use,
                names.get(value, f"class {value}"),
                None if score is None else score.dice,
                None if score is None else score.hd95_mm,
                None if other is None else other.dice,
                len(mine.scores.slices),
                mine.scores.worst,
                mine.stale,
                mine.accepted,
                compared.use if compared is not None else None,
                compared is not None and compared.stale,
            )
        )
    return rows


def verdict(names: Mapping[int, str], scored: Sequence[Scored]) -> str:
    """What the scores of a run are, over scans that it did not learn from, in a few sentences.

    Parameters
    ----------
    names : mapping of int to str
        Of the classes.
    scored : sequence of Scored
        All scores of the run.
    """
    if not scored:
        return "No scan with done slices was predicted yet, so there is no score."
    honest = [item for item in scored if item.use in HONEST]
    if not honest:
        return (
            "The training learnt from all scored patients, so these scores are too good; mark "
            "slices of another patient as done, or keep one out."
        )
    volumes = [item.scores.volume for item in honest]
    slices = sum(len(item.scores.slices) for item in honest)
    sentence = f"{_means(names, volumes)} ({plural(slices, 'slice')} of {_patients(volumes)})."
    sentence += accepted_words([item.accepted for item in honest], slices)
    unlabelled = sum(item.use == "without labels" for item in honest)
    if unlabelled:
        sentence += (
            f" The network saw {plural(unlabelled, 'scan')} of these before, without labels."
        )
    stale = sum(item.stale for item in honest)
    if stale:
        sentence += f" Labels of {plural(stale, 'scan')} were changed since (*)."
    return sentence


def accepted_words(accepted: Iterable[Accepted], slices: int) -> str:
    """How many of so many slices are no independent truth, as a sentence; empty if none is."""
    found = list(accepted)
    count, own = sum(item.count for item in found), sum(item.own for item in found)
    if not count:
        return ""
    if own in (0, count):
        which = f"a prediction of {'this' if own else 'another'} run was accepted"
    else:
        which = f"a prediction was accepted, {own} of this run"
    good = "are" if own else "may be"
    return f" On {count} of these {plural(slices, 'slice')} {which}, so the scores {good} too good."


def slices_words(slices: int, accepted: Accepted) -> str:
    """How many slices were scored, and how many of them are no independent truth."""
    words = plural(slices, "slice")
    return f"{words}, {accepted.count} accepted from a prediction" if accepted.count else words


def _means(names: Mapping[int, str], volumes: list[VolumeScores]) -> str:
    means = [
        f"{names.get(value, f'class {value}')} {summary.dice:.2f}"
        for value, summary in summarize(volumes).classes.items()
        if summary.dice is not None
    ]
    return f"Mean Dice on patients not learnt from: {', '.join(means) or 'none'}"


def _patients(volumes: list[VolumeScores]) -> str:
    count = len({volume.subject for volume in volumes})
    return plural(count, "patient") + (", a rough guide" if count < 3 else "")
