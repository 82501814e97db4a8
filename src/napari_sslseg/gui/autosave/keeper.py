"""Keeps what is drawn: on the disk within two seconds, and whenever a scan is left.

Needs no Qt: whoever has a clock calls :meth:`LabelKeeper.tick`, in the thread of the screen.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.events import Event, Message, PauseFlag, StopFlag
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.gui.autosave.copy import LabelCopy
from napari_sslseg.gui.autosave.hidden_changes import tell_hidden
from napari_sslseg.gui.autosave.kept import KeptLabels
from napari_sslseg.gui.autosave.rescue import FOREIGN, UNSAVED, tell_kept_aside
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

KeeperStatus = Literal["none", "saved", "saving", "failed"]

QUIET_SECONDS = 0.25
LONGEST_SECONDS = 0.7
"""After the last change, and after the first one that is not on the disk yet."""

RETRY_SECONDS = 4.0
SHAPE = "the labels layer of {name} was given another shape than the scan; show the scan again."
EAGER_SECONDS, CALM_SECONDS = 0.005, 0.0005
"""For comparing in each tick, when something may have changed and when nothing told so."""


class LabelKeeper:
    """Saves the labels layer of a scene in the background, and marks slices as done.

    Attributes
    ----------
    changed : Signal
        The status, or slices that are painted or done.
    held : int
        By how many others, who write labels themselves, nothing may be saved for a while.
    """

    changed = Signal()

    def __init__(self, session: "Session", scene: "Scene") -> None:
        self.session, self.scene = session, scene
        self._kept: KeptLabels | None = None
        self._waiting: dict[str, KeptLabels] = {}
        self._job: Job | None = None
        self._failure = ""
        self._retry_at = 0.0
        self.held = 0
        self._doubtful = False
        self._strokes = False
        self._layer: Any = None
        self._point: Any = None
        self._told: Any = None
        scene.changed.connect(self._show)
        session.project_changed.connect(self._leave)
        session.labels_replaced.connect(self._replaced)
        session.before_closing(self.flush)

    # What is known

    @property
    def status(self) -> KeeperStatus:
        """Whether all is on the disk; ``saving`` too while it is not sure that nothing changed."""
        if self._failure:
            return "failed"
        if self._kept is None and not self._waiting:
            return "none"
        busy = self._doubtful or self._job is not None
        return "saving" if busy or any(kept.pending for kept in self._all) else "saved"

    @property
    def _all(self) -> list[KeptLabels]:
        return [*self._waiting.values(), *([self._kept] if self._kept else [])]

    @property
    def sentence(self) -> str:
        """The status in words."""
        return {
            "none": "",
            "saved": "All labels are saved.",
            "saving": "Saving…",
            "failed": f"Not saved: {self._failure}",
        }[self.status]

    @property
    def painted(self) -> np.ndarray:
        """Whether each slice of the current scan has labels, along the plane."""
        if self._kept is None:
            return np.zeros(0, bool)
        return self._kept.copy.painted(PLANE_AXIS[self._kept.project.plane])

    @property
    def done(self) -> np.ndarray:
        """Whether each slice of the current scan is done, or will be once it is saved."""
        if self._kept is None:
            return np.zeros(0, bool)
        return self._kept.done(len(self.painted), bool(self._failure))

    def unsaved(self, name: str) -> np.ndarray | None:
        """Labels of a scan that were not on the disk when it was loaded."""
        kept = self._waiting.get(name)
        return None if kept is None else kept.copy.taken()[1]

    # What is asked

    def mark(self, slices: Iterable[int], done: bool = True) -> None:
        """Mark slices of the current scan as done or not, once what is on them is saved."""
        kept = self._kept
        if kept is None:
            return
        kept.mark(slices, done)
        self._follow(2 * EAGER_SECONDS)
        if done and not kept.project.has_labels(kept.name) and not kept.dirty:
            kept.saved = -1  # A slice that is done and empty needs a file that says so.
        self._apply_marks(kept)
        self.tick()
        self._tell()

    def flush(self) -> bool:
        """Save now, and wait for it; whether all is on the disk."""
        if self._kept is not None:
            self._kept.copy.doubt()
            self._follow(float("inf"))
        self._finish_writing()
        for kept in self._all:
            if kept.dirty and not self.held:
                self._write(kept)
                self._finish_writing()
            self._apply_marks(kept)
        self._tell()
        return self.status in ("none", "saved")

    def last_chance(self) -> None:
        """Save now; what cannot be saved goes to another place on this computer."""
        if not self.flush():
            for kept in self._all:
                kept.rescue(self.session)

    def erase(self, value: int) -> None:
        """Make background of a value in what waits to be saved, but not in the layer."""
        for kept in self._waiting.values():
            kept.copy.erase(value)

    def tick(self) -> None:
        """Look for changes and save them if it is time; call it some 25 times a second."""
        if self._job is not None:
            self._job.pump()
        if self._kept is not None:
            self._follow(EAGER_SECONDS if not self._kept.copy.sure else CALM_SECONDS)
        for kept in self._all:
            self._apply_marks(kept)
        if not any(job.kind == "load" for job in self.session.jobs):
            # What a job loads may have been read before it was saved.
            self._waiting = {n: k for n, k in self._waiting.items() if k.pending}
        now = time.monotonic()
        if self._job is None and now >= self._retry_at and not self.held:
            due = next((k for k in self._waiting.values() if k.dirty), None)
            if self._kept is not None and self._is_due(self._kept, now):
                due = self._kept
            if due is not None:
                self._write(due)
        self._tell()

    def _is_due(self, kept: KeptLabels, now: float) -> bool:
        if not kept.dirty:
            return False
        quiet = kept.copy.sure and (now - kept.last >= QUIET_SECONDS or bool(kept.marks))
        return quiet or kept.first is None or now - kept.first >= LONGEST_SECONDS

    # The layer

    def _show(self) -> None:
        """Another scan is shown."""
        old, layer = self._kept, self.scene.labels
        self._watch(layer)
        self._kept = None
        if old is not None and old.pending and old.project is self.session.project:
            self._waiting[old.name] = old
        elif old is not None:
            old.rescue(self.session)
        project, volume = self.session.project, self.session.volume
        if layer is not None and project is not None and volume is not None:
            name = self.session.current
            self._kept = KeptLabels(project, name, volume, LabelCopy(layer.data))
            waiting = self._waiting.pop(name, None)
            if waiting is not None:
                self._kept.go_on_from(waiting)
        self._doubtful = False
        self._tell()

    def _watch(self, layer: Any) -> None:
        names = ("paint", "labels_update", "set_data", "data")
        for old, connect in ((self._layer, False), (layer, True)):
            for name in names if old is not None else ():
                emitter = getattr(old.events, name)
                heard = self._redrawn if name == "set_data" else self._drawn
                if connect:
                    emitter.connect(heard)
                else:
                    emitter.disconnect(heard)
        self._layer, self._point = layer, self._look()

    def _look(self) -> Any:
        dims = self.scene.viewer.dims
        return dims.point, dims.order, dims.ndisplay

    def _drawn(self, event: Any = None) -> None:
        """Something was drawn."""
        if self._kept is not None:
            self._kept.copy.doubt()
            self._doubtful = self._strokes = True
            self._tell()

    def _redrawn(self, event: Any = None) -> None:
        """The layer is shown anew: for another slice, or since undo or redo changed it."""
        point, before = self._look(), self._point
        self._point = point  # First, since what follows may look at another slice.
        if self._kept is not None:
            self._kept.copy.doubt()
            if point == before:
                self._doubtful = True
                self._follow(EAGER_SECONDS)
                self._tell()

    def _follow(self, seconds: float) -> None:
        kept, data = self._kept, self._layer.data
        assert kept is not None
        if data.shape != kept.copy.shape:
            if not self._failure:
                self._fail(kept, Problem(SHAPE.format(name=kept.name)))
            return
        before = kept.copy.version
        if data.dtype != kept.copy.dtype:  # napari offers to convert layers.
            kept.copy = LabelCopy(data, before + 1)
        found = kept.copy.follow(data, seconds)
        if kept.copy.version != before:
            kept.last = time.monotonic()
            kept.first = kept.last if kept.first is None else kept.first
        if found:
            self._told = None  # The painted slices may be others.
        if kept.copy.sure:
            changed = kept.copy.differed(PLANE_AXIS[kept.project.plane])
            strokes, self._strokes, self._doubtful = self._strokes, False, False
            if changed and not strokes:  # Undo, redo or another tool, which may reach anywhere.
                tell_hidden(self.session, self.scene, self, changed)

    # The disk

    def _write(self, kept: KeptLabels) -> None:
        """Begin to save; one at a time, so that nothing older comes after something newer."""
        assert self._job is None
        if kept.name not in kept.project.names:  # Removed, so the project has no place for them.
            self._drop(kept)
            return
        copied: list[tuple[int, bool]] = []

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            version, labels = kept.copy.taken()
            copied.append((version, kept.project.labels_changed(kept.name)))
            kept.save(version, labels)
            yield Message(f"{kept.name} is saved.")

        classes, since, kept.first = kept.project.classes, kept.first, None
        job = Job("save", f"Saving {kept.name}", events)

        def ended(outcome: Outcome) -> None:
            self._job = None
            if outcome.problem is not None:
                kept.first = since or kept.first or time.monotonic()
                self._fail(kept, outcome.problem)
                return
            self._failure, (kept.saved, foreign) = "", copied[0]
            if foreign:
                self.session.note.emit(FOREIGN.format(name=kept.name))
            if kept.project is self.session.project and kept.project.classes != classes:
                self.session.classes_changed.emit()
            self._apply_marks(kept)

        job.ended.connect(ended)
        self._job = job
        job.start()

    def _finish_writing(self) -> None:
        if self._job is not None:
            self._job.wait()
            self._job.pump()

    def _fail(self, kept: KeptLabels, problem: Problem) -> None:
        first = not self._failure
        self._failure = problem.sentence + kept.where_aside
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if first:
            sentence = f"{UNSAVED} {problem.sentence}"
            self.session.problem.emit(Problem(sentence, problem.details))

    def _apply_marks(self, kept: KeptLabels) -> None:
        """Mark slices whose labels are on the disk."""
        sure = kept is not self._kept or kept.copy.sure
        if not kept.marks or kept.dirty or not sure or kept.project is not self.session.project:
            return
        kept.apply_marks(self.session)
        self._told = None

    def _replaced(self, name: str) -> None:
        """Labels of a scan that is not shown were replaced on the disk."""
        if name in self._waiting:
            self._drop(self._waiting[name])
            self._tell()

    def _drop(self, kept: KeptLabels) -> None:
        """Let go of labels that have no place in the project any more."""
        kept.let_go(self.session)
        if self._waiting.get(kept.name) is kept:
            del self._waiting[kept.name]
        if not any(other.dirty for other in self._all):
            self._failure = ""

    def _leave(self) -> None:
        """Another project, or none: what could not be saved in the old one is put elsewhere."""
        for name, kept in list(self._waiting.items()):
            if kept.project is not self.session.project:
                kept.rescue(self.session)
                del self._waiting[name]
        if not self._waiting and self._kept is None:
            self._failure = ""
        tell_kept_aside(self.session)
        self._tell()

    def _tell(self) -> None:
        now = (self.status, self.sentence)
        if now != self._told:
            self._told = now
            self.changed.emit()
