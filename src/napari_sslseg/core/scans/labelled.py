"""Scans with their labels and annotated slices."""

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from napari_sslseg.core.common.errors import DataError, GeometryError, ScanWarning
from napari_sslseg.core.common.sizes import MOST_CLASSES, PLANE_AXIS, UNKNOWN, Plane
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.classes.matching import ClassMatch, LabelFile, match_segments
from napari_sslseg.core.scans.classes.partial_labels import (
    LabelledClasses,
    check_unknown_value,
    class_values,
    free_values,
    refuse_likely_unknown,
)
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.renumber import compose, renumber, values_in
from napari_sslseg.core.scans.classes.segment import Segment
from napari_sslseg.core.scans.find import as_series, find_scans
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.matching.label_names import is_named_as_labels
from napari_sslseg.core.scans.matching.pairing import Pairing, choose_sequence, missing_labels
from napari_sslseg.core.scans.names import listed_name, scan_name, unique_by_name
from napari_sslseg.core.scans.series import Series, Source
from napari_sslseg.core.scans.volume import Modality, Volume, load_volume, read_geometry

Annotated = tuple[int, ...] | Literal["labelled", "all"] | None
"""Annotated slices: their numbers, those that show any label, or all; None is all by default."""


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """A scan, its labels, and what of it is annotated.

    Parameters
    ----------
    scan : Volume, Series or Path
        The scan.
    labels : Volume, Path or tuple of Path
        Label map on the grid of the scan, or files of one structure each.
    annotated : tuple of int, "labelled" or "all", optional
        Indices of the slices, along the slicing plane of the display grid, on which all structures
        are labelled (an annotated slice may be empty). ``"labelled"`` stands for the slices that
        show any label. All slices if not given; ``"all"`` says that this is meant, even if empty
        slices lie between labelled ones. Other slices are not used for training: a slice that
        nobody annotated is not background.
    values : mapping of int to int, optional
        Class of each value in ``labels``, see
        :func:`~napari_sslseg.core.scans.classes.renumber.renumber`; the values are the classes if
        not given. :func:`match_labels` finds it by the names in the files.
    class_names : mapping of int to str, optional
        Names of the classes of this scan, after ``values`` is applied; if not given, those in the
        file are used.
    ignore : int, optional
        Value, after ``values`` is applied, of voxels whose class is unknown, such as 255; 0 in
        scribbles. They are neither a class nor background.
    background : int
        Value of the background, after ``values`` is applied. Where 0 is not unknown, it is
        background as well.
    labelled_classes : tuple of int, optional
        Classes that are labelled in this scan; all if not given. Structures of other classes are
        somewhere in its background.

    Raises
    ------
    DataError
        If the background is unknown, or no class is labelled.
    """

    scan: Volume | Source
    labels: Volume | Path | tuple[Path, ...]
    annotated: Annotated = None
    values: Mapping[int, int] | None = None
    class_names: Mapping[int, str] | None = None
    ignore: int | None = None
    background: int = 0
    labelled_classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_unknown_value(self.ignore, self.background)
        if self.labelled_classes is not None and not self.labelled_classes:
            raise DataError(
                f"No class is labelled in {self.name}, so it has no labels to learn from; leave "
                "it out."
            )

    @property
    def name(self) -> str:
        """Name of the scan."""
        return scan_name(self.scan) if isinstance(self.scan, Path) else self.scan.name

    @property
    def geometry(self) -> Geometry:
        """Grid of the scan, from its header alone if it is not loaded."""
        return self.scan.geometry if isinstance(self.scan, Volume) else read_geometry(self.scan)

    @property
    def grid(self) -> Volume | Series:
        """The scan for placing labels: its header is read, but not its values."""
        return self.scan if isinstance(self.scan, Volume) else as_series(self.scan)

    def opened(self) -> "LabelledScan":
        """Same scan with its header read, so that it is not read again and again."""
        return replace(self, scan=as_series(self.scan)) if isinstance(self.scan, Path) else self

    def load(self, modality: Modality | None = None) -> tuple[Volume, Volume]:
        """Load scan and labels, and check that their grids match."""
        scan = as_volume(self.scan, modality)
        if isinstance(self.labels, Volume):
            if not self.labels.geometry.matches(scan.geometry):
                raise GeometryError(
                    f"The labels of {scan.name} have another grid than their scan: "
                    f"{self.labels.geometry.difference(scan.geometry)}; use labels that were drawn "
                    "on this scan."
                )
            return scan, renumber(self.labels, self.values)
        return scan, renumber(load_labels(self.labels, like=scan), self.values)

    def load_labels(self) -> Volume:
        """Load the labels alone."""
        labels = self.labels
        if not isinstance(labels, Volume):
            labels = load_labels(labels, like=self.grid)
        return renumber(labels, self.values)

    def annotated_mask(self, slices: np.ndarray) -> np.ndarray:
        """Return which slices are annotated, shape (S,), bool.

        Parameters
        ----------
        slices : ndarray, shape (S, H, W)
            Label values of the scan, slice by slice.
        """
        return annotated_slices(slices, self.annotated, self.name)

    def hidden_classes(self, classes: Sequence[int]) -> tuple[int, ...]:
        """Return the indices, from 1, of those ``classes`` that are not labelled in this scan."""
        if self.labelled_classes is None:
            return ()
        return tuple(
            index
            for index, value in enumerate(classes, start=1)
            if value not in self.labelled_classes
        )


