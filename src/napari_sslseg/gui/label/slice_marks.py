"""States of the slices of the current scan, and navigation between them. Needs no Qt."""

from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene
    from napari_sslseg.gui.viewer.strokes.done_check import DoneCheck

OPEN, PAINTED, DONE, EMPTY = range(4)
"""State of a slice: empty and not done; painted and not done; painted and done; empty and done."""

WORDS = ("not done", "painted, but not done", "done", "done and empty")


def numbered(index: int, count: int) -> str:
    """Name a slice by its number in the slider of napari, which starts at 0."""
    return f"Slice {index} (0 to {count - 1})"


class SliceMarks:
    """The states of the slices of a scene.

    Parameters
    ----------
    session : Session
    scene : Scene
    check : DoneCheck
        Asks the user before a slice is marked.

    Attributes
    ----------
    changed : Signal
        A state or the current slice changed.
    """

    changed = Signal()

    def __init__(self, session: "Session", scene: "Scene", check: "DoneCheck") -> None:
        self.session, self.scene, self.keeper = session, scene, scene.autosaver
        self.check = check
        for signal in (self.keeper.changed, scene.changed, session.plane_changed):
            signal.connect(self._notify)
        session.done_changed.connect(self._notify)
        scene.moved.connect(self._notify)

    def _notify(self) -> None:
        self.changed.emit()

    @property
    def states(self) -> np.ndarray:
        """State of each slice along the plane; empty without a scan."""
        painted, done = self.keeper.painted, self.keeper.done
        return np.where(
            done, np.where(painted, DONE, EMPTY), np.where(painted, PAINTED, OPEN)
        ).astype(np.uint8)

    def describe(self, index: int) -> str:
        """Describe the state of a slice."""
        states = self.states
        return f"{numbered(index, len(states))}: {WORDS[states[index]]}"

    def toggle(self) -> None:
        """Mark the current slice as done, or unmark it."""
        done, index = self.keeper.done, self.scene.slice
        project = self.session.project
        if project is not None and not project.classes:
            self.session.note.emit("Add a structure first; a slice is done when all are labelled.")
        elif len(done) and not (self.check.may_unmark() if done[index] else self.check.may_mark()):
            self._notify()  # The button shows the state again.
        elif len(done):
            self.keeper.mark([index], not done[index])

    def mark_painted(self) -> None:
        """Mark all painted slices as done."""
        self.keeper.mark(np.flatnonzero(self.states == PAINTED).tolist())

    def go_to_next(self, *wanted: int) -> None:
        """Go to the next slice in one of these states; after the last one, to the first."""
        found = np.flatnonzero(np.isin(self.states, wanted))
        here = self.scene.slice
        others = found[found != here]
        if others.size:
            after = others[others > here]
            self.scene.go_to(int(after[0] if after.size else others[0]))
        elif self.scene.labels is not None:
            no = (
                "other slice is painted but not done"
                if OPEN not in wanted
                else "other slice is not done"
            )
            self.session.note.emit(f"No {no} in this scan.")

    def next_open(self) -> None:
        """Go to the next slice that is not done."""
        self.go_to_next(OPEN, PAINTED)

    def next_painted(self) -> None:
        """Go to the next slice that is painted but not done."""
        self.go_to_next(PAINTED)

    def count(self) -> str:
        """Describe how many slices are done, in this scan and in the project."""
        project, states = self.session.project, self.states
        if project is None:
            return ""
        found = [scan for scan in project.record.scans if scan.done]
        total = sum(scan.done_count for scan in found)
        who = len({scan.subject for scan in found})
        here = int((states >= DONE).sum())
        patients = "1 patient" if who == 1 else f"{who} patients"
        return (
            f"{here} of {len(states)} slices done in this scan; {total} in the project, {patients}"
        )
