"""Labels of the scans of a project, and which of their slices are done."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from napari_sslseg.core.common.errors import GeometryError, ProjectError
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.accepted import ProjectAccepted
from napari_sslseg.core.project.names import folded
from napari_sslseg.core.project.record import (
    LARGEST_CLASS,
    ProjectClass,
    ProjectRecord,
    changed,
    made,
)
from napari_sslseg.core.scans.labels import load_labels, read_segment_names, save_labels
from napari_sslseg.core.scans.slice_ranges import format_ranges
from napari_sslseg.core.scans.volume import Volume

DoneSlices = Literal["all", "with labels", "none"]
"""Which slices of imported labels are done."""

COLOURS = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#bcf60c",
    "#fabebe", "#008080", "#e6beff", "#9a6324", "#fffac8", "#800000", "#aaffc3", "#808000",
    "#ffd8b1", "#000075", "#ffe119", "#808080",
)  # fmt: skip
"""Colours of classes that nobody chose one for, by their values; told apart on grey."""


class ProjectLabels(ProjectAccepted):
    """The part of a project that knows labels."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self._label_times: dict[str, tuple[int, int]] = {}

    @property
    def plane(self) -> Plane:
        """The plane along which slices are cut, labelled and done."""
        return self._record.plane

    def set_plane(self, plane: Plane, *, unmark: bool = False) -> None:
        """Choose the plane along which slices are labelled.

        A slice that is done along one plane says nothing about those that cross it, so done slices
        are not carried over. Labels stay as they are in any case.

        Parameters
        ----------
        plane : {"axial", "coronal", "sagittal"}
            The plane. Networks of volumes are trained on axial slices that are done.
        unmark : bool
            Whether to unmark all slices that are done along the other plane; else, if there are
            any, the change is refused.
        """
        if plane not in get_args(Plane):
            raise ProjectError(f"There is no plane {plane!r}; choose {_or(get_args(Plane))}.")

        def change(record: ProjectRecord) -> ProjectRecord:
            if record.plane == plane:
                return record
            marked = [scan for scan in record.scans if scan.done]
            if marked and not unmark:
                total = sum(len(scan.done_slices) for scan in marked)
                raise ProjectError(
                    f"{total} {record.plane} slices of {len(marked)} scans are done, such as of "
                    f"{marked[0].name}, and say nothing about {plane} ones; stay with "
                    f"{record.plane}, or unmark them all (the labels stay)."
                )
            scans = tuple(changed(scan, done="") if scan.done else scan for scan in record.scans)
            return changed(record, plane=plane, scans=scans)

        self.change(change)

    def has_labels(self, name: str) -> bool:
        """Whether labels of a scan were ever saved."""
        return self.labels_path(name).is_file()

    def labels_changed(self, name: str) -> bool:
        """Whether another program wrote labels of a scan since they were read or saved here."""
        known = self._label_times.get(name)
        return known is not None and known != _times(self.labels_path(name))

    def labels(self, name: str) -> Volume:
        """Labels of a scan in its display grid, uint8; zeros where none were saved.

        Raises
        ------
        SslsegError
            If the scan cannot be used, or its label file is damaged or lies on another grid.
        """
        grid = self._empty(name)
        path = self.labels_path(name)
        problem = self._labels_problem(name)
        if problem is not None:
            raise ProjectError(problem)
        times = _times(path)
        if not path.is_file():
            data = np.zeros(grid.geometry.display_shape, np.uint8)
        else:
            found = load_labels(path, like=grid).data
            _check_values(found, path)
            # A view with its axes turned is slow to paint on.
            data = np.ascontiguousarray(found, np.uint8)
        self._label_times[name] = times
        return Volume(
            data, grid.geometry, grid.modality, grid.subject, name, path, header=grid.header
        )

    def save_labels(self, name: str, labels: np.ndarray) -> Path:
        """Write labels of a scan; what stood there before is replaced at once, or not at all.

        What another program wrote there since the labels were read or saved here is put aside
        first, see :meth:`labels_changed`.

        Parameters
        ----------
        name : str
            The scan.
        labels : ndarray
            Whole numbers from 0 to 254 in the display grid of the scan. Values that are no class
            yet become one, so that nothing that was drawn is refused.

        Returns
        -------
        Path
            The file, in the source grid of the scan.
        """
        grid = self._empty(name)
        path = self.labels_path(name)
        if labels.shape != grid.data.shape:
            raise GeometryError(
                f"The labels for {name} have the shape {labels.shape}, but the scan has "
                f"{grid.data.shape}; use labels that were drawn on this scan."
            )
        values = _check_values(labels, path)
        with self._labelling:
            self._add_classes(values, {})
            self._check_there()
            if self.labels_changed(name) and path.is_file():
                self._put_aside(path, move=False)
            save_labels(labels, path, like=grid)
            self._label_times[name] = _times(path)
        return path

    def import_labels(
        self,
        name: str,
        path: str | Path,
        done: DoneSlices | Iterable[int] = "with labels",
    ) -> tuple[int, ...]:
        """Take labels from a file; those that the scan had are put aside.

        Slices whose labels are others now are no longer known as :meth:`accepted`.

        Parameters
        ----------
        name : str
            The scan.
        path : path-like
            A label map of any format that can be read, on the grid of the scan. Its values that
            are no class yet become one, with their name if the file tells it (DICOM).
        done : "with labels", "all", "none", or numbers of slices
            Which slices are done: those with any label, all, also those without, or none. Take
            "all" only if every structure was labelled throughout: what is not labelled on a slice
            that is done is learnt as background.

        Returns
        -------
        tuple of int
            Slices that are done now; none if the plane of the project was changed meanwhile.
        """
        path, plane = Path(path), self.plane
        if isinstance(done, str) and done not in get_args(DoneSlices):
            raise ProjectError(f"{done!r} names no slices; choose {_or(get_args(DoneSlices))}.")
        grid = self._empty(name)
        data = load_labels(path, like=grid).data
        values = _check_values(data, path)
        count = self._slices(name)
        if isinstance(done, str):
            shown = np.moveaxis(data, PLANE_AXIS[plane], 0).any(axis=(1, 2))
            choices: dict[str, Iterable[int]] = {
                "all": range(count),
                "with labels": np.flatnonzero(shown).tolist(),
                "none": (),
            }
            done = choices[done]
        marked = self._checked(name, done)
        own = self.labels_path(name)
        names = read_segment_names(path)
        with self._labelling:
            self._add_classes(values, names)
            accepted = self._not_replaced(name, data, grid)
            if own.is_file():
                self._put_aside(own, move=False)
            # In this order a crash leaves no slice marked as done whose labels are others.
            before = self.entry(name).done
            self._change_scan(name, done="")
            try:
                save_labels(data, own, like=grid)
            except BaseException:  # The labels are still those that were done.
                self._mark_along(plane, name, before)
                raise
            self._label_times[name] = _times(own)
            self._change_scan(name, accepted=accepted)
            return self._mark_along(plane, name, format_ranges(marked))

    def mark_done(
        self, name: str, slices: int | Iterable[int], plane: Plane | None = None
    ) -> tuple[int, ...]:
        """Mark slices as finished: every structure on them is labelled, or there is none.

        Parameters
        ----------
        name : str
            The scan.
        slices : int or several
            Numbers along the plane of the display grid, from 0.
        plane : {"axial", "coronal", "sagittal"}, optional
            To be safe, the plane that is meant; it must be that of the project.

        Returns
        -------
        tuple of int
            All slices of the scan that are done now.
        """
        return self._mark(name, slices, plane, done=True)

    def unmark(
        self, name: str, slices: int | Iterable[int], plane: Plane | None = None
    ) -> tuple[int, ...]:
        """Mark slices as not finished; see :meth:`mark_done`. Their labels stay."""
        return self._mark(name, slices, plane, done=False)

    def done(self, name: str, plane: Plane | None = None) -> tuple[int, ...]:
        """Slices of a scan that are finished; none along a plane that is not the project's."""
        if plane is not None and plane != self.plane:
            return ()
        return self.entry(name).done_slices

    def _mark(
        self, name: str, slices: int | Iterable[int], plane: Plane | None, *, done: bool
    ) -> tuple[int, ...]:
        if plane is not None and plane != self.plane:
            raise ProjectError(
                f"Slices of this project are done along the {self.plane} plane, not the {plane} "
                "one; show that plane, or choose another one for the project."
            )
        numbers = self._checked(name, slices)
        if done and numbers and not self.has_labels(name):
            with self._labelling:
                # A slice that is done and empty has labels: there is nothing on it.
                if not self.has_labels(name):
                    self.save_labels(name, np.zeros(self.entry(name).shape, np.uint8))
        with self._changing:
            before = set(self.entry(name).done_slices)
            after = before | numbers if done else before - numbers
            return self._change_scan(name, done=format_ranges(after)).done_slices

    def _mark_along(self, plane: Plane, name: str, done: str) -> tuple[int, ...]:
        """Mark slices anew, unless they are not of the plane of the project any more."""
        with self._changing:
            if self.plane != plane:
                return ()
            return self._change_scan(name, done=done).done_slices

    def _empty(self, name: str) -> Volume:
        """A scan with its grid and header, and no values of its own."""
        series = self.series(name)
        image = series.opened()
        entry = self.entry(name)
        return Volume(
            np.broadcast_to(np.uint8(0), image.geometry.display_shape),
            image.geometry,
            entry.modality,
            entry.subject,
            name,
            series.path,
            header=image.header,
        )

    def _add_classes(self, values: Iterable[int], names: dict[int, str]) -> None:
        """Make classes of values that are none yet."""

        def change(record: ProjectRecord) -> ProjectRecord:
            known = {item.value for item in record.classes}
            taken = {folded(item.name) for item in record.classes}
            new = []
            for value in sorted(set(values) - known):
                name = printable(names.get(value, ""), 90).strip()
                if not name or folded(name) in taken:
                    name = f"{name} {value}" if name else f"class {value}"
                while folded(name) in taken:
                    name += "'"
                taken.add(folded(name))
                colour = COLOURS[(value - 1) % len(COLOURS)]
                new.append(made(ProjectClass, value=value, name=name, colour=colour))
            return changed(record, classes=(*record.classes, *new)) if new else record

        self.change(change)


def _times(path: Path) -> tuple[int, int]:
    """What tells that a file was written again: its time in ns and its size; 0 if it is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _check_values(labels: np.ndarray, path: Path) -> list[int]:
    """Values in use but 0; a sentence if they are no labels of a project."""
    low, high = labels.min(), labels.max()
    whole = labels.dtype.kind in "bui" or np.array_equal(labels, np.round(labels))
    # Also false for NaN.
    if not (whole and low >= 0 and high <= LARGEST_CLASS):
        raise ProjectError(
            f"The labels {path} hold values such as {low:g} or {high:g}; those of a project are "
            f"whole numbers from 0 to {LARGEST_CLASS}."
        )
    counts = np.zeros(LARGEST_CLASS + 1, bool)
    for plane in labels:
        counts[plane.astype(np.uint8, copy=False)] = True
    return [int(value) for value in np.flatnonzero(counts) if value]


def _or(names: Iterable[str]) -> str:
    *most, last = map(str, names)
    return f"{', '.join(most)} or {last}"
