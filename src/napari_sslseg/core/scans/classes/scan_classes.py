"""The classes of labelled scans: matched by name, found by value, and turned into indices."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.sizes import MOST_CLASSES, PLANE_AXIS, UNKNOWN, Plane
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.classes.matching import ClassMatch, LabelFile, match_segments
from napari_sslseg.core.scans.classes.partial_labels import free_values, refuse_likely_unknown
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.renumber import compose, values_in
from napari_sslseg.core.scans.classes.segment import Segment
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.matching.label_guess import refuse_scan
from napari_sslseg.core.scans.volume import Volume


def match_labels(
    labelled: Sequence[LabelledScan],
    class_map: ClassMapLike = None,
    known: Iterable[Segment] = (),
) -> tuple[list[LabelledScan], ClassMatch]:
    """Give the labels of several scans the same classes, by the names in the files.

    Parameters
    ----------
    labelled : sequence of LabelledScan
        Scans with labels.
    class_map : ClassMap, path-like or mapping, optional
        Which structure is which class, see
        :meth:`~napari_sslseg.core.scans.classes.class_map.ClassMap.of`.
    known : iterable of Segment, optional
        Classes that are known.

    Returns
    -------
    list of LabelledScan
        The scans, with ``values`` and ``class_names`` if the files name structures.
    ClassMatch
        Names of all classes, and notes; see
        :func:`~napari_sslseg.core.scans.classes.matching.match_segments`.

    Raises
    ------
    ClassesError
        If it is not clear which structure is which class.
    """
    order = sorted(range(len(labelled)), key=lambda number: labelled[number].name)
    often = Counter(item.name for item in labelled)
    files = [_label_file(labelled[number], often) for number in order]
    match = match_segments(files, class_map, known)
    found = list(labelled)
    classes = {value for values in match.values if values for value in values.values()}
    for number, values in zip(order, match.values, strict=True):
        if values is not None:
            item = labelled[number]
            names = {value: match.names[value] for value in values.values() if value in match.names}
            # Values without a class stay, or move where no class is.
            others = free_values(_values_without_class(item), classes)
            found[number] = replace(
                item,
                values=compose(item.values, {**values, **others}),
                class_names=dict(sorted(names.items())),
                ignore=None if item.ignore is None else others.get(item.ignore, item.ignore),
                background=others.get(item.background, item.background),
            )
    return found, match


def _values_without_class(item: LabelledScan) -> set[int]:
    """Values other than 0 that mean unknown or background."""
    return {value for value in (item.ignore, item.background) if value}


def _label_file(item: LabelledScan, often: Mapping[str, int]) -> LabelFile:
    """The label file of a scan, with the names that are known."""
    name = item.name
    if often[name] > 1 and not isinstance(item.labels, Volume):
        path = item.labels if isinstance(item.labels, Path) else item.labels[0]
        name = f"{path.absolute().parent.name}/{path.name}"
    others = _values_without_class(item)
    segments: tuple[Segment, ...] = ()
    if item.class_names is not None:
        segments = tuple(Segment(value, name) for value, name in item.class_names.items())
    elif not isinstance(item.labels, Volume):
        segments = read_segments(item.labels)
    segments = tuple(segment for segment in segments if segment.value not in others)

    def read_values() -> list[int]:
        data = item.load_labels().data
        values = values_in(data)
        refuse_scan(data, len(values), f"The label file of {name}")
        return [value for value in values if value not in others]

    files = item.labels if isinstance(item.labels, tuple) else (item.labels,)
    first = files[0] if isinstance(files[0], Path) else None
    return LabelFile(name, segments, read_values, first)


def find_classes(
    labelled: Iterable[LabelledScan],
    plane: Plane,
    read_labels: Callable[[LabelledScan], Volume] | None = None,
) -> tuple[int, ...]:
    """Return the values of the classes on the annotated slices, in ascending order.

    Parameters
    ----------
    labelled : iterable of LabelledScan
        Scans with labels.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    read_labels : callable, optional
        Reads the labels of a scan; :meth:`LabelledScan.load_labels` by default.

    Raises
    ------
    DataError
        If there is none, since a network cannot learn from background alone; or if a value seems
        to mean that the class is unknown, which must not become a class by a guess.
    """
    values: set[int] = set()
    guessed: set[int] = set()
    for item in labelled:
        labels = item.load_labels() if read_labels is None else read_labels(item)
        slices = np.moveaxis(labels.data, PLANE_AXIS[plane], 0)
        found = set(np.unique(slices[item.annotated_mask(slices)]).tolist())
        refuse_scan(labels.data, len(found), f"The label file of {item.name}")
        found -= {0, item.background, item.ignore}
        values |= found
        # A value that does not occur says nothing about the others.
        if item.ignore is None or item.ignore not in slices:
            guessed |= found
    refuse_likely_unknown(guessed)
    if not values:
        raise DataError("The annotated slices contain only background; label a structure first.")
    if len(values) > MOST_CLASSES:
        raise DataError(
            f"The labels contain {len(values)} different values, more than the {MOST_CLASSES} "
            "classes that are supported; check that these are label files and not scans."
        )
    return tuple(sorted(values))


def unannotated_classes(
    labelled: Iterable[LabelledScan],
    plane: Plane,
    read_labels: Callable[[LabelledScan], Volume] | None = None,
) -> dict[int, list[str]]:
    """Classes that are only on slices that are not annotated, with the scans that have them.

    Parameters as in :func:`find_classes`.
    """
    shown: set[int] = set()
    elsewhere: dict[int, list[str]] = {}
    for item in labelled:
        labels = item.load_labels() if read_labels is None else read_labels(item)
        slices = np.moveaxis(labels.data, PLANE_AXIS[plane], 0)
        mask = item.annotated_mask(slices)
        shown.update(np.unique(slices[mask]).tolist())
        if not mask.all():
            for value in set(np.unique(slices[~mask]).tolist()) - {0, item.background, item.ignore}:
                elsewhere.setdefault(int(value), []).append(item.name)
    return {value: elsewhere[value] for value in sorted(elsewhere) if value not in shown}


def class_indices(
    data: np.ndarray,
    classes: Sequence[int],
    name: str,
    *,
    ignore: int | None = None,
    background: int = 0,
) -> np.ndarray:
    """Convert label values to class indices: 0 (background), 1, 2, … in the order of ``classes``.

    Parameters
    ----------
    data : ndarray
        Label values.
    classes : sequence of int
        Label values of the classes.
    name : str
        Name of the scan, for messages.
    ignore, background : int
        As in :class:`LabelledScan`; ``ignore`` gets the index
        :data:`~napari_sslseg.core.common.sizes.UNKNOWN`.

    Returns
    -------
    ndarray, uint8

    Raises
    ------
    DataError
        If a value is not among the classes, or a class is also unknown or background.
    """
    if not np.array_equal(data, np.round(data)):
        raise DataError(
            f"The labels of {name} are not whole numbers; use class labels, not scores."
        )
    indices = {0: 0, background: 0} | ({} if ignore is None else {ignore: UNKNOWN})
    for index, value in enumerate(classes, start=1):
        if value in indices:
            meaning = "unknown" if value == ignore else "background"
            raise DataError(
                f"The value {value} is a class and also {meaning}; leave it out of the classes."
            )
        indices[value] = index
    table = np.array(list(indices))
    present = np.unique(data)
    unknown = np.setdiff1d(present, table)
    if unknown.size:
        raise DataError(
            f"The labels of {name} contain the value {unknown[0]}, which is not among the classes "
            f"{', '.join(map(str, classes))}; correct the labels, add the class, or say that the "
            f"class is unknown there with --ignore-value {unknown[0]} (in Python ignore=)."
        )
    order = np.argsort(table)
    in_order = np.array(list(indices.values()), np.uint8)[order]
    return in_order[np.searchsorted(table, data, sorter=order)]
