"""Predictions of the scans of a project by its fine-tuning runs, and their scores.

Label maps are cached in memory up to a limit and predicted again when needed. Scores and the mean
uncertainty of each slice are small and cached for all. Needs no Qt.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.errors import DataError, SslsegError
from napari_sslseg.core.common.events import Done, Event, PauseFlag, Progress, StopFlag, result_of
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.common.text import fold_name
from napari_sslseg.core.project.label_files import file_state
from napari_sslseg.core.project.record import LARGEST_CLASS, UNKNOWN_VALUE
from napari_sslseg.core.runs.record import RECORD
from napari_sslseg.gui.model.jobs import Job, Tally
from napari_sslseg.gui.model.session_jobs import SessionJobs

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.results.slice_scores import SliceScores

Key = tuple[str, str, str, tuple[int, int]]
"""Run, scan, hash of the values of the scan, and state of the record of the run."""

PREDICTING = "Slices predicted"
"""What the progress of a prediction counts."""

MOST_BYTES = 2**30
"""Memory limit of all cached label maps and uncertainties."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """The prediction of a scan by a run, in the display grid of the scan.

    Attributes
    ----------
    labels : ndarray, uint8
        Label values.
    uncertainty : ndarray, float16
        From 0 (certain) to 1 (all classes equally likely).
    voxel_ml : float
        Volume of a voxel in ml.
    """

    labels: np.ndarray
    uncertainty: np.ndarray
    voxel_ml: float

    def volumes(self) -> dict[int, float]:
        """Volume of each class but the background, in ml."""
        counts = np.zeros(LARGEST_CLASS + 1, np.int64)
        for part in self.labels:  # In parts, since the values are converted to 8 bytes each.
            counts += np.bincount(part.ravel(), minlength=len(counts))[: len(counts)]
        found = np.flatnonzero(counts[1:]) + 1
        return {int(value): float(counts[value] * self.voxel_ml) for value in found}

    def labels_of(self, values: Collection[int]) -> np.ndarray:
        """Label values; other values, of structures that were removed, become background."""
        return only_values(self.labels, values)

    @property
    def bytes(self) -> int:
        """Memory used by the arrays."""
        return self.labels.nbytes + self.uncertainty.nbytes


def only_values(labels: np.ndarray, values: Collection[int]) -> np.ndarray:
    """Labels of type uint8 with background in place of all values but these."""
    table = np.zeros(256, np.uint8)
    kept = list(values)
    table[kept] = kept
    return table[labels]


@dataclass(frozen=True)
class PredictionScores:
    """Scores of a prediction, which stay cached when its label map is dropped.

    Attributes
    ----------
    mean_uncertainty : ndarray
        Mean uncertainty of each slice along the plane of the project.
    scores : SliceScores or None
        Over the done slices; None if there are none.
    stamp : tuple
        Identifies the labels and done slices that were used as the reference.
    volumes : dict of int to float
        Predicted volume of each class in the whole scan, in ml.
    """

    mean_uncertainty: np.ndarray
    scores: "SliceScores | None"
    stamp: tuple[Any, ...]
    volumes: dict[int, float]


class FileHashes:
    """Hashes of files, which are read again only when their time or size changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], bytes]] = {}

    def of(self, path: Path) -> bytes:
        """Hash of the content of a file; empty if it cannot be read."""
        try:
            state = file_state(path)
            if path not in self._known or self._known[path][0] != state:
                self._known[path] = state, sha256(path.read_bytes()).digest()
        except OSError:
            return b""
        return self._known[path][1]


