"""The labels of one scan during editing: which version is saved, and which slices to mark.

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
from napari_sslseg.gui.autosave.label_copy import LabelCopy
from napari_sslseg.gui.autosave.rescue import rescue_labels, write_backup

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.scans.volume import Volume
    from napari_sslseg.gui.model.session import Session


@dataclass
class ScanLabels:
    """The labels of one scan, with their saved version and slices that wait to be marked.

    Attributes
    ----------
    saved : int
        Version of the copy that is on disk.
    first, last : float
        Time of the first unsaved change, and of the last change.
    backup : tuple of (int, Path) or None
        Version and file of a backup outside the project, written when saving failed.
    """

    project: "Project"
    name: str
    like: "Volume"
    copy: LabelCopy
    saved: int = 0
    first: float | None = None
    last: float = 0.0
    backup: tuple[int, Path] | None = None
    _marks: dict[int, bool] = field(default_factory=dict)
    _plane: Plane = "axial"

    @property
    def dirty(self) -> bool:
        """Whether there are unsaved labels."""
        return self.copy.version != self.saved

    @property
    def marks(self) -> dict[int, bool]:
        """Slices to mark or unmark when the labels are saved.

        Slices along another plane than that of the project are no longer valid and are dropped.
        """
        if self._plane != self.project.plane:
            self._marks = {}
        return self._marks

    @property
    def pending(self) -> bool:
        """Whether there are unsaved labels or marks."""
        return self.dirty or bool(self.marks)

    def mark(self, slices: Iterable[int], done: bool) -> None:
        """Add slices to mark or unmark, along the plane of the project."""
        self._marks = self.marks | dict.fromkeys((int(index) for index in slices), done)
        self._plane = self.project.plane

    def take_over(self, other: "ScanLabels") -> None:
        """Take over unsaved labels and marks from an earlier object for the same scan."""
        self.saved = -1 if other.dirty else 0
        self.backup = other.backup and (-1, other.backup[1])
        self._marks, self._plane = other.marks, other._plane

    def done(self, count: int, failed: bool) -> np.ndarray:
        """Whether each of ``count`` slices is done, or will be when saved, unless saving failed."""
        found = np.zeros(count, bool)
        if self.name in self.project.names:
            found[list(self.project.done(self.name))] = True
            for index, done in self.marks.items():
                if not (done and failed):
                    found[index] = done
        return found

    def save(self, version: int, labels: np.ndarray) -> None:
        """Write labels to the project, or else to a backup. Safe to call from any thread.

        Raises
        ------
        SslsegError, OSError
            If they cannot be written to the project.
        """
        try:
            self.project.save_labels(self.name, labels)
        except (SslsegError, OSError):
            if self.backup is None or self.backup[0] != version:
                with suppress(SslsegError, OSError):  # The first error is reported anyway.
                    earlier = self.backup and self.backup[1]
                    path = write_backup(self.project.folder, self.name, labels, self.like, earlier)
                    self.backup = version, path
            raise
        self._remove_backup()

    @property
    def backup_sentence(self) -> str:
        """A sentence that names the backup; empty if there is none."""
        return "" if self.backup is None else f" A copy is in {self.backup[1]}."

    def _remove_backup(self) -> None:
        if self.backup is not None:
            with suppress(OSError):  # A backup that stays does no harm.
                self.backup[1].unlink(missing_ok=True)
            self.backup = None

    def apply_marks(self, session: "Session") -> None:
        """Mark and unmark the waiting slices in the project."""
        plane, marks, self._marks = self._plane, self.marks, {}
        for done in (True, False):
            wanted = [index for index, value in marks.items() if value == done]
            if wanted:
                session.mark_done(self.name, wanted, done, plane)

    def discard(self, session: "Session") -> None:
        """Stop saving to the project, which no longer has the scan; rescue unsaved labels."""
        self.rescue(session)
        self.saved, self._marks = self.copy.version, {}

    def rescue(self, session: "Session") -> None:
        """Write unsaved labels to the folder for rescued labels."""
        if self.dirty:
            labels = self.copy.snapshot()[1]
            if rescue_labels(session, self.project.folder, self.name, labels, self.like):
                self._remove_backup()
