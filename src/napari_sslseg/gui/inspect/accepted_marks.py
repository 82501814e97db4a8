"""Track which slices contain an accepted prediction, also after undo and redo. Needs no Qt."""

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.scans.volume import take_slices

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

Key = tuple[str, Plane, int]
"""Scan, plane and number of a slice."""


@dataclass
class _Trace:
    """Hashes of the labels of an accepted slice.

    Attributes
    ----------
    before : bytes or None
        Labels before the first prediction was accepted; None if that was in an earlier session.
    since : set of bytes
        Labels that contain a prediction.
    runs : tuple of str
        Runs of the predictions; set when they were undone, so that redo restores them.
    filled : bool
        Whether the slice had labels since.
    """

    before: bytes | None
    since: set[bytes] = field(default_factory=set)
    runs: tuple[str, ...] = ()
    filled: bool = False


class AcceptedMarks:
    """Records in the project which slices of the current scan contain an accepted prediction.

    Attributes
    ----------
    changed : Signal
        The record changed.
    """

    changed = Signal()

    def __init__(self, session: "Session", scene: "Scene") -> None:
        self.session, self.scene = session, scene
        self._traces: dict[Key, _Trace] = {}
        session.project_changed.connect(self._forget_all)
        session.labels_replaced.connect(self._forget_scan)
        scene.autosaver.changed.connect(self._update)

    def note(self, index: int, run: str, before: np.ndarray) -> bool:
        """Record that a prediction was accepted on a slice.

        Parameters
        ----------
        index : int
            Number of the slice in the plane of the project.
        run : str
            Run of the prediction.
        before : ndarray
            Labels of the slice before.

        Returns
        -------
        bool
            Whether it was recorded; if not, the session emits a problem.
        """
        project, name = self.session.project, self.session.current
        if project is None:
            return False
        known = index in _accepted(project, name)
        if not self.session.attempt(lambda: project.note_accepted(name, index, run)):
            return False
        key = (name, project.plane, index)
        if not known:
            self._traces[key] = _Trace(hash_labels(before))
        trace = self._traces.setdefault(key, _Trace(None))
        trace.since.add(hash_labels(self._slice(index)))
        trace.filled = False  # The prediction may be empty.
        self.changed.emit()
        return True

    def _slice(self, index: int) -> np.ndarray:
        assert self.scene.labels is not None
        data = np.asarray(self.scene.labels.data)
        return take_slices(data, index, PLANE_AXIS[self.scene.plane])

    def _update(self) -> None:
        """Compare the labels with the known hashes; removal waits until labels are saved."""
        project, name = self.session.project, self.session.current
        if project is None or shown_slice(self.scene, 0) is None:
            return
        gone = [
            (key[2], trace)
            for key, trace in self._traces.items()
            if trace.runs and key[:2] == (name, project.plane)
        ]
        back = [(index, t) for index, t in gone if hash_labels(self._slice(index)) in t.since]
        for index, trace in back:
            self._restore(project, name, index, trace)
        changed = bool(back)
        if self.scene.autosaver.status == "saved":
            for index, runs in _accepted(project, name).items():
                changed |= self._compare(project, name, index, tuple(runs))
        if changed:
            self.changed.emit()

    def _restore(self, project: "Project", name: str, index: int, trace: _Trace) -> None:
        for run in trace.runs:
            self.session.attempt(partial(project.note_accepted, name, index, run))
        trace.runs = ()

    def _compare(self, project: "Project", name: str, index: int, runs: tuple[str, ...]) -> bool:
        """Remove the record if the prediction was undone or erased; return whether it was."""
        trace = self._traces.setdefault((name, project.plane, index), _Trace(None))
        shown = self._slice(index)
        now, empty = hash_labels(shown), not shown.any()
        if now != trace.before and not (empty and trace.filled):
            trace.since.add(now)
            trace.filled |= not empty
            return False
        trace.runs = runs
        return self.session.attempt(lambda: project.forget_accepted(name, index))

    def _forget_all(self) -> None:
        """Forget all slices: the project changed."""
        self._traces.clear()

    def _forget_scan(self, name: str) -> None:
        """Forget the slices of a scan whose labels were imported."""
        for key in [key for key in self._traces if key[0] == name]:
            del self._traces[key]


def _accepted(project: "Project", name: str) -> dict[int, list[str]]:
    """Return the runs of accepted predictions by slice, in the plane of the project."""
    found: dict[int, list[str]] = {}
    for item in project.entry(name).accepted:
        if item.plane == project.plane:
            for index in item.numbers:
                found.setdefault(index, []).append(item.run)
    return found


def shown_slice(scene: "Scene", index: int) -> np.ndarray | None:
    """Labels of a slice of the current scan; None while they are not shown as they are saved."""
    project, name, labels = scene.session.project, scene.session.current, scene.labels
    if project is None or labels is None or name not in project.names:
        return None
    if labels.data.shape != project.entry(name).shape or scene.plane != project.plane:
        return None
    return take_slices(np.asarray(labels.data), index, PLANE_AXIS[scene.plane])


def hash_labels(labels: np.ndarray) -> bytes:
    """Hash of the labels of a slice."""
    return hashlib.blake2b(labels.tobytes(), digest_size=16).digest()
