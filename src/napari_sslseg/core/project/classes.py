"""The classes of a project: the structures that are labelled."""

from collections.abc import Callable

import numpy as np

from napari_sslseg.core.common.errors import ProjectError
from napari_sslseg.core.project.labels import COLOURS, ProjectLabels
from napari_sslseg.core.project.record import (
    LARGEST_CLASS,
    ProjectClass,
    ProjectRecord,
    changed,
    made,
)
from napari_sslseg.core.scans.labels import load_labels, save_labels


class ProjectClasses(ProjectLabels):
    """The part of a project that knows its classes."""

    @property
    def classes(self) -> tuple[ProjectClass, ...]:
        """Classes in the order in which they were added."""
        return self._record.classes

    @property
    def class_names(self) -> dict[int, str]:
        """Name of each label value, as ``core.save_labels(…, classes=…)`` takes them."""
        return {item.value: item.name for item in self._record.classes}

    def add_class(
        self, name: str, value: int | None = None, colour: str | None = None
    ) -> ProjectClass:
        """Add a class.

        Parameters
        ----------
        name : str
            Its name, which no other class has, also not in capitals.
        value : int, optional
            Its number in the label maps, 1 to 254; the lowest that is free if not given.
        colour : str, optional
            Such as "#e6194b"; one that suits the value if not given.
        """

        def change(record: ProjectRecord) -> ProjectRecord:
            used = {item.value for item in record.classes}
            free = [number for number in range(1, LARGEST_CLASS + 1) if number not in used]
            if value is None and not free:
                raise ProjectError(f"A project has at most {LARGEST_CLASS} classes; remove one.")
            number = free[0] if value is None else value
            shown = colour or COLOURS[(number - 1) % len(COLOURS)]
            new = made(ProjectClass, value=number, name=name.strip(), colour=shown.lower())
            return changed(record, classes=(*record.classes, new))

        return self.change(change).classes[-1]

    def rename_class(self, value: int, name: str) -> None:
        """Give a class another name."""
        self._change_class(value, lambda item: changed(item, name=name.strip()))

    def recolour_class(self, value: int, colour: str) -> None:
        """Give a class another colour, such as "#e6194b"."""
        self._change_class(value, lambda item: changed(item, colour=colour.lower()))

    def remove_class(self, value: int, *, erase: bool = False) -> tuple[str, ...]:
        """Remove a class.

        Parameters
        ----------
        value : int
            Its number in the label maps.
        erase : bool
            Whether to make background of what is labelled so. The label files as they were are put
            aside first. Without it the removal is refused if anything is labelled so.

        Returns
        -------
        tuple of str
            Names of the scans whose labels were changed.
        """
        removed = self._class(value)
        holding = [name for name in self.names if self._holds(name, value)]
        if holding and not erase:
            raise ProjectError(
                f"The labels of {len(holding)} scans hold the class {removed.name}, such as those "
                f"of {holding[0]}; keep the class, or have it erased there."
            )
        for name in holding:
            with self._labelling:
                path = self.labels_path(name)
                found = load_labels(path)
                self._put_aside(path, move=False)
                # By its own header, so that a scan that is missing does not matter.
                save_labels(np.where(found.data == value, 0, found.data), path, like=found)
                self._label_times.pop(name, None)
        self.change(
            lambda record: changed(
                record, classes=tuple(item for item in record.classes if item.value != value)
            )
        )
        return tuple(holding)

    def _holds(self, name: str, value: int) -> bool:
        if not self.has_labels(name):
            return False
        return bool((load_labels(self.labels_path(name)).data == value).any())

    def _class(self, value: int) -> ProjectClass:
        for item in self._record.classes:
            if item.value == value:
                return item
        raise ProjectError(
            f"The project has no class of the value {value}; choose one that it lists."
        )

    def _change_class(self, value: int, alter: Callable[[ProjectClass], ProjectClass]) -> None:
        self._class(value)
        self.change(
            lambda record: changed(
                record,
                classes=tuple(
                    alter(item) if item.value == value else item for item in record.classes
                ),
            )
        )