def annotated_slices(slices: np.ndarray, annotated: Annotated, name: str) -> np.ndarray:
    """Return which slices are annotated, shape (S,), bool.

    Parameters
    ----------
    slices : ndarray, shape (S, H, W)
        Label values, slice by slice.
    annotated : tuple of int, "labelled", "all" or None
        As in :class:`LabelledScan`.
    name : str
        Name of the scan, for messages.

    Raises
    ------
    DataError
        If a slice does not exist.
    """
    n_slices = len(slices)
    if annotated is None or annotated == "all":
        return np.ones(n_slices, bool)
    if annotated == "labelled":
        return np.asarray(slices.any(axis=(1, 2)))
    bad = [index for index in annotated if not 0 <= index < n_slices]
    if bad:
        raise DataError(
            f"Slice {bad[0]} of {name} is marked as annotated, but its slices are numbered 0 to "
            f"{n_slices - 1}; correct the list of annotated slices."
        )
    mask = np.zeros(n_slices, bool)
    mask[list(annotated)] = True
    return mask


def as_volume(scan: Volume | Source | str, modality: Modality | None = None) -> Volume:
    """Load a scan unless it is loaded already."""
    return scan if isinstance(scan, Volume) else load_volume(scan, modality=modality)


Scan = Volume | Source | LabelledScan
"""Any scan, loaded or not, with labels or without."""


def scan_geometry(scan: Scan) -> Geometry:
    """Return the geometry of a scan, from its header alone if it is not loaded."""
    return scan.geometry if isinstance(scan, Volume | LabelledScan) else read_geometry(scan)


def scan_subject(scan: Scan) -> str:
    """Return the subject of a scan, from its header alone if it is not loaded."""
    if isinstance(scan, LabelledScan):
        scan = scan.scan
    return scan.subject if isinstance(scan, Volume) else as_series(scan).subject


