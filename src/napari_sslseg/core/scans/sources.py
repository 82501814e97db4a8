"""Collect scans for training, and the masks that some pretext tasks need."""

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import PATH, DataError, ScanWarning, check_type
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.classes.partial_labels import refuse_unknown_organ
from napari_sslseg.core.scans.classes.renumber import values_in
from napari_sslseg.core.scans.classes.scan_classes import match_labels
from napari_sslseg.core.scans.find import find_scans
from napari_sslseg.core.scans.labelled import LabelledScan, Scan
from napari_sslseg.core.scans.matching.pairing import LabelFiles, Pairing
from napari_sslseg.core.scans.matching.patients import guess_together
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Volume

CollectedScan = Volume | Series | LabelledScan


def collect_scans(scans: str | Path | Iterable[Scan | str]) -> list[CollectedScan]:
    """Collect scans: files and folders are replaced by the series in them.

    Parameters
    ----------
    scans : path-like or iterable
        Files, folders, series, volumes and labelled scans.

    Returns
    -------
    list of Volume, Series or LabelledScan
        Scans whose patients are guessed from all names together, where no header and no user
        names them.

    Raises
    ------
    SslsegError
        If there is no scan, or a file or folder holds none.
    """
    if isinstance(scans, str | Path | Volume | Series | LabelledScan):
        scans = [scans]
    check_type(scans, (*PATH, Iterable), "scans", "a folder of scans, or a list of scans")
    gathered: list[CollectedScan] = []
    for scan in scans:
        if isinstance(scan, LabelledScan):
            gathered.append(scan.opened())
        elif isinstance(scan, Volume | Series):
            gathered.append(scan)
        else:
            gathered += find_scans(scan)
    if not gathered:
        raise DataError("There are no scans for training; choose at least one.")
    return guess_together(gathered)


def check_unique_names(names: Iterable[str]) -> None:
    """Check that scans have different names, since masks and lists refer to them by name.

    Raises
    ------
    DataError
        If two scans have the same name; the message contains it.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(
                f"Two scans have the name {name}, so masks and lists of slices are ambiguous; "
                "rename one of them."
            )
        seen.add(name)


def without_labels(scan: Scan) -> Volume | Series | Path:
    """Return the scan of a labelled scan, and other scans unchanged."""
    return scan.scan if isinstance(scan, LabelledScan) else scan


def with_masks(
    scans: Iterable[CollectedScan], masks: str | Path, class_map: ClassMapLike = None
) -> list[CollectedScan]:
    """Combine scans with the masks of their names; scans without a mask stay unchanged.

    A mask is found as the labels of a scan, see
    :mod:`~napari_sslseg.core.scans.matching.pairing`; several sequences may have one mask.

    Parameters
    ----------
    scans : iterable of Volume or Series
        Scans with unique names.
    masks : path-like
        A label file, or a folder of label files.
    class_map : ClassMap, path-like or mapping, optional
        Which structure in the masks is which class, see
        :func:`~napari_sslseg.core.scans.classes.scan_classes.match_labels`.

    Raises
    ------
    DataError
        If no mask has the name of a scan.
    ClassesError
        If it is not clear which structure is which class.
    """
    scans = list(scans)
    check_unique_names(scan.name for scan in scans)
    files = _mask_files(scans, Path(masks))
    found: list[CollectedScan] = []
    for number, scan in enumerate(scans):
        mask = files.get(number)
        found.append(scan if mask is None else LabelledScan(without_labels(scan), mask))
    if not any(isinstance(scan, LabelledScan) for scan in found):
        raise DataError(
            f"No mask in {masks} has the name of a scan; give masks the names of their scans."
        )
    places = [number for number, scan in enumerate(found) if isinstance(scan, LabelledScan)]
    masked = [scan for scan in found if isinstance(scan, LabelledScan)]
    matched, match = match_labels(masked, class_map)
    for note in match.notes:
        warnings.warn(note, ScanWarning, stacklevel=2)
    for place, scan in zip(places, matched, strict=True):
        found[place] = scan
    return found


def _mask_files(scans: Sequence[CollectedScan], masks: Path) -> dict[int, LabelFiles]:
    """Return the masks by the number of the scan."""
    series = []
    for scan in scans:
        plain = scan.opened().scan if isinstance(scan, LabelledScan) else scan
        if isinstance(plain, Volume):
            plain = Series(plain.name, plain.subject, plain.path or Path(plain.name), ())
        assert isinstance(plain, Series)
        series.append(plain)
    folders = [str(item.path.absolute().parent) for item in series]
    return Pairing(series, Path(os.path.commonpath(folders)), masks, shared=True).pairs()


def organ_slices(
    scans: Sequence[CollectedScan], plane: Plane = "axial", organ: Sequence[int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Find the slices that show an organ, by scan, for PolyCL with organ labels.

    Parameters
    ----------
    scans : sequence
        Scans; those without masks are ignored. Masks must be of training scans only: masks of
        test scans would leak into training.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    organ : sequence of int, optional
        Label values of the organ; all values except 0 if not given.

    Returns
    -------
    dict of str to tuple of int
        Indices of the slices along the plane of the display grid, from 0.

    Raises
    ------
    DataError
        If no organ is given, and a value of the masks seems to mean that the class is unknown.
    """
    check_unique_names(scan.name for scan in scans)
    found = {}
    every: set[int] = set()
    for scan in scans:
        if not isinstance(scan, LabelledScan):
            continue
        _, mask = scan.load()
        values = np.moveaxis(mask.data, PLANE_AXIS[plane], 0)
        inside = values > 0 if organ is None else np.isin(values, organ)
        found[scan.name] = tuple(np.flatnonzero(inside.any(axis=(1, 2))).tolist())
        every.update(values_in(mask.data) if organ is None else ())
    refuse_unknown_organ(every)
    return found
