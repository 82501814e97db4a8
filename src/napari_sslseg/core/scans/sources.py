"""Scans to learn from, and the masks that some pretext tasks learn with."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.scans.find import find_scans
from napari_sslseg.core.scans.labelled import LabelledScan, Scan
from napari_sslseg.core.scans.names import label_paths
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Volume

CollectedScan = Volume | Series | LabelledScan


def collect_scans(scans: str | Path | Iterable[Scan | str]) -> list[CollectedScan]:
    """Volumes, series and scans with masks as they are, files and folders as the series in them.

    Raises
    ------
    SslsegError
        If there is none, or a file or folder holds none.
    """
    if isinstance(scans, str | Path):
        scans = [scans]
    gathered: list[CollectedScan] = []
    for scan in scans:
        if isinstance(scan, LabelledScan):
            gathered.append(scan.opened())
        elif isinstance(scan, Volume | Series):
            gathered.append(scan)
        else:
            gathered += find_scans(scan)
    if not gathered:
        raise DataError("There is no scan to learn from; choose at least one.")
    return gathered


def check_unique_names(names: Iterable[str]) -> None:
    """Refuse scans of one name, which masks and lists cannot tell apart.

    Raises
    ------
    DataError
        It names one that is there twice.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(
                f"Two scans have the name {name}, so masks and lists of slices cannot tell them "
                "apart; rename one of them."
            )
        seen.add(name)


def without_labels(scan: CollectedScan) -> Volume | Series | Path:
    """Give a scan without its mask."""
    return scan.scan if isinstance(scan, LabelledScan) else scan


def with_masks(scans: Iterable[CollectedScan], masks: str | Path) -> list[CollectedScan]:
    """Give scans the masks of their names; those without one stay as they are.

    Parameters
    ----------
    scans : iterable of Volume or Series
        The scans.
    masks : path-like
        Folder of label files, or one.

    Raises
    ------
    DataError
        If no mask has the name of a scan.
    """
    scans = list(scans)
    check_unique_names(scan.name for scan in scans)
    files = label_paths(masks)
    found: list[CollectedScan] = []
    for scan in scans:
        mask = files.get(scan.name)
        found.append(scan if mask is None else LabelledScan(without_labels(scan), mask))
    if not any(isinstance(scan, LabelledScan) for scan in found):
        raise DataError(
            f"No mask in {masks} has the name of a scan; give masks the names of their scans."
        )
    return found


def organ_slices(
    scans: Sequence[CollectedScan], plane: Plane = "axial", organ: Sequence[int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Slices on which an organ is, by scan, for PolyCL by organ.

    Parameters
    ----------
    scans : sequence
        Those with masks are told of, others are not. Give masks of training scans alone: those of
        scans kept for a test would leak into what the network learns.
    plane : {"axial", "coronal", "sagittal"}
        Plane of the slices.
    organ : sequence of int, optional
        Label values of the organ; all but 0 if not given.

    Returns
    -------
    dict of str to tuple of int
        Numbers of the slices along the plane of the display grid, from 0.
    """
    check_unique_names(scan.name for scan in scans)
    tags = {}
    for scan in scans:
        if not isinstance(scan, LabelledScan):
            continue
        _, mask = scan.load()
        values = np.moveaxis(mask.data, PLANE_AXIS[plane], 0)
        shown = values > 0 if organ is None else np.isin(values, organ)
        tags[scan.name] = tuple(np.flatnonzero(shown.any(axis=(1, 2))).tolist())
    return tags
