"""Predictions of the scans of a project by its fine-tuning runs, and their scores.

Label maps are kept in memory up to a bound, and made anew where they are needed again; scores and
the mean uncertainty of slices are small and kept for all. Needs no Qt.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.errors import DataError, SslsegError
from napari_sslseg.core.common.events import Done, Event, Message, PauseFlag, Progress, StopFlag
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.project.record import LARGEST_CLASS

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.results.slice_scores import SliceScores
    from napari_sslseg.gui.model.jobs import Job
    from napari_sslseg.gui.model.session_base import SessionBase

Key = tuple[str, str, str]
"""Run, scan, and the hash of its values."""

MOST_BYTES = 2**30
"""Of all label maps and uncertainties that are kept."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a run says about a scan, in its display grid.

    Attributes
    ----------
    labels : ndarray, uint8
        Label values.
    uncertainty : ndarray, float16
        0 sure, 1 no idea.
    """

    labels: np.ndarray
    uncertainty: np.ndarray

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.labels.nbytes + self.uncertainty.nbytes


@dataclass(frozen=True)
class Figures:
    """What is kept of a prediction for good.

    Attributes
    ----------
    doubt : ndarray
        Mean uncertainty of each slice along the plane of the project.
    scores : SliceScores or None
        Over the done slices; None if there was none.
    stamp : tuple
        Of the labels and done slices that it was scored against.
    """

    doubt: np.ndarray
    scores: "SliceScores | None"
    stamp: tuple[Any, ...]


class Predictions:
    """Predictions by run and scan.

    Parameters
    ----------
    session : Session
        Whose project they are of.
    most_bytes : int
        Above it those that were not looked at for longest are dropped; the newest never is.

    Attributes
    ----------
    changed : Signal of (str, str)
        There is something new of this run and scan; both empty if all is gone.
    """

    changed = Signal(str, str)

    def __init__(self, session: "SessionBase", most_bytes: int = MOST_BYTES) -> None:
        self.session, self.most_bytes = session, most_bytes
        self._kept: OrderedDict[Key, Predicted] = OrderedDict()
        self._figures: dict[Key, Figures] = {}
        self._cleared = 0
        self._forgotten: dict[str, int] = {}
        session.project_changed.connect(self.clear)
        session.plane_changed.connect(self.clear)
        session.ended.connect(self._trained)

    def get(self, run: str, scan: str) -> Predicted | None:
        """The prediction, if it is in memory."""
        key = self._key(run, scan)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def figures(self, run: str, scan: str) -> Figures | None:
        """Its figures, if the scan was predicted; scores may be of earlier labels."""
        return self._figures.get(self._key(run, scan))

    def fresh(self, run: str, scan: str) -> bool:
        """Whether the figures are of the labels as they are on disk."""
        project, found = self.session.project, self.figures(run, scan)
        return project is not None and found is not None and found.stamp == _stamp(project, scan)

    def _key(self, run: str, scan: str) -> Key:
        """By the values of a scan, too: another one may be given its name."""
        project = self.session.project
        known = project is not None and scan in project.names
        return run, scan, project.entry(scan).content if project is not None and known else ""

    def _age(self, run: str) -> tuple[int, int]:
        """Changes when what is being predicted by a run is not wanted any more."""
        return self._cleared, self._forgotten.get(run, 0)

    def clear(self) -> None:
        """Forget all, also what is being predicted."""
        self._cleared += 1
        self._kept.clear()
        self._figures.clear()
        self.changed.emit("", "")

    def forget(self, run: str) -> None:
        """Forget what a run said, such as when it has learnt more."""
        self._forgotten[run] = self._forgotten.get(run, 0) + 1
        for kept in (self._kept, self._figures):
            for key in [key for key in kept if key[0] == run]:
                del kept[key]
        self.changed.emit("", "")

    def make(self, runs: Iterable[str], scans: Iterable[str]) -> "Job | None":
        """Predict scans by runs, and score them on their done slices, in the background.

        What is there already is not made again. A scan that cannot be predicted is told, and does
        not keep the others waiting.
        """
        project = self.session.project
        if project is None:
            return None
        wanted = [
            (run, scan, self.get(run, scan))
            for run in runs
            for scan in scans
            if self.get(run, scan) is None or not self.fresh(run, scan)
        ]
        if not wanted:
            return None
        ready: list[tuple[str, str, Predicted, Figures]] = []
        ages = {run: self._age(run) for run, _, _ in wanted}
        contents = {scan: self._key("", scan) for _, scan, _ in wanted}

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            segmenter, of = None, ""
            for number, (run, scan, found) in enumerate(wanted):
                if stop.is_set:
                    yield Done(None, stopped=True)
                    return
                yield Progress("Predicting", number, len(wanted))
                try:
                    if found is None:
                        if of != run:
                            segmenter, of = open_run(project, run), run
                        found = predict_scan(project, segmenter, scan)
                    ready.append((run, scan, found, _figures(project, scan, found)))
                except SslsegError as error:
                    yield Message(str(error))
            yield Progress("Predicting", len(wanted), len(wanted))
            yield Done(None)

        def take(*_: object) -> None:
            while ready:
                run, scan, found, figures = ready.pop(0)
                if ages[run] == self._age(run) and contents[scan] == self._key("", scan):
                    self._take(run, scan, found, figures)

        def told(events: list[Event]) -> None:
            take()
            for event in events:
                if isinstance(event, Message):
                    self.session.note.emit(event.text)

        job = self.session.run("predict", "Predicting", events, take)
        job.told.connect(told)
        return job

    def _take(self, run: str, scan: str, found: Predicted, figures: Figures) -> None:
        if self.session.project is None or scan not in self.session.project.names:
            return
        key = self._key(run, scan)
        self._kept[key] = found
        self._kept.move_to_end(key)
        self._figures[key] = figures
        while len(self._kept) > 1 and sum(p.bytes for p in self._kept.values()) > self.most_bytes:
            self._kept.popitem(last=False)
        self.changed.emit(run, scan)

    def _trained(self, job: "Job", outcome: object) -> None:
        if job.kind == "finetune" and job.folder is not None:
            self.forget(job.folder.name)


def run_folder(project: "Project", run: str) -> Path:
    """Folder of a run by its name."""
    return project.folder / "runs" / run


def open_run(project: "Project", run: str) -> Any:
    """The network of a run, to predict with."""
    from napari_sslseg.core.results.predict import load_segmenter

    return load_segmenter(run_folder(project, run))


def predict_scan(project: "Project", segmenter: Any, scan: str) -> Predicted:
    """Predict a scan of a project."""
    from napari_sslseg.core.results.predict import predict

    if max(segmenter.classes) > LARGEST_CLASS:
        raise DataError(
            f"The run knows a class {max(segmenter.classes)}, but those of a project go up to "
            f"{LARGEST_CLASS}; use another run."
        )
    found = predict(segmenter, project.load(scan), probabilities=False)
    return Predicted(
        np.ascontiguousarray(found.labels, np.uint8), found.uncertainty.astype(np.float16)
    )


def _figures(project: "Project", scan: str, found: Predicted) -> Figures:
    from napari_sslseg.core.results.slice_scores import score_slices

    axis = PLANE_AXIS[project.plane]
    others = tuple(place for place in range(3) if place != axis)
    doubt = found.uncertainty.mean(axis=others, dtype=np.float32)
    stamp, done, scores = _stamp(project, scan), project.done(scan), None
    if done:
        truth = project.labels(scan)
        scores = score_slices(
            found.labels, truth.data, done, plane=project.plane, spacing=truth.spacing,
            name=scan, subject=project.entry(scan).subject,
        )  # fmt: skip
    return Figures(doubt, scores, stamp)


def _stamp(project: "Project", scan: str) -> tuple[Any, ...]:
    """What tells whether labels or done slices of a scan were changed."""
    if not project.done(scan):
        return ()
    try:
        stat = project.labels_path(scan).stat()
    except OSError:
        return (project.done(scan),)
    return (project.done(scan), stat.st_size, stat.st_mtime_ns)