def pair_scans(
    images: str | Path,
    labels: str | Path,
    annotated: dict[str, tuple[int, ...]] | Literal["labelled", "all"] | None = None,
    *,
    every_image: bool = True,
    class_map: ClassMapLike = None,
    match_classes: bool = True,
    sequence: str | None = None,
    ignore: int | None = None,
    background: int = 0,
    labelled_classes: LabelledClasses | None = None,
) -> list[LabelledScan]:
    """Pair the scans of a folder with labels, by the names of files and folders.

    See :mod:`~napari_sslseg.core.scans.matching.pairing` for the names that fit.

    Parameters
    ----------
    images, labels : path-like
        Folders, or single files; one folder for both if the names of labels say so. A label file
        has the name of its scan, or is in the folder of its patient.
    annotated : dict, "labelled" or "all", optional
        Annotated slices by name of the scan, see :func:`read_annotated`; other scans are ignored.
        Or the slices with labels, or all slices, of all scans; see :class:`LabelledScan`.
    every_image : bool
        Whether a scan without labels is an error; otherwise it is ignored.
    class_map : ClassMap, path-like or mapping, optional
        Which structure in the files is which class, see :func:`match_labels`.
    match_classes : bool
        Whether to match the classes of the files; a resumed run has them in its record.
    sequence : str, optional
        End of the names of the scans to use if a case has several, such as ``T1w`` or ``0000``.
    ignore, background : int
        Values in the files of unknown voxels and of the background, see :class:`LabelledScan`.
    labelled_classes : mapping of str to sequence of int or str, optional
        Classes, by value or name, that are labelled in a scan, by its name; all in other scans.
        See :func:`~napari_sslseg.core.scans.classes.partial_labels.read_labelled_classes`.

    Raises
    ------
    DataError
        If a scan has no labels, labels have no scan, or there is no pair.
    ClassesError
        If it is not clear which structure is which class.
    """
    images, labels = Path(images), Path(labels)
    scans = _scans_to_pair(images, labels, sequence)
    pairing = Pairing(scans, images, labels)
    if not pairing.files:
        raise DataError(
            f"{images} was given for both scans and labels, but no file has a name of labels, such "
            "as p0_seg; give two folders."
        )
    files = pairing.pairs()
    numbers = {scan.name: number for number, scan in enumerate(scans)}
    whole, annotated = (annotated, None) if isinstance(annotated, str) else (None, annotated)
    if annotated is not None:
        annotated = {listed_name(name, numbers): slices for name, slices in annotated.items()}
    if annotated is not None and not annotated:
        raise DataError("The list of annotated slices is empty; annotate at least one slice.")
    for name in annotated or ():
        if name not in numbers:
            raise DataError(
                f"The list of annotated slices names {name}, but {images} holds no such scan; "
                "correct the list."
            )
    wanted = [numbers[name] for name in annotated] if annotated is not None else []
    missing = [number for number in wanted if number not in files]
    if every_image and annotated is None:
        missing = missing_labels(scans, files)
    if missing:
        scan = scans[missing[0]]
        raise DataError(
            f"The scan {scan.path} has no labels: {labels} holds no file named {scan.name}, such "
            f"as {scan.name}.nii.gz; add it, or move the scan to another folder."
        )
    pairs = [
        LabelledScan(
            scans[number],
            file,
            annotated[scans[number].name] if annotated else whole,
            ignore=ignore,
            background=background,
        )
        for number, file in files.items()
        if annotated is None or number in wanted
    ]
    if pairing.orphans:
        raise DataError(
            f"The labels {pairing.orphans[0]} have no scan: {images} holds no file of that name; "
            "add it, or move the labels to another folder."
        )
    if not pairs:
        raise DataError(f"No scan in {images} has labels in {labels}; give both the same name.")
    if not match_classes:
        return pairs
    matched, match = match_labels(pairs, class_map)
    for note in match.notes:
        warnings.warn(note, ScanWarning, stacklevel=2)
    if labelled_classes is None:
        return matched
    values = class_values(labelled_classes, match.names, [item.name for item in matched])
    return [replace(item, labelled_classes=values.get(item.name)) for item in matched]


def _scans_to_pair(images: Path, labels: Path, sequence: str | None) -> list[Series]:
    """Scans of a folder, sorted by name, without files in the folder of the labels."""
    inside = labels.resolve() != images.resolve() and labels.resolve().is_relative_to(
        images.resolve()
    )
    scans = find_scans(images)
    if inside:
        root = labels.resolve()
        scans = [scan for scan in scans if not scan.path.resolve().is_relative_to(root)] or scans
    if labels.resolve() == images.resolve():
        files = [scan for scan in scans if scan.path.is_file()]
        named = [scan for scan in files if is_named_as_labels(scan.path, images)]
        # If all have such names, they are no sign of labels.
        scans = [scan for scan in scans if scan not in named] or scans
    if sequence:
        scans = choose_sequence(scans, sequence)
    by_name = unique_by_name(scans, lambda scan: scan.name, lambda scan: scan.path, images)
    return list(by_name.values())


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
    return LabelFile(
        name, segments, lambda: [v for v in values_in(item.load_labels().data) if v not in others]
    )


def read_annotated(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Read a list of annotated slices.

    Parameters
    ----------
    path : path-like
        JSON file, such as ``{"patient_07": [3, 9, 12]}``: indices of the annotated slices, from 0,
        along the slicing plane of the display grid (for axial slices, 0 is the most superior).

    Raises
    ------
    DataError
        If the file is missing or malformed.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"The list of annotated slices {path} does not exist; check the path.")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a JSON file ({error}); it must hold slice numbers by scan, such as "
            '{"patient_07": [3, 9, 12]}.'
        ) from error
    well_formed = isinstance(found, dict) and all(
        isinstance(slices, list) and all(type(index) is int for index in slices)
        for slices in found.values()
    )
    if not well_formed:
        raise DataError(
            f'{path} must hold slice numbers by scan, such as {{"patient_07": [3, 9, 12]}}.'
        )
    return {name: tuple(slices) for name, slices in found.items()}


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
