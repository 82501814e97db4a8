"""The labels of one scan that somebody draws: what of them is on the disk, and what is done.

Needs no Qt.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.geometry import Plane
from napari_sslseg.gui.label_copy import LabelCopy
from napari_sslseg.gui.label_rescue import rescue

if TYPE_CHECKING:
    from napari_sslseg.core.project import Project
    from napari_sslseg.core.volumes import Volume
    from napari_sslseg.gui.session import Session


@dataclass
class KeptLabels:
    """The labels of one scan, and what of them is on the disk.

    Attributes
    ----------
    saved : int
        Version of the copy that is on the disk.
    first, last : float
        When the first change was noticed that is not on the disk, and the last one.
    """

    project: "Project"
    name: str
    like: "Volume"
    copy: LabelCopy
    saved: int = 0
    first: float | None = None
    last: float = 0.0
    _marks: dict[int, bool] = field(default_factory=dict)
    _plane: Plane = "axial"

    @property
    def dirty(self) -> bool:
        """Whether labels are not on the disk."""
        return self.copy.version != self.saved

    @property
    def marks(self) -> dict[int, bool]:
        """Slices to be marked or unmarked once the labels are on the disk.

        Those of another plane than the project has now are forgotten: they say nothing about it.
        """
        if self._plane != self.project.plane:
            self._marks = {}
        return self._marks

    @property
    def pending(self) -> bool:
        """Whether something is not on the disk."""
        return self.dirty or bool(self.marks)

    def mark(self, slices: Iterable[int], done: bool) -> None:
        """Remember slices to be marked, along the plane of the project."""
        self._marks = self.marks | dict.fromkeys((int(index) for index in slices), done)
        self._plane = self.project.plane

    def go_on_from(self, other: "KeptLabels") -> None:
        """Take over what waited to be saved when the scan was left."""
        self.saved = -1 if other.dirty else 0
        self._marks, self._plane = other.marks, other._plane

    def done(self, count: int, failed: bool) -> np.ndarray:
        """Which of so many slices are done, or will be once they are saved; not if that failed."""
        found = np.zeros(count, bool)
        if self.name in self.project.names:
            found[list(self.project.done(self.name))] = True
            for index, done in self.marks.items():
                if not (done and failed):
                    found[index] = done
        return found

    def apply_marks(self, session: "Session") -> None:
        """Mark what waits for it."""
        plane, marks, self._marks = self._plane, self.marks, {}
        for done in (True, False):
            wanted = [index for index, value in marks.items() if value == done]
            if wanted:
                session.mark_done(self.name, wanted, done, plane)

    def let_go(self, session: "Session") -> None:
        """Leave nothing to be saved in the project, which has no place for it any more."""
        self.rescue(session)
        self.saved, self._marks = self.copy.version, {}

    def rescue(self, session: "Session") -> None:
        """Put labels that are not on the disk elsewhere on this computer."""
        if self.dirty:
            rescue(session, self.project.folder, self.name, self.copy.taken()[1], self.like)
