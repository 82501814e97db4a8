"""Labels of the scans of a project, and the slices that are done."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from napari_sslseg.core.common.atomic import atomic_path
from napari_sslseg.core.common.errors import GeometryError, ProjectError, ScanWarning
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane, format_size
from napari_sslseg.core.project.accepted import AcceptedPredictions
from napari_sslseg.core.project.classes import ProjectClasses
from napari_sslseg.core.project.folder import ProjectFolder
from napari_sslseg.core.project.label_files import LabelFiles, file_state
from napari_sslseg.core.project.record import (
    LARGEST_CLASS,
    UNKNOWN_VALUE,
    AcceptedSlices,
    ProjectClass,
    ProjectRecord,
    with_changes,
)
from napari_sslseg.core.project.scans import ProjectScans
from napari_sslseg.core.scans.classes.class_codes import is_structure
from napari_sslseg.core.scans.classes.class_map import ANY, ClassMap, ClassMapLike
from napari_sslseg.core.scans.classes.matching import (
    LabelFile,
    Structure,
    match_file,
    refuse_unclear,
)
from napari_sslseg.core.scans.classes.partial_labels import likely_unknown
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.renumber import renumber, values_in
from napari_sslseg.core.scans.classes.segment import Segment, is_placeholder, known_code
from napari_sslseg.core.scans.formats.labels.checks import are_whole
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.matching.label_names import structure_names
from napari_sslseg.core.scans.matching.other_patient import warn_about_other_patient
from napari_sslseg.core.scans.slices.ranges import format_ranges
from napari_sslseg.core.scans.volume import Volume

LabelSource = str | Path | Sequence[str | Path]
"""A label file, or files of one structure each."""

DoneSlices = Literal["all", "with labels", "none"]
"""Which slices of imported labels are done."""


class ProjectLabels:
    """The labels of a project and its done slices.

    Parameters
    ----------
    folder : ProjectFolder
        The project.
    files : LabelFiles
        Its label files.
    scans : ProjectScans
        Its scans, whose grids the labels have.
    classes : ProjectClasses
        Its classes, which new label values are added to.
    accepted : AcceptedPredictions
        Its slices that were accepted from a prediction, which imported labels may replace.
    """

    def __init__(
        self,
        folder: ProjectFolder,
        files: LabelFiles,
        scans: ProjectScans,
        classes: ProjectClasses,
        accepted: AcceptedPredictions,
    ) -> None:
        self._folder = folder
        self._files = files
        self._scans = scans
        self._classes = classes
        self._accepted = accepted

    @property
    def _plane(self) -> Plane:
        return self._folder.record.plane

    def set_plane(self, plane: Plane, *, unmark: bool = False) -> None:
        """Choose the plane along which slices are labelled.

        Done slices are not transferred, since a slice that is done along one plane says nothing
        about the slices that cross it. Labels always stay.

        Parameters
        ----------
        plane : {"axial", "coronal", "sagittal"}
            The plane. Networks of volumes are trained on done axial slices.
        unmark : bool
            Whether to unmark all slices that are done along the other plane. Without it, the
            change is refused if there are any.
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
                    f"{marked[0].name}, and cannot be used as {plane} ones; keep the plane "
                    f"{record.plane}, or unmark all slices (the labels stay)."
                )
            scans = (with_changes(scan, done="") if scan.done else scan for scan in record.scans)
            return with_changes(record, plane=plane, scans=tuple(scans))

        self._folder.change(change)

    def labels(self, name: str, *, seen: bool = True) -> Volume:
        """Labels of a scan in its display grid, uint8; zeros if none were saved.

        Parameters
        ----------
        name : str
            The scan.
        seen : bool
            Whether the user sees these labels, and may thus replace them without a copy.

        Raises
        ------
        SslsegError
            If the scan cannot be used, or its label file is damaged or has another grid.
        """
        grid = self._grid(name)
        path = self._files.path(name)
        problem = self._files.problem(name)
        if problem is not None:
            raise ProjectError(problem)
        state = file_state(path)
        if not path.is_file():
            data = np.zeros(grid.geometry.display_shape, np.uint8)
        else:
            found = load_labels(path, like=grid).data
            _check_values(found, path)
            # Painting on a transposed view is slow.
            data = np.ascontiguousarray(found, np.uint8)
        if seen:
            self._files.note_state(name, state)
        return Volume(
            data, grid.geometry, grid.modality, grid.subject, name, path, header=grid.header,
            is_labels=True,
        )  # fmt: skip

    def add_missing_classes(self, labels: np.ndarray) -> tuple[ProjectClass, ...]:
        """Add a class for each value of labels that has none, such as those of another program.

        Returns
        -------
        tuple of ProjectClass
            The new classes.
        """
        known = {item.value for item in self._folder.record.classes}
        values = _class_values(labels)
        if not set(values) - known:
            return ()
        self._classes.add_missing(values, {})
        return tuple(item for item in self._folder.record.classes if item.value not in known)

    def save_labels(self, name: str, labels: np.ndarray) -> Path:
        """Write the labels of a scan; the file is replaced as a whole or not at all.

        A file that was neither read nor saved since the project was opened, or that another program
        wrote after that (see :meth:`labels_changed`), is put aside first.

        Parameters
        ----------
        name : str
            The scan.
        labels : ndarray
            Integers from 0 to 255 in the display grid of the scan. For values without a class
            one is added, so that nothing that was drawn is refused. 255 means unknown: it is kept,
            but neither a class nor background.

        Returns
        -------
        Path
            The file, in the source grid of the scan.
        """
        grid = self._grid(name)
        path = self._files.path(name)
        if labels.shape != grid.data.shape:
            raise GeometryError(
                f"The labels for {name} have the shape {format_size(labels.shape)}, but the scan "
                f"has {format_size(grid.data.shape)}; use labels that were drawn on this scan."
            )
        values = _check_values(labels, path)
        with self._folder.replacing_labels:
            self._classes.add_missing(values, {})
            self._folder.check_unchanged()
            if self._files.needs_copy(name):
                self._files.put_aside(path, move=False)
            save_labels(labels, path, like=grid, classes={}, overwrite=True)
            self._files.note_state(name)
        return path

    def import_labels(
        self,
        name: str,
        path: LabelSource,
        done: DoneSlices | Iterable[int] = "with labels",
        class_map: ClassMapLike = None,
        ignore: int | None = None,
    ) -> tuple[int, ...]:
        """Take labels from a file; previous labels are moved to the folder ``aside``.

        Slices whose labels change are no longer listed by :meth:`accepted`.

        Parameters
        ----------
        name : str
            The scan.
        path : path-like or several
            A label map in any readable format, on the grid of the scan. Its structures become the
            classes that :meth:`label_classes` finds; for others a class is added. Several files
            are one structure each, named by the file.
        done : "with labels", "all", "none", or numbers of slices
            Which slices are done: those that show a class, all of them, or none. Use "all" only if
            every structure was labelled throughout: what is not labelled on a done slice is used
            as background in the training.
        class_map : ClassMap, path-like or mapping, optional
            Which structure in the file is which class of the project, or is left out, where the
            file does not say it; see
            :meth:`~napari_sslseg.core.scans.classes.class_map.ClassMap.of`. Also gives a class to
            values above 254.
        ignore : int, optional
            Value in the file of voxels whose class is unknown, which are 255 in the project. If
            not given, it is 255 beside a few small values, unless the file or ``class_map`` names
            it; a warning says so. A mask of 0 and 255 has a class of the value 255.

        Returns
        -------
        tuple of int
            Slices that are done now; none if the plane of the project was changed meanwhile.

        Raises
        ------
        ClassesError
            If it is not clear which class a structure is.
        """
        files, plane = _label_files(path), self._plane
        if isinstance(done, str) and done not in get_args(DoneSlices):
            raise ProjectError(
                f"{done!r} is not a choice of slices; use {_or(get_args(DoneSlices))}."
            )
        grid = self._grid(name)
        read = load_labels(files, like=grid)
        warn_about_other_patient(files, name, grid.path, grid.subject)
        if ignore is None:
            ignore = self._guess_unknown(files, read, class_map)
        structures = self._match(files, read, class_map, ignore)
        first = _first(files)
        refuse_unclear(first.name, structures, self._class_names())
        known = {item.segment.value: item.value for item in structures}
        data = renumber(read, known if ignore is None else {**known, ignore: UNKNOWN_VALUE}).data
        names = {item.value: item.name for item in structures if item.name}
        values = _check_values(data, first)
        marked = self._accepted.check_slices(name, _slices_to_mark(done, data, plane))
        own = self._files.path(name)
        with self._folder.replacing_labels:
            self._classes.add_missing(values, names)
            accepted = self._accepted.left_after(name, data, grid)
            kept = self._files.put_aside(own, move=False) if own.is_file() else None
            seen = not self._files.needs_copy(name)
            entry, now = self._folder.entry(name), self._plane
            # If the process is killed, each done slice has labels with which it was to be done.
            both = marked & set(entry.done_slices) if now == plane else set()
            state = file_state(own)
            try:
                with atomic_path(own, follow_link=True) as temporary:
                    save_labels(data, temporary, like=grid, classes={}, overwrite=True)
                    # A full disk is noticed before anything is changed.
                    self._mark_if_plane(now, name, format_ranges(both))
                done = self._finish_import(name, plane, marked, accepted)
            except BaseException:
                if file_state(own) != state:
                    self._files.put_back(name, kept, seen=seen)
                self._mark_if_plane(now, name, entry.done)
                raise
            self._files.note_state(name)
            return done

    def label_classes(
        self, name: str, path: LabelSource, class_map: ClassMapLike = None
    ) -> tuple[Structure, ...]:
        """Find which classes the structures in a label file are; nothing is changed.

        A structure with a name is the class of that name, whatever its value, or the class of a
        common structure that has its code. Other names are new classes. Values of a file without
        names are the classes with these values.

        Parameters
        ----------
        name : str
            The scan of the labels.
        path, class_map
            As in :meth:`import_labels`.

        Returns
        -------
        tuple of Structure
            One for each label value that occurs. :meth:`import_labels` refuses labels with a
            structure that is ``unclear``.
        """
        files = _label_files(path)
        labels = load_labels(files, like=self._grid(name))
        ignore = self._guess_unknown(files, labels, class_map, say=False)
        return self._match(files, labels, class_map, ignore)

    def mark_done(
        self, name: str, slices: int | Iterable[int], plane: Plane | None = None
    ) -> tuple[int, ...]:
        """Mark slices as done: every structure on them is labelled, or there is none.

        Parameters
        ----------
        name : str
            The scan.
        slices : int or several
            Numbers along the plane of the display grid, from 0.
        plane : {"axial", "coronal", "sagittal"}, optional
            The plane that is meant, which must be that of the project.

        Returns
        -------
        tuple of int
            All slices of the scan that are done now.

        Raises
        ------
        ProjectError
            If there is no such slice, or slices are done but the label file is missing.
        """
        return self._mark(name, slices, plane, done=True)

    def unmark(
        self, name: str, slices: int | Iterable[int], plane: Plane | None = None
    ) -> tuple[int, ...]:
        """Mark slices as not done; see :meth:`mark_done`. Their labels stay."""
        return self._mark(name, slices, plane, done=False)

    def done(self, name: str, plane: Plane | None = None) -> tuple[int, ...]:
        """Slices of a scan that are done; none along a plane other than that of the project."""
        if plane is not None and plane != self._plane:
            return ()
        return self._folder.entry(name).done_slices

    def set_labelled_classes(self, name: str, classes: Iterable[int] | None) -> None:
        """Say which classes are labelled in a scan.

        The others may be anywhere in its background, also on done slices: they are not learnt as
        background there, and not scored.

        Parameters
        ----------
        name : str
            The scan.
        classes : iterable of int, or None
            Values of at least one class; None if all are labelled.
        """
        values = None if classes is None else tuple(sorted(set(classes)))
        self._folder.change_entry(name, labelled_classes=values)

    def labelled_classes(self, name: str) -> tuple[int, ...] | None:
        """Classes that are labelled in a scan; None if all are."""
        return self._folder.entry(name).labelled_classes

    def _match(
        self,
        files: Path | tuple[Path, ...],
        labels: Volume,
        class_map: ClassMapLike,
        ignore: int | None,
    ) -> tuple[Structure, ...]:
        """Match the structures of a file, or of several, to the classes of the project."""
        path = _first(files)
        record = self._folder.record
        removed = [item for item in record.removed_classes if not is_placeholder(item.name)]
        classes = (*record.classes, *removed)
        known = [Segment(item.value, item.name, known_code(item.name)) for item in classes]
        values = [value for value in values_in(labels.data) if value != ignore]
        segments: tuple[Segment, ...] = ()
        if not self._is_own(path):
            segments = tuple(item for item in read_segments(files) if item.value != ignore)
            segments = segments or _structure_of_name(path, values)
        file = LabelFile(path.name, segments, lambda: values)
        return match_file(file, known, class_map, LARGEST_CLASS)

    def _is_own(self, path: Path) -> bool:
        return self._folder.path in path.absolute().parents

    def _guess_unknown(
        self,
        files: Path | tuple[Path, ...],
        labels: Volume,
        class_map: ClassMapLike,
        *,
        say: bool = True,
    ) -> int | None:
        """The value 255 if it means unknown in a file, with a warning; else None."""
        path = _first(files)
        values = values_in(labels.data)
        if UNKNOWN_VALUE not in values:
            return None
        if self._is_own(path):
            return UNKNOWN_VALUE
        named = any(item.value == UNKNOWN_VALUE and item.name for item in read_segments(files))
        mapping = ClassMap.of(class_map)
        row = None if mapping is None else mapping.find(path.name, Segment(UNKNOWN_VALUE))
        if (
            named
            or (row is not None and row.name != ANY)
            or likely_unknown(values) != UNKNOWN_VALUE
        ):
            return None
        if say:
            warnings.warn(
                f"The value {UNKNOWN_VALUE} in {path} is kept as unknown: it is no class, and not "
                "taught as background.",
                ScanWarning,
                stacklevel=3,
            )
        return UNKNOWN_VALUE

    def _class_names(self) -> list[str]:
        return [item.name for item in self._folder.record.classes]

    def _mark(
        self, name: str, slices: int | Iterable[int], plane: Plane | None, *, done: bool
    ) -> tuple[int, ...]:
        if plane is not None and plane != self._plane:
            raise ProjectError(
                f"Slices of this project are done along the {self._plane} plane, not the {plane} "
                "plane; show that plane, or choose another one for the project."
            )
        numbers = self._accepted.check_slices(name, slices)
        if done and numbers and not self._files.exists(name):
            with self._folder.replacing_labels:
                # Background in place of lost labels would be taught on slices that are done.
                if (problem := self._files.problem(name)) is not None:
                    raise ProjectError(problem)
                # A done slice without any structure has labels, too: all background.
                if not self._files.exists(name):
                    self.save_labels(name, np.zeros(self._folder.entry(name).shape, np.uint8))
        with self._folder.changing:
            before = set(self._folder.entry(name).done_slices)
            after = before | numbers if done else before - numbers
            return self._folder.change_entry(name, done=format_ranges(after)).done_slices

    def _mark_if_plane(self, plane: Plane, name: str, done: str) -> tuple[int, ...]:
        """Set the done slices, unless the plane of the project was changed meanwhile."""
        with self._folder.changing:
            if self._plane != plane:
                return ()
            return self._folder.change_entry(name, done=done).done_slices

    def _finish_import(
        self, name: str, plane: Plane, marked: set[int], accepted: tuple[AcceptedSlices, ...]
    ) -> tuple[int, ...]:
        """Set the done and the accepted slices in one change of the record."""
        with self._folder.changing:
            # Slices of another plane that were marked meanwhile had the labels of before.
            done = marked if self._plane == plane else set()
            self._folder.change_entry(name, accepted=accepted, done=format_ranges(done))
        return tuple(sorted(done))

    def _grid(self, name: str) -> Volume:
        """A scan with its geometry and header but without its voxels."""
        series = self._scans.series(name)
        image = series.opened()
        entry = self._folder.entry(name)
        return Volume(
            np.broadcast_to(np.uint8(0), image.geometry.display_shape),
            image.geometry,
            entry.modality,
            entry.subject,
            name,
            series.path,
            header=image.header,
        )


