"""Save labels automatically: within two seconds of a change, and whenever a scan is left.

Needs no Qt: a timer of the window calls :meth:`LabelAutosaver.tick` in the main thread.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.events import Event, Message, PauseFlag, StopFlag
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.autosave.hidden_changes import report_hidden_changes
from napari_sslseg.gui.autosave.label_copy import LabelCopy
from napari_sslseg.gui.autosave.protocol import LabelScene
from napari_sslseg.gui.autosave.rescue import FOREIGN, UNSAVED, report_backups
from napari_sslseg.gui.autosave.scan_labels import ScanLabels
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session

SaveStatus = Literal["none", "saved", "saving", "failed"]

QUIET_SECONDS = 0.25
LONGEST_SECONDS = 0.7
"""Labels are saved this long after the last change, and after the first unsaved one."""

RETRY_SECONDS = 4.0
EMPTIED = (
    "No labels are left on {slices}, which is no longer done. If no structure is on it, mark it "
    "again."
)
DELETED = (
    "A layer of {name} was deleted, so the scan is no longer shown. Its labels are saved; show it "
    "again in step 1."
)
SHAPE = "the labels layer of {name} no longer has the shape of the scan; show the scan again."
EAGER_SECONDS, CALM_SECONDS = 0.005, 0.0005
"""Time for comparing slices in each tick, after an event of the layer and without one."""


class LabelAutosaver:
    """Saves the labels layer of a scene in the background, and marks slices as done.

    Attributes
    ----------
    changed : Signal
        The status, or which slices are painted or done, changed.
    held : int
        Number of callers that write label files themselves; nothing is saved while it is not 0.
    """

    changed = Signal()

    def __init__(self, session: "Session", scene: LabelScene) -> None:
        self.session, self.scene = session, scene
        self._current: ScanLabels | None = None
        self._waiting: dict[str, ScanLabels] = {}
        self._job: Job | None = None
        self._failure = ""
        self._retry_at = 0.0
        self.held = 0
        self._unsure = False
        self._strokes = self._through = False
        self._known_empty: set[int] = set()
        self._own_edit = False
        self._layer: Any = None
        self._point: Any = None
        self._announced: Any = None
        scene.changing.connect(self._leave_scan)
        scene.changed.connect(self._show)
        session.project_changed.connect(self._leave)
        session.labels_replaced.connect(self._replaced)
        session.before_closing(self.flush)

    # State

    @property
    def status(self) -> SaveStatus:
        """Whether all labels are saved; ``saving`` also while changes are possible."""
        if self._failure:
            return "failed"
        if self._current is None and not self._waiting:
            return "none"
        busy = self._unsure or self._job is not None
        return "saving" if busy or any(scan.pending for scan in self._all) else "saved"

    @property
    def _all(self) -> list[ScanLabels]:
        return [*self._waiting.values(), *([self._current] if self._current else [])]

    @property
    def sentence(self) -> str:
        """The status as a sentence."""
        scan = self._current
        fixed = scan.project.note if scan is not None and scan.project.read_only else None
        return {
            "none": "",
            "saved": fixed or "All labels are saved.",
            "saving": "Saving…",
            "failed": f"Not saved: {self._failure}",
        }[self.status]

    @property
    def painted(self) -> np.ndarray:
        """Whether each slice of the current scan has labels, along the plane."""
        if self._current is None:
            return np.zeros(0, bool)
        return self._current.copy.painted(PLANE_AXIS[self._current.project.plane])

    @property
    def done(self) -> np.ndarray:
        """Whether each slice of the current scan is done, or will be when it is saved."""
        if self._current is None:
            return np.zeros(0, bool)
        return self._current.done(len(self.painted), bool(self._failure))

    def unsaved(self, name: str) -> np.ndarray | None:
        """Labels of a scan that were not saved when it was loaded, or None."""
        waiting = self._waiting.get(name)
        return None if waiting is None else waiting.copy.snapshot()[1]

    # Requests

    def mark(self, slices: Iterable[int], done: bool = True) -> None:
        """Mark or unmark slices of the current scan as done, after their labels are saved."""
        scan = self._current
        if scan is None:
            return
        if scan.project.read_only:
            self.session.problem.emit(Problem(scan.project.note or ""))
            return
        slices = list(slices)
        scan.mark(slices, done)
        if done:
            axis, data = PLANE_AXIS[scan.project.plane], np.asarray(self._layer.data)
            self._known_empty |= {i for i in slices if not take_slices(data, i, axis).any()}
        self._update_copy(2 * EAGER_SECONDS)
        if done and not scan.project.has_labels(scan.name) and not scan.dirty:
            scan.saved = -1  # An empty slice that is done needs a label file, too.
        self._apply_marks(scan)
        self.tick()
        self._announce()

    def flush(self) -> bool:
        """Save now and wait. Returns whether all labels are saved."""
        if self._current is not None:
            self._current.copy.invalidate()
            self._update_copy(float("inf"))
        self._finish_writing()
        for scan in self._all:
            if scan.dirty and not self.held:
                self._write(scan)
                self._finish_writing()
            self._apply_marks(scan)
        self._announce()
        return self.status in ("none", "saved")

    def last_chance(self) -> None:
        """Save now; write what cannot be saved to the folder for rescued labels."""
        if not self.flush():
            for scan in self._all:
                scan.rescue(self.session)

    @contextmanager
    def own_edit(self) -> Iterator[None]:
        """Change the layer in the block without a check of done slices: the user was asked."""
        self._own_edit = True
        yield

    def erase(self, value: int) -> None:
        """Replace a label value by background in waiting labels, but not in the layer."""
        for scan in self._waiting.values():
            scan.copy.erase(value)

    def tick(self) -> None:
        """Find changes and save them when due. Call it about 25 times a second."""
        if self._current is not None and not self.scene.is_complete:
            self._leave_deleted(self._current.name)
        if self._job is not None:
            self._job.pump()
        if self._current is not None:
            self._update_copy(EAGER_SECONDS if not self._current.copy.is_complete else CALM_SECONDS)
        for scan in self._all:
            self._apply_marks(scan)
        if not any(job.kind == "load" for job in self.session.jobs):
            # A job may have loaded labels before they were saved.
            self._waiting = {n: k for n, k in self._waiting.items() if k.pending}
        now = time.monotonic()
        if self._job is None and now >= self._retry_at and not self.held:
            due = next((k for k in self._waiting.values() if k.dirty), None)
            if self._current is not None and self._is_due(self._current, now):
                due = self._current
            if due is not None:
                self._write(due)
        self._announce()

    def _leave_deleted(self, name: str) -> None:
        """Show no scan after the user has deleted a layer of it: the rest would not be saved."""
        self.session.leave()
        self.session.note.emit(DELETED.format(name=name))

    def _is_due(self, scan: ScanLabels, now: float) -> bool:
        if not scan.dirty:
            return False
        quiet = scan.copy.is_complete and (now - scan.last >= QUIET_SECONDS or bool(scan.marks))
        return quiet or scan.first is None or now - scan.first >= LONGEST_SECONDS

    # The layer

    def _leave_scan(self) -> None:
        """Stop following the layer before it gets the labels of another scan."""
        old = self._current
        if (
            old is not None
            and not old.copy.is_complete
            and self._layer.data.shape == old.copy.shape
        ):
            old.copy.update(self._layer.data, float("inf"))  # An open outline was removed.
        self._connect_layer(None)
        self._current, self._known_empty = None, set()
        if old is not None and old.pending and old.project is self.session.project:
            self._waiting[old.name] = old
        elif old is not None:
            old.rescue(self.session)

    def _show(self) -> None:
        """Follow the scene to another scan."""
        layer = self.scene.labels
        self._connect_layer(layer)
        project, volume = self.session.project, self.session.volume
        if layer is not None and project is not None and volume is not None:
            name = self.session.current
            self._current = ScanLabels(project, name, volume, LabelCopy(layer.data))
            waiting = self._waiting.pop(name, None)
            if waiting is not None:
                self._current.take_over(waiting)
        self._unsure = False
        self._announce()

    def _connect_layer(self, layer: Any) -> None:
        names = ("paint", "labels_update", "set_data", "data")
        for old, connect in ((self._layer, False), (layer, True)):
            for name in names if old is not None else ():
                emitter = getattr(old.events, name)
                slot = self._on_redraw if name == "set_data" else self._on_paint
                if connect:
                    emitter.connect(slot)
                else:
                    emitter.disconnect(slot)
        self._layer, self._point = layer, self._view()

    def _view(self) -> Any:
        dims = self.scene.viewer.dims
        return dims.point, dims.order, dims.ndisplay

    def _on_paint(self, event: Any = None) -> None:
        """Note that a stroke changed the layer."""
        if self._current is not None:
            self._current.copy.invalidate()
            self._unsure = self._strokes = True
            # In a rolled view, or in three dimensions, a stroke goes through other slices.
            self._through |= not self.scene.in_plane or self._layer.n_edit_dimensions > 2
            self._announce()

    def _on_redraw(self, event: Any = None) -> None:
        """Check for changes if the layer is drawn again without a change of the view.

        napari redraws a layer for another slice, and after undo or redo.
        """
        point, before = self._view(), self._point
        self._point = point  # First, because the rest may change the slice.
        if self._current is not None:
            self._current.copy.invalidate()
            if point == before:
                self._unsure = True
                self._update_copy(EAGER_SECONDS)
                self._announce()

    def _update_copy(self, seconds: float) -> None:
        scan, data = self._current, self._layer.data
        assert scan is not None
        if data.shape != scan.copy.shape:
            if not self._failure:
                self._fail(scan, Problem(SHAPE.format(name=scan.name)))
            return
        before = scan.copy.version
        if data.dtype != scan.copy.dtype:  # napari offers to convert layers.
            scan.copy = LabelCopy(data, before + 1)
        found = scan.copy.update(data, seconds)
        if scan.copy.version != before:
            scan.last = time.monotonic()
            scan.first = scan.last if scan.first is None else scan.first
        if found:
            self._announced = None  # The painted slices may have changed.
        if scan.copy.is_complete:
            changed = scan.copy.changed_slices(PLANE_AXIS[scan.project.plane])
            # Undo, redo or another tool may change any slice.
            anywhere = self._through or not self._strokes
            own, self._own_edit, self._unsure = self._own_edit, False, False
            self._strokes = self._through = False
            if changed and not own:
                self._check_done(changed, anywhere)

    def _check_done(self, changed: list[int], anywhere: bool) -> None:
        """Unmark done slices that were changed while hidden, or lost all their labels."""
        if anywhere:
            report_hidden_changes(
                self.session, self.scene, self.done, lambda s: self.mark(s, False), changed
            )
        done, painted = self.done, self.painted
        self._known_empty -= set(np.flatnonzero(painted).tolist())
        emptied = [
            index
            for index in changed
            if done[index] and not painted[index] and index not in self._known_empty
        ]
        if emptied:
            self.mark(emptied, False)
            self.session.note.emit(EMPTIED.format(slices=_named(emptied)))

    # The disk

    def _write(self, scan: ScanLabels) -> None:
        """Start saving. One job at a time, so that older labels never replace newer ones."""
        assert self._job is None
        if scan.name not in scan.project.names:  # The scan was removed.
            self._drop(scan)
            return
        saved: list[tuple[int, bool]] = []

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            version, labels = scan.copy.snapshot()
            saved.append((version, scan.project.labels_changed(scan.name)))
            scan.save(version, labels)
            yield Message(f"{scan.name} is saved.")

        classes, since, scan.first = scan.project.classes, scan.first, None
        job = Job("save", f"Saving {scan.name}", events)

        def ended(outcome: Outcome) -> None:
            self._job = None
            if outcome.problem is not None:
                scan.first = since or scan.first or time.monotonic()
                self._fail(scan, outcome.problem)
                return
            self._failure, (scan.saved, foreign) = "", saved[0]
            if foreign:
                self.session.note.emit(FOREIGN.format(name=scan.name))
            if scan.project is self.session.project and scan.project.classes != classes:
                self.session.classes_changed.emit()
            self._apply_marks(scan)

        job.ended.connect(ended)
        self._job = job
        job.start()

    def _finish_writing(self) -> None:
        if self._job is not None:
            self._job.wait()
            self._job.pump()

    def _fail(self, scan: ScanLabels, problem: Problem) -> None:
        first = not self._failure
        self._failure = problem.sentence + scan.backup_sentence
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if first:
            sentence = f"{UNSAVED} {problem.sentence}"
            self.session.problem.emit(Problem(sentence, problem.details, "unsaved labels"))

    def _apply_marks(self, scan: ScanLabels) -> None:
        """Mark slices whose labels are saved."""
        complete = scan is not self._current or scan.copy.is_complete
        if not scan.marks or scan.dirty or not complete or scan.project is not self.session.project:
            return
        scan.apply_marks(self.session)
        self._announced = None

    def _replaced(self, name: str) -> None:
        """Drop the waiting labels of a scan whose labels were replaced on disk."""
        if name in self._waiting:
            self._drop(self._waiting[name])
            self._announce()

    def _drop(self, scan: ScanLabels) -> None:
        """Drop labels of a scan that the project no longer has."""
        scan.discard(self.session)
        if self._waiting.get(scan.name) is scan:
            del self._waiting[scan.name]
        if not any(other.dirty for other in self._all):
            self._failure = ""

    def _leave(self) -> None:
        """Rescue unsaved labels of the project that was closed, and report older backups."""
        for name, scan in list(self._waiting.items()):
            if scan.project is not self.session.project:
                scan.rescue(self.session)
                del self._waiting[name]
        if not self._waiting and self._current is None:
            self._failure = ""
        report_backups(self.session)
        self._announce()

    def _announce(self) -> None:
        now = (self.status, self.sentence)
        if now != self._announced:
            self._announced = now
            self.changed.emit()


def _named(slices: list[int]) -> str:
    """Name slices by their numbers, such as "slice 5" or "slices 5, 6"."""
    return f"slice{'' if len(slices) == 1 else 's'} {', '.join(map(str, slices))}"