class Predictions:
    """Predictions by run and scan.

    Parameters
    ----------
    jobs : SessionJobs
        Runs the predictions in the background.
    current_project : callable
        Returns the open project, or None.
    most_bytes : int
        Memory limit. Above it the least recently used predictions are dropped, never the newest.

    Attributes
    ----------
    changed : Signal of (str, str)
        A prediction of this run and scan is available; both are empty if the cache was cleared.
    """

    changed = Signal(str, str)

    def __init__(
        self,
        jobs: SessionJobs,
        current_project: "Callable[[], Project | None]",
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._jobs, self._current_project, self.most_bytes = jobs, current_project, most_bytes
        self._kept: OrderedDict[Key, Predicted] = OrderedDict()
        self._scores: dict[Key, PredictionScores] = {}
        self._cleared = 0
        self._forgotten: dict[str, int] = {}
        self._hashes = FileHashes()
        jobs.job_ended.connect(self._trained)

    @property
    def project(self) -> "Project | None":
        """The open project."""
        return self._current_project()

    def get(self, run: str, scan: str) -> Predicted | None:
        """Return the prediction if it is in memory, else None."""
        key = self._key(run, scan)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def scores(self, run: str, scan: str) -> PredictionScores | None:
        """Return the scores if the scan was predicted; the labels may have changed since."""
        return self._scores.get(self._key(run, scan))

    @property
    def runs(self) -> frozenset[str]:
        """Runs that have predicted a scan."""
        return frozenset(key[0] for key in self._scores)

    def is_up_to_date(self, run: str, scan: str) -> bool:
        """Whether the scores were computed against the labels that are on disk now."""
        project, found = self.project, self.scores(run, scan)
        return (
            project is not None and found is not None and found.stamp == self._stamp(project, scan)
        )

    def _stamp(self, project: "Project", scan: str) -> tuple[Any, ...]:
        """Identify the labels and done slices of a scan, to detect changes.

        Labels that were changed and changed back are the same.
        """
        done = project.done(scan)
        return (done, project.plane, self._hashes.of(project.labels_path(scan))) if done else ()

    def _key(self, run: str, scan: str) -> Key:
        """Key of the caches.

        The names of scans and runs may be reused, the latter by a training on the command line.
        """
        project = self.project
        if project is None:
            return run, scan, "", (0, 0)
        content = project.entry(scan).content if scan in project.names else ""
        return run, scan, content, record_state(project, run)

    def _age(self, run: str) -> tuple[int, int, tuple[int, int]]:
        """What changes when the predictions of a run become invalid."""
        project = self.project
        state = (0, 0) if project is None else record_state(project, run)
        return self._cleared, self._forgotten.get(run, 0), state

    def clear(self) -> None:
        """Drop all predictions, also those that are being computed."""
        self._cleared += 1
        self._kept.clear()
        self._scores.clear()
        self.changed.emit("", "")

    def forget(self, run: str) -> None:
        """Drop the predictions of a run, for example after it was resumed."""
        self._forgotten[run] = self._forgotten.get(run, 0) + 1
        for kept in (self._kept, self._scores):
            for key in [key for key in kept if key[0] == run]:
                del kept[key]
        self.changed.emit("", "")

    def make(self, runs: Iterable[str], scans: Iterable[str]) -> Job | None:
        """Predict scans by runs, and score them on their done slices, in the background.

        Predictions that are up to date are skipped. A scan that cannot be predicted is reported,
        and the others are still predicted.
        """
        project = self.project
        if project is None:
            return None
        wanted = [
            (run, scan, self.get(run, scan))
            for run in runs
            for scan in scans
            if self.get(run, scan) is None or not self.is_up_to_date(run, scan)
        ]
        if not wanted:
            return None
        ready: list[tuple[str, str, Predicted, PredictionScores]] = []
        ages = {run: self._age(run) for run, _, _ in wanted}
        contents = {scan: self._key("", scan)[2] for _, scan, _ in wanted}
        several = len(ages) > 1

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            segmenter, loaded = None, ""
            failures: list[tuple[str, str]] = []
            begins = [0, *accumulate(_slices(project, scan) for _, scan, _ in wanted)]
            for number, (run, scan, found) in enumerate(wanted):
                before, size = begins[number], begins[number + 1] - begins[number]
                yield Progress(PREDICTING, before, begins[-1])
                try:
                    if found is None and not stop.is_set:
                        if loaded != run:
                            segmenter, loaded = open_run(project, run), run
                        for step in iter_predict_scan(project, segmenter, scan):
                            if stop.is_set:
                                break
                            if isinstance(step, Progress):
                                done = before + size * step.done // step.total
                                yield Progress(PREDICTING, done, begins[-1])
                            elif isinstance(step, Done):
                                found = step.result
                    if found is None or stop.is_set:
                        yield Done(tally(number - len(failures), failures), stopped=True)
                        return
                    stamp = self._stamp(project, scan)
                    ready.append((run, scan, found, _score(project, scan, found, stamp)))
                except SslsegError as error:
                    by = f"{scan} by {run}" if several else scan
                    failures.append((by, str(error)))
            yield Progress(PREDICTING, begins[-1], begins[-1])
            yield Done(tally(len(wanted) - len(failures), failures))

        def tally(done: int, failures: list[tuple[str, str]]) -> Tally:
            words = ("made", "prediction") if several else ("predicted", "scan")
            return Tally(words[0], done, len(wanted), tuple(failures), noun=words[1])

        def take(*_: object) -> None:
            while ready:
                run, scan, found, scores = ready.pop(0)
                if ages[run] == self._age(run) and contents[scan] == self._key("", scan)[2]:
                    self._store(run, scan, found, scores)

        job = self._jobs.run("predict", "Predicting", events, take)
        job.new_events.connect(take)
        return job

    def _store(self, run: str, scan: str, found: Predicted, scores: PredictionScores) -> None:
        if self.project is None or scan not in self.project.names:
            return
        key = self._key(run, scan)
        self._kept[key] = found
        self._kept.move_to_end(key)
        self._scores[key] = scores
        while len(self._kept) > 1 and sum(p.bytes for p in self._kept.values()) > self.most_bytes:
            self._kept.popitem(last=False)
        self.changed.emit(run, scan)

    def _trained(self, job: Job, outcome: object) -> None:
        if job.kind == "finetune" and job.folder is not None:
            self.forget(job.folder.name)


def run_folder(project: "Project", run: str) -> Path:
    """Return the folder of a run of a project."""
    return project.folder / "runs" / run


def record_state(project: "Project", run: str) -> tuple[int, int]:
    """Time and size of the record of a run, which change when it is trained again."""
    return file_state(run_folder(project, run) / RECORD) if run else (0, 0)


def open_run(project: "Project", run: str) -> Any:
    """Load the network of a run for prediction."""
    from napari_sslseg.core.results.predict import load_segmenter

    segmenter = load_segmenter(run_folder(project, run))
    values = {fold_name(name): value for value, name in project.class_names.items()}
    for value, name in segmenter.class_names.items():
        own = values.get(fold_name(name), value)
        if own != value:  # Such as a run that was copied from another project.
            raise DataError(
                f"{run} predicts {name} as the value {value}, which is {own} in this project; "
                "train again here."
            )
    return segmenter


def _slices(project: "Project", scan: str) -> int:
    """Number of slices of a scan along the plane of the project."""
    return project.entry(scan).shape[PLANE_AXIS[project.plane]]


def predict_scan(project: "Project", segmenter: Any, scan: str) -> Predicted:
    """Predict a scan of a project."""
    found: Predicted = result_of(iter_predict_scan(project, segmenter, scan))
    return found


def iter_predict_scan(project: "Project", segmenter: Any, scan: str) -> Iterator[Event]:
    """Predict a scan of a project step by step; the last event is Done with a Predicted."""
    from napari_sslseg.core.results import predict

    if max(segmenter.classes) > LARGEST_CLASS:
        raise DataError(
            f"The run predicts class {max(segmenter.classes)}, but the largest class of a project "
            f"is {LARGEST_CLASS}; use another run."
        )
    modality, needed = project.entry(scan).modality, segmenter.preprocessing.modality
    if modality != needed:
        raise DataError(
            f"{scan} is {modality}, but the run was trained on {needed}; choose a run that was "
            f"trained on {modality}."
        )
    volume = project.load(scan)
    for event in predict.iter_predict_scan(segmenter, volume, probabilities=False):
        if not isinstance(event, Done):
            yield event
            continue
        found = event.result
        labels = np.ascontiguousarray(found.labels, np.uint8)
        yield Done(Predicted(labels, found.uncertainty, volume.geometry.voxel_ml))


def _score(
    project: "Project", scan: str, found: Predicted, stamp: tuple[Any, ...]
) -> PredictionScores:
    from napari_sslseg.core.results.slice_scores import score_slices

    axis = PLANE_AXIS[project.plane]
    others = tuple(place for place in range(3) if place != axis)
    mean_uncertainty = found.uncertainty.mean(axis=others, dtype=np.float32)
    done, scores = project.done(scan), None
    if done:
        truth = project.labels(scan, seen=False)
        scores = score_slices(
            found.labels_of(project.class_names), truth.data, done,
            plane=project.plane, spacing=truth.spacing, name=scan,
            subject=project.entry(scan).subject,
            ignore=UNKNOWN_VALUE, labelled_classes=project.labelled_classes(scan),
        )  # fmt: skip
    return PredictionScores(mean_uncertainty, scores, stamp, found.volumes())