def _slices_to_mark(
    done: DoneSlices | Iterable[int], labels: np.ndarray, plane: Plane
) -> Iterable[int]:
    if not isinstance(done, str):
        return done
    slices = np.moveaxis(labels, PLANE_AXIS[plane], 0)
    if done == "all":
        return range(len(slices))
    if done == "none":
        return ()
    classes = (slices > 0) & (slices != UNKNOWN_VALUE)
    return np.flatnonzero(classes.any(axis=(1, 2))).tolist()


def _label_files(path: LabelSource) -> Path | tuple[Path, ...]:
    """One label map, or several files of one structure each."""
    if isinstance(path, str | Path):
        return Path(path)
    files = tuple(map(Path, path))
    if not files:
        raise ProjectError("There are no label files to import; choose at least one.")
    return files if len(files) > 1 else files[0]


def _first(files: Path | tuple[Path, ...]) -> Path:
    return files if isinstance(files, Path) else files[0]


def _structure_of_name(path: Path, values: Sequence[int]) -> tuple[Segment, ...]:
    """The structure of a file with one value and the name of a structure, such as a spleen.

    Otherwise the only value of a spleen would be taken for a liver of the same value.
    """
    name = structure_names([path])[0]
    return (Segment(values[0], name),) if len(values) == 1 and is_structure(name) else ()


