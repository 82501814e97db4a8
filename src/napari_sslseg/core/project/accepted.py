"""Slices of a project into whose labels a prediction was accepted.

Scores on these slices are too high, also after somebody checked them and marked them as done.
Whatever shows scores therefore reports how many of their slices were accepted from a prediction.
"""

from collections.abc import Iterable

import numpy as np

from napari_sslseg.core.common.errors import ProjectError, SslsegError
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.folder import ProjectFolder
from napari_sslseg.core.project.label_files import LabelFiles
from napari_sslseg.core.project.record import AcceptedSlices, make_part
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.slices.ranges import format_ranges
from napari_sslseg.core.scans.volume import Volume

MOST_RUN_NAME = 200


class AcceptedPredictions:
    """Where the labels of a project come from a prediction.

    Parameters
    ----------
    folder : ProjectFolder
        The project.
    files : LabelFiles
        Its label files.
    """

    def __init__(self, folder: ProjectFolder, files: LabelFiles) -> None:
        self._folder = folder
        self._files = files

    def accepted(self, name: str) -> dict[str, tuple[int, ...]]:
        """Slices of a scan into which a prediction was accepted, by run.

        Slices are numbered along the plane of the project. All slices are returned for a
        prediction that was accepted along another plane, since all of them cross it.
        """
        plane, count = self._folder.record.plane, self._count_slices(name)
        found: dict[str, set[int]] = {}
        for item in self._folder.entry(name).accepted:
            numbers = item.numbers if item.plane == plane else range(count)
            found.setdefault(item.run, set()).update(numbers)
        return {run: tuple(sorted(numbers)) for run, numbers in found.items()}

    def note_accepted(self, name: str, slices: int | Iterable[int], run: str) -> None:
        """Note that a prediction was accepted into the labels of a scan.

        Call it before the labels are saved, so that a crash in between notes too many slices
        rather than too few.

        Parameters
        ----------
        name : str
            The scan.
        slices : int or several
            Numbers along the plane of the project, from 0.
        run : str
            Name of the run that made the prediction.
        """
        run, numbers = printable(run)[:MOST_RUN_NAME], self.check_slices(name, slices)
        with self._folder.changing:
            plane, kept, known = self._folder.record.plane, [], set[int]()
            for item in self._folder.entry(name).accepted:
                if (item.plane, item.run) == (plane, run):
                    known.update(item.numbers)
                else:
                    kept.append(item)
            if numbers - known:
                text = format_ranges(numbers | known)
                new = make_part(AcceptedSlices, plane=plane, run=run, slices=text)
                self._folder.change_entry(name, accepted=(*kept, new))

    def forget_accepted(self, name: str, slices: int | Iterable[int]) -> None:
        """Remove the note from slices that no longer contain anything of a prediction.

        Parameters
        ----------
        name : str
            The scan.
        slices : int or several
            Numbers along the plane of the project, from 0.
        """
        numbers = self.check_slices(name, slices)
        with self._folder.changing:
            plane = self._folder.record.plane
            kept = (
                item if item.plane != plane else _without(item, numbers)
                for item in self._folder.entry(name).accepted
            )
            accepted = tuple(item for item in kept if item is not None)
            self._folder.change_entry(name, accepted=accepted)

    def left_after(self, name: str, labels: np.ndarray, grid: Volume) -> tuple[AcceptedSlices, ...]:
        """Accepted slices that are left if these become the labels: those that stay the same."""
        known = self._folder.entry(name).accepted
        if not known:
            return ()
        try:
            before = load_labels(self._files.path(name), like=grid).data
        except SslsegError:  # Unreadable: the new labels may be the same as the old ones.
            return known
        kept = []
        for item in known:
            axis = PLANE_AXIS[item.plane]
            other_axes = tuple(other for other in range(3) if other != axis)
            differing = np.flatnonzero((before != labels).any(axis=other_axes)).tolist()
            kept.append(_without(item, differing))
        return tuple(item for item in kept if item is not None)

    def check_slices(self, name: str, slices: int | Iterable[int]) -> set[int]:
        """Numbers of slices along the plane of the project; refuses those that do not exist."""
        count = self._count_slices(name)
        numbers = {int(number) for number in ([slices] if isinstance(slices, int) else slices)}
        bad = [number for number in numbers if not 0 <= number < count]
        if bad:
            raise ProjectError(
                f"{name} has no {self._folder.record.plane} slice {bad[0]}; its slices are "
                f"numbered 0 to {count - 1}."
            )
        return numbers

    def _count_slices(self, name: str) -> int:
        return self._folder.entry(name).shape[PLANE_AXIS[self._folder.record.plane]]


def _without(item: AcceptedSlices, removed: Iterable[int]) -> AcceptedSlices | None:
    """Accepted slices without some; None if none is left."""
    left = format_ranges(set(item.numbers) - set(removed))
    return make_part(AcceptedSlices, plane=item.plane, run=item.run, slices=left) if left else None
