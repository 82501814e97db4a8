"""The labels of one scan that somebody draws: what of them is on the disk, and what is done.

Needs no Qt.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.gui.autosave.copy import LabelCopy
from napari_sslseg.gui.autosave.rescue import keep_aside, rescue

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.scans.volume import Volume
    from napari_sslseg.gui.model.session import Session


@dataclass
class KeptLabels:
    """The labels of one scan, and what of them is on the disk.

    Attributes
    ----------
    saved : int
        Version of the copy that is on the disk.
    first, last : float
        When the first change was noticed that is not on the disk, and the last one.
    aside : tuple of (int, Path) or None
        Version of the copy that is in another place, since its project could not take it.
    """

    project: "Project"
    name: str
    like: "Volume"
    copy: LabelCopy
    saved: int = 0
    first: float | None = None
    last: float = 0.0
    aside: tuple[int, Path] | None = None
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
        self.aside = other.aside and (-1, other.aside[1])
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

    def save(self, version: int, labels: np.ndarray) -> None:
        """Write labels to the project, or else to another place; may be called from any thread.

        Raises
        ------
        SslsegError, OSError
            If the project cannot take them.
        """
        try:
            self.project.save_labels(self.name, labels)
        except (SslsegError, OSError):
            if self.aside is None or self.aside[0] != version:
                with suppress(
                    SslsegError, OSError
                ):  # What keeps it from the project is told in any case.
                    path = keep_aside(self.project.folder, self.name, labels, self.like)
                    self.aside = version, path
            raise
        self._forget_aside()

    @property
    def where_aside(self) -> str:
        """Where the labels are instead of in the project, as the end of a sentence."""
        return "" if self.aside is None else f" A copy is in {self.aside[1]}."

    def _forget_aside(self) -> None:
        if self.aside is not None:
            with suppress(OSError):  # Then it stays, which harms nobody.
                self.aside[1].unlink(missing_ok=True)
            self.aside = None

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
            labels = self.copy.taken()[1]
            if rescue(session, self.project.folder, self.name, labels, self.like):
                self._forget_aside()
