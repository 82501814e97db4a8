"""Slices of a project into whose labels a prediction was accepted: no independent truth.

A score over them is too good, even after somebody looked at them and marked them as done, so that
whoever shows scores tells how many of their slices are among them.
"""

from collections.abc import Iterable

import numpy as np

from napari_sslseg.core.common.errors import ProjectError, SslsegError
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.accepted_slices import AcceptedSlices
from napari_sslseg.core.project.record import made
from napari_sslseg.core.project.scans import ProjectScans
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.slice_ranges import format_ranges
from napari_sslseg.core.scans.volume import Volume


class ProjectAccepted(ProjectScans):
    """The part of a project that knows where its labels came from a prediction."""

    def accepted(self, name: str) -> dict[str, tuple[int, ...]]:
        """Slices of a scan that took in a prediction, along the plane of the project, by run.

        Those that were accepted along another plane are crossed by every slice of this one, so
        that all are given then.
        """
        plane, count = self._record.plane, self._slices(name)
        found: dict[str, set[int]] = {}
        for item in self.entry(name).accepted:
            numbers = item.numbers if item.plane == plane else range(count)
            found.setdefault(item.run, set()).update(numbers)
        return {run: tuple(sorted(numbers)) for run, numbers in found.items()}

    def note_accepted(self, name: str, slices: int | Iterable[int], run: str) -> None:
        """Remember that a prediction was taken into the labels of a scan.

        Call it before the labels are saved, so that a crash between both tells too much rather
        than too little.

        Parameters
        ----------
        name : str
            The scan.
        slices : int or several
            Numbers along the plane of the project, from 0.
        run : str
            Name of the run whose prediction it was.
        """
        run, numbers = printable(run)[:200], self._checked(name, slices)
        with self._changing:
            plane, kept, known = self._record.plane, [], set[int]()
            for item in self.entry(name).accepted:
                if (item.plane, item.run) == (plane, run):
                    known.update(item.numbers)
                else:
                    kept.append(item)
            if numbers - known:
                new = made(
                    AcceptedSlices, plane=plane, run=run, slices=format_ranges(numbers | known)
                )
                self._change_scan(name, accepted=(*kept, new))

    def forget_accepted(self, name: str, slices: int | Iterable[int]) -> None:
        """Forget it of slices that hold nothing of a prediction any more, of whatever run.

        Parameters
        ----------
        name : str
            The scan.
        slices : int or several
            Numbers along the plane of the project, from 0.
        """
        gone = self._checked(name, slices)
        with self._changing:
            plane = self._record.plane
            kept = (
                item if item.plane != plane else without(item, gone)
                for item in self.entry(name).accepted
            )
            self._change_scan(name, accepted=tuple(item for item in kept if item is not None))

    def _not_replaced(
        self, name: str, data: np.ndarray, like: Volume
    ) -> tuple[AcceptedSlices, ...]:
        """What is still accepted if these become the labels: where they are what they were."""
        known = self.entry(name).accepted
        if not known:
            return ()
        try:
            before = load_labels(self.labels_path(name), like=like).data
        except SslsegError:  # Nobody can tell what was there; it may be what comes back now.
            return known
        kept = []
        for item in known:
            axis = PLANE_AXIS[item.plane]
            others = tuple(other for other in range(3) if other != axis)
            kept.append(without(item, np.flatnonzero((before != data).any(axis=others)).tolist()))
        return tuple(item for item in kept if item is not None)

    def _slices(self, name: str) -> int:
        """How many slices a scan has along the plane of the project."""
        return self.entry(name).shape[PLANE_AXIS[self._record.plane]]

    def _checked(self, name: str, slices: int | Iterable[int]) -> set[int]:
        count = self._slices(name)
        numbers = {int(number) for number in ([slices] if isinstance(slices, int) else slices)}
        bad = [number for number in numbers if not 0 <= number < count]
        if bad:
            raise ProjectError(
                f"{name} has no {self._record.plane} slice {bad[0]}; its slices are numbered 0 to "
                f"{count - 1}."
            )
        return numbers


def without(item: AcceptedSlices, gone: Iterable[int]) -> AcceptedSlices | None:
    """The same but for some slices; None if none is left."""
    left = format_ranges(set(item.numbers) - set(gone))
    return made(AcceptedSlices, plane=item.plane, run=item.run, slices=left) if left else None
