"""The classes of a project: the structures that are labelled."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import ClassInUseError, ProjectError, SslsegError
from napari_sslseg.core.common.sizes import in_plane_axes
from napari_sslseg.core.common.text import count_phrase, fold_name, join_names, printable
from napari_sslseg.core.project.folder import ProjectFolder
from napari_sslseg.core.project.label_files import LabelFiles, file_state
from napari_sslseg.core.project.record import (
    LARGEST_CLASS,
    ProjectClass,
    ProjectRecord,
    make_part,
    with_changes,
)
from napari_sslseg.core.scans.classes.renumber import values_in
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.slices.ranges import format_ranges

COLOURS = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#bcf60c",
    "#fabebe", "#008080", "#e6beff", "#9a6324", "#fffac8", "#800000", "#aaffc3", "#808000",
    "#ffd8b1", "#000075", "#ffe119", "#808080",
)  # fmt: skip
"""Default colours of classes by their values, distinguishable on grey images."""


class ProjectClasses:
    """The classes of a project.

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
        self._values: dict[str, tuple[tuple[int, int], frozenset[int]]] = {}

    def add_class(
        self, name: str, value: int | None = None, colour: str | None = None
    ) -> ProjectClass:
        """Add a class.

        Parameters
        ----------
        name : str
            A name that no other class has, regardless of case.
        value : int, optional
            Value in the label maps, 1 to 254; by default that of a removed class of this name, or
            else the lowest one that no class had.
        colour : str, optional
            Such as "#e6194b"; by default one that depends on the value.
        """
        # A class that nobody listed may have them, as after an older record was restored.
        drawn = self._drawn_values() if value is None else set()

        def change(record: ProjectRecord) -> ProjectRecord:
            number = _free_value(record, name.strip(), drawn) if value is None else value
            shown = (colour or _default_colour(number)).lower()
            new = make_part(ProjectClass, value=number, name=name.strip(), colour=shown)
            return _with_classes(record, [new])

        return self._folder.change(change).classes[-1]

    def add_missing(self, values: Iterable[int], names: Mapping[int, str]) -> None:
        """Add a class for each value that has none, with its name, or that of a removed class."""

        def change(record: ProjectRecord) -> ProjectRecord:
            known = {item.value for item in record.classes}
            taken = {fold_name(item.name) for item in record.classes}
            named = {**{item.value: item.name for item in record.removed_classes}, **names}
            new = []
            for value in sorted(set(values) - known):
                name = printable(named.get(value, ""), 90).strip()
                if not name or fold_name(name) in taken:
                    name = f"{name} {value}" if name else f"class {value}"
                while fold_name(name) in taken:
                    name += "'"
                taken.add(fold_name(name))
                new.append(
                    make_part(ProjectClass, value=value, name=name, colour=_default_colour(value))
                )
            return _with_classes(record, new) if new else record

        self._folder.change(change)

    def rename_class(self, value: int, name: str) -> ProjectClass:
        """Give a class another name.

        A class that is not in any labels gets the value of a removed class of that name.

        Returns
        -------
        ProjectClass
            The class.
        """
        name = name.strip()
        record = self._folder.record
        removed = _removed_class(record, name)
        listed = any(value in (scan.labelled_classes or ()) for scan in record.scans)
        if removed is None or listed or value in self._drawn_values():
            self._change_class(value, lambda item: with_changes(item, name=name))
            return self._class(value)
        colour = self._class(value).colour
        new = make_part(ProjectClass, value=removed.value, name=name, colour=colour)
        self._folder.change(
            lambda record: _with_classes(
                with_changes(record, classes=tuple(i for i in record.classes if i.value != value)),
                [new],
            )
        )
        return new

    def recolour_class(self, value: int, colour: str) -> None:
        """Give a class another colour, such as "#e6194b"."""
        self._change_class(value, lambda item: with_changes(item, colour=colour.lower()))

    def remove_class(self, value: int, *, erase: bool = False) -> tuple[str, ...]:
        """Remove a class. Its value is kept for a class of the same name.

        Parameters
        ----------
        value : int
            Value in the label maps.
        erase : bool
            Whether to set voxels of the class to background, after the label files were put
            aside. Slices that lose their last label are no longer done. Without it, removing a
            class that occurs in labels is refused.

        Returns
        -------
        tuple of str
            Names of the scans whose labels were changed.
        """
        removed = self._class(value)
        _without_class(self._folder.record, value)  # Before labels are changed.
        names = [scan.name for scan in self._folder.record.scans]
        with_class = [name for name in names if self._occurs_in(name, value)]
        if with_class and not erase:
            raise ClassInUseError(
                f"The class “{removed.name}” occurs in the labels of "
                f"{count_phrase(len(with_class), 'scan')} ({join_names(with_class)}); keep the "
                "class, or erase it there.",
                removed.name,
                tuple(with_class),
            )
        with self._folder.replacing_labels:
            emptied = self._erase(value, with_class)
            self._folder.change(
                lambda record: _without_done(_without_class(record, value), emptied)
            )
        return tuple(with_class)

    def _erase(self, value: int, names: Sequence[str]) -> dict[str, set[int]]:
        """Set a class to background in the labels of scans: in all, or in none if that fails.

        Returns the slices that lost their last label, by scan.
        """
        kept: dict[str, Path] = {}
        emptied: dict[str, set[int]] = {}
        others = tuple(in_plane_axes(self._folder.record.plane))
        seen = {name: not self._files.needs_copy(name) for name in names}
        try:
            for name in names:
                path = self._files.path(name)
                found = load_labels(path)
                kept[name] = self._files.put_aside(path, move=False)
                # With its own header, so that the scan may be missing.
                erased = np.where(found.data == value, 0, found.data)
                save_labels(erased, path, like=found, classes={}, overwrite=True)
                lost = (found.data != 0).any(axis=others) & ~(erased != 0).any(axis=others)
                emptied[name] = set(np.flatnonzero(lost).tolist())
        except BaseException:
            for name, copy in kept.items():
                self._files.put_back(name, copy, seen=seen[name])
            raise
        for name in kept:
            self._files.forget_state(name)
        return emptied

    def _occurs_in(self, name: str, value: int) -> bool:
        return self._files.exists(name) and value in self._values_of(name)

    def _drawn_values(self) -> set[int]:
        """Values in the label files of all scans; files that cannot be read are left out."""
        found: set[int] = set()
        for scan in self._folder.record.scans:
            if self._files.exists(scan.name):
                with suppress(SslsegError):
                    found |= self._values_of(scan.name)
        return found

    def _values_of(self, name: str) -> frozenset[int]:
        """Values in the label file of a scan; read again only if the file changed."""
        path = self._files.path(name)
        state = file_state(path)
        if name not in self._values or self._values[name][0] != state:
            self._values[name] = state, frozenset(values_in(load_labels(path).data))
        return self._values[name][1]

    def _class(self, value: int) -> ProjectClass:
        for item in self._folder.record.classes:
            if item.value == value:
                return item
        raise ProjectError(
            f"The project has no class with the value {value}; choose one that it lists."
        )

    def _change_class(self, value: int, change: Callable[[ProjectClass], ProjectClass]) -> None:
        self._class(value)
        self._folder.change(
            lambda record: with_changes(
                record,
                classes=tuple(
                    change(item) if item.value == value else item for item in record.classes
                ),
            )
        )


