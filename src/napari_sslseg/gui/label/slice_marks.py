"""Which slices of the current scan are done, and the way from one to the next. Needs no Qt."""

from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

OPEN, PAINTED, DONE, EMPTY = range(4)
"""State of a slice: nothing on it; painted but not done; done; done with nothing on it."""

WORDS = ("not done", "painted, but not done", "done", "done and empty")


def numbered(index: int, count: int) -> str:
    """Name a slice by the number that the slider of napari shows, which counts from 0."""
    return f"Slice {index} (0 to {count - 1})"


class SliceMarks:
    """The states of the slices of a scene.

    Attributes
    ----------
    changed : Signal
        A state, or which slice is looked at.
    """

    changed = Signal()

    def __init__(self, session: "Session", scene: "Scene") -> None:
        self.session, self.scene, self.keeper = session, scene, scene.autosaver
        for signal in (self.keeper.changed, scene.changed, session.plane_changed):
            signal.connect(self._tell)
        session.done_changed.connect(self._tell)
        scene.moved.connect(self._tell)

    def _tell(self) -> None:
        self.changed.emit()

    @property
    def states(self) -> np.ndarray:
        """State of each slice along the plane; empty without a scan."""
        painted, done = self.keeper.painted, self.keeper.done
        return np.where(
            done, np.where(painted, DONE, EMPTY), np.where(painted, PAINTED, OPEN)
        ).astype(np.uint8)

    def describe(self, index: int) -> str:
        """Say what a slice is."""
        states = self.states
        return f"{numbered(index, len(states))}: {WORDS[states[index]]}"

    def toggle(self) -> None:
        """Mark the slice that is looked at as done, or unmark it."""
        done, index = self.keeper.done, self.scene.slice
        project = self.session.project
        if project is not None and not project.classes:
            self.session.note.emit("Add a structure first; a slice is done when all are labelled.")
        elif len(done):
            self.keeper.mark([index], not done[index])

    def mark_painted(self) -> None:
        """Mark all slices as done that are painted."""
        self.keeper.mark(np.flatnonzero(self.states == PAINTED).tolist())

    def go_on(self, *wanted: int) -> None:
        """Go to the next slice in one of these states, and from the last one back to the first."""
        found = np.flatnonzero(np.isin(self.states, wanted))
        here = self.scene.slice
        others = found[found != here]
        if others.size:
            after = others[others > here]
            self.scene.go_to(int(after[0] if after.size else others[0]))
        elif self.scene.labels is not None:
            no = (
                "more slice is painted but not done"
                if OPEN not in wanted
                else "other slice is open"
            )
            self.session.note.emit(f"No {no} in this scan.")

    def next_open(self) -> None:
        """Go to the next slice that is not done."""
        self.go_on(OPEN, PAINTED)

    def next_painted(self) -> None:
        """Go to the next slice that is painted, but not used since it is not done."""
        self.go_on(PAINTED)

    def count(self) -> str:
        """Say how many slices are done, here and in the project."""
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