def _check_values(labels: np.ndarray, path: Path) -> list[int]:
    """Values of classes that occur.

    Raises
    ------
    ProjectError
        If there are values that a project cannot have.
    """
    if labels.dtype.kind not in "buif":
        raise ProjectError(
            f"The labels {path} are of the type {labels.dtype}; those of a project are integers "
            f"from 0 to {LARGEST_CLASS}, and {UNKNOWN_VALUE} for unknown."
        )
    low, high = labels.min(), labels.max()
    if not (are_whole(labels) and low >= 0 and high <= UNKNOWN_VALUE):
        raise ProjectError(
            f"The labels {path} have values from {low:g} to {high:g}; those of a project are "
            f"integers from 0 to {LARGEST_CLASS}, and {UNKNOWN_VALUE} for unknown."
        )
    return _class_values(labels)


def _class_values(labels: np.ndarray) -> list[int]:
    """Values of classes in valid labels; without sorting, which takes seconds for a large scan."""
    occurs = np.zeros(UNKNOWN_VALUE + 1, bool)
    for plane in labels:
        occurs[plane.astype(np.uint8, copy=False)] = True
    return [int(value) for value in np.flatnonzero(occurs) if 0 < value <= LARGEST_CLASS]


def _or(names: Iterable[str]) -> str:
    *most, last = map(str, names)
    return f"{', '.join(most)} or {last}"