def _without_class(record: ProjectRecord, value: int) -> ProjectRecord:
    """The record without a class, which is then not labelled in any scan."""
    scans = []
    for scan in record.scans:
        if scan.labelled_classes is not None and value in scan.labelled_classes:
            left = tuple(item for item in scan.labelled_classes if item != value)
            if not left:
                raise ProjectError(
                    f"{scan.name} has no other class labelled; change its labelled classes first."
                )
            scan = with_changes(scan, labelled_classes=left)
        scans.append(scan)
    removed = tuple(item for item in record.classes if item.value == value)
    return with_changes(
        record,
        classes=tuple(item for item in record.classes if item.value != value),
        removed_classes=(*record.removed_classes, *removed),
        scans=tuple(scans),
    )


def _without_done(record: ProjectRecord, slices: Mapping[str, set[int]]) -> ProjectRecord:
    """The record in which some slices, by scan, are not done."""
    scans = (
        with_changes(scan, done=format_ranges(set(scan.done_slices) - slices[scan.name]))
        if slices.get(scan.name)
        else scan
        for scan in record.scans
    )
    return with_changes(record, scans=tuple(scans))


def _with_classes(record: ProjectRecord, new: Sequence[ProjectClass]) -> ProjectRecord:
    """The record with more classes, which may have the values of removed ones."""
    values = {item.value for item in new}
    removed = tuple(item for item in record.removed_classes if item.value not in values)
    return with_changes(record, classes=(*record.classes, *new), removed_classes=removed)


def _removed_class(record: ProjectRecord, name: str) -> ProjectClass | None:
    """The removed class of a name."""
    names = fold_name(name)
    return next((item for item in record.removed_classes if fold_name(item.name) == names), None)


def _free_value(record: ProjectRecord, name: str, drawn: Collection[int]) -> int:
    """Value for a new class.

    Not that of a removed class of another name: what the removed class is in runs and in replaced
    label files would become the new one. Nor one that is ``drawn`` in labels.
    """
    removed = _removed_class(record, name)
    if removed is not None:
        return removed.value
    used = {item.value for item in (*record.classes, *record.removed_classes)} | set(drawn)
    free = next((number for number in range(1, LARGEST_CLASS + 1) if number not in used), None)
    if free is None:
        raise ProjectError(
            f"The project has no free value for a class, since it had {LARGEST_CLASS}; give a new "
            "one the name of one that was removed."
        )
    return free


def _default_colour(value: int) -> str:
    return COLOURS[(value - 1) % len(COLOURS)]
