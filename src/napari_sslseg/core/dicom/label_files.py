"""Labels in DICOM files: which kind a file is, and what its label values are called."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from napari_sslseg.core.dicom.files import read_dataset, refusing_damage
from napari_sslseg.core.dicom.headers import SEGMENTATIONS, STRUCTURES
from napari_sslseg.core.dicom.read_seg import read_segmentation, segment_labels
from napari_sslseg.core.dicom.stack import Stack
from napari_sslseg.core.dicom.structures import read_structures, structure_labels
from napari_sslseg.core.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.geometry import Geometry


def read_label_file(
    path: Path, like: Geometry | None, header: object = None
) -> tuple[np.ndarray, Geometry]:
    """Read a DICOM segmentation or structure set.

    Parameters
    ----------
    path : Path
        The file.
    like : Geometry or None
        Grid of the scan; a segmentation has one of its own, a structure set needs it.
    header : object
        Header of the scan.

    Returns
    -------
    labels : ndarray
        In the source grid.
    geometry : Geometry
        That of the scan, where it is given.

    Raises
    ------
    VolumeError
        If it is neither, or damaged.
    GeometryError
        If it does not lie on the slices of the scan.
    """
    dataset, kind = _opened(path)
    _compare_origin(path, dataset, header)
    if kind != STRUCTURES:
        return read_segmentation(path, dataset, like, header)
    if like is None:
        raise GeometryError(
            f"{path} holds contours, which are filled on the slices of a scan; pass like=, the "
            "scan that they were drawn on."
        )
    return read_structures(path, dataset, like), like


def read_names(path: Path) -> dict[int, str]:
    """Name of each label value of a DICOM segmentation or structure set."""
    dataset, kind = _opened(path)
    with refusing_damage(path, "header"):
        return structure_labels(dataset) if kind == STRUCTURES else segment_labels(dataset)


def _opened(path: Path) -> tuple[Dataset, str]:
    dataset = read_dataset(path, everything=True)
    with refusing_damage(path, "header"):
        kind = str(dataset.get("SOPClassUID", ""))
    if kind not in (*SEGMENTATIONS, STRUCTURES):
        raise VolumeError(
            f"{path} is neither a DICOM segmentation nor a structure set (RTSTRUCT); choose a file "
            "of labels."
        )
    return dataset, kind


def _compare_origin(path: Path, dataset: Dataset, header: object) -> None:
    """Warn if labels neither share the origin of the scan's coordinates nor refer to its series."""
    if not isinstance(header, Stack):
        return
    with refusing_damage(path, "header"):
        scan = read_dataset(header.files[0])
        wanted = {
            str(scan.get(keyword))
            for keyword in ("FrameOfReferenceUID", "SeriesInstanceUID")
            if scan.get(keyword)
        }
        told = set(_relations(dataset)) - {"None", ""}
    if wanted and told and not wanted & told:
        warnings.warn(
            f"{path} refers to another scan than the one in {header.path}; check that the labels "
            "lie where they should.",
            ScanWarning,
            stacklevel=4,
        )


def _relations(dataset: Dataset) -> Iterator[str]:
    """Yield the frames of reference and the series that labels refer to."""
    yield str(dataset.get("FrameOfReferenceUID"))
    for region in dataset.get("StructureSetROISequence") or []:
        yield str(region.get("ReferencedFrameOfReferenceUID"))
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                yield str(series.get("SeriesInstanceUID"))
    for series in dataset.get("ReferencedSeriesSequence") or []:
        yield str(series.get("SeriesInstanceUID"))
