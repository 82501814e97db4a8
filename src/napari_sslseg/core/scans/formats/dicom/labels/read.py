"""Read DICOM label files of either kind, and the series that they refer to."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.scans.formats.dicom.datasets import read_dataset, reraise_dicom_errors
from napari_sslseg.core.scans.formats.dicom.headers import SEGMENTATIONS, STRUCTURES, Header
from napari_sslseg.core.scans.formats.dicom.identity.naming import pseudonym, short_hash
from napari_sslseg.core.scans.formats.dicom.labels.read_rtstruct import read_structures
from napari_sslseg.core.scans.formats.dicom.labels.read_seg import read_segmentation
from napari_sslseg.core.scans.formats.dicom.volume import DicomVolume
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.series import Series


def read_label_file(
    path: Path, like: Geometry | None, header: object = None
) -> tuple[np.ndarray, Geometry]:
    """Read a DICOM segmentation or structure set.

    Parameters
    ----------
    path : Path
        The file.
    like : Geometry or None
        Grid of the scan; required for a structure set, optional for a segmentation.
    header : object
        Header of the scan.

    Returns
    -------
    labels : ndarray
        Labels in the source grid.
    geometry : Geometry
        Grid of the scan if it is given, else of the segmentation.

    Raises
    ------
    VolumeError
        If the file is neither, or damaged.
    GeometryError
        If the labels are not on the slices of the scan.
    """
    dataset, kind = open_label_file(path)
    _compare_origin(path, dataset, header)
    if kind != STRUCTURES:
        return read_segmentation(path, dataset, like, header)
    if like is None:
        raise GeometryError(
            f"{path} holds contours, which are filled on the slices of a scan; pass like=, the "
            "scan that they were drawn on."
        )
    return read_structures(path, dataset, like, header), like


def referenced_series(path: Path, series: Sequence[Series]) -> list[Series]:
    """Find the series that a DICOM segmentation or structure set refers to.

    Parameters
    ----------
    path : Path
        The label file.
    series : sequence of Series
        Series to choose from.

    Returns
    -------
    list of Series
        Matched by the referenced images, which distinguish phases of one series; else by the
        referenced series; else, if there are no references, by the frame of reference.
    """
    dataset, _ = open_label_file(path)
    stacks = [(item, item.image) for item in series if isinstance(item.image, DicomVolume)]
    with reraise_dicom_errors(path, "references"):
        parts = ("PerFrameFunctionalGroupsSequence", "ROIContourSequence")
        drawn_on = {image for part in parts for image in _images(dataset.get(part) or [])}
        listed = set(_images([dataset]))
        for images in (drawn_on, listed):
            found = [item for item, stack in stacks if _shows(stack, images)]
            if found:
                return found
        uids, keyword = _series(dataset), "SeriesInstanceUID"
        if not uids and not listed:
            uids, keyword = _frames_of_reference(dataset), "FrameOfReferenceUID"
    return [
        item for item, stack in stacks if str(read_dataset(stack.files[0]).get(keyword)) in uids
    ]


def referenced_names(path: Path, names: Sequence[str]) -> list[str]:
    """Find the names of series that a DICOM segmentation or structure set refers to.

    Parameters
    ----------
    path : Path
        The label file.
    names : sequence of str
        Names as those of :func:`~napari_sslseg.core.scans.formats.dicom.series.dicom_series`, which
        contain the pseudonym of the patient and a hash of the series.

    Returns
    -------
    list of str
        Those of the referenced series; else of the patient.
    """
    dataset, _ = open_label_file(path)
    with reraise_dicom_errors(path, "references"):
        patient = pseudonym(Header(path, dataset))
        hashes = {short_hash(uid) for uid in _series(dataset)}
    mine = [name for name in names if patient in name.split("_")]
    return [name for name in mine if hashes.intersection(name.split("_"))] or mine


def _images(items: Iterable[Dataset]) -> Iterator[tuple[str, int | None]]:
    """Yield the referenced images at any depth: the instance, and the frame number if given."""
    for item in items:
        if item.get("ReferencedSOPInstanceUID"):
            frames = item.get("ReferencedFrameNumber")
            for frame in [frames] if isinstance(frames, int | None) else frames:
                yield str(item.ReferencedSOPInstanceUID), None if frame is None else int(frame)
        for element in item:
            if element.VR == "SQ":
                yield from _images(element.value)


def _shows(stack: DicomVolume, images: set[tuple[str, int | None]]) -> bool:
    """Return whether a stack contains one of the images, or frames if frames are given."""
    by_frame = {instance for instance, frame in images if frame is not None}
    return any(
        (plane.instance, None if plane.frame is None else plane.frame + 1) in images
        or ((plane.instance, None) in images and plane.instance not in by_frame)
        for plane in stack.planes
    )


def open_label_file(path: Path) -> tuple[Dataset, str]:
    """Read the attributes of a DICOM label file, and its kind (SOP class).

    Raises
    ------
    VolumeError
        If it is neither a segmentation nor a structure set.
    """
    dataset = read_dataset(path, everything=True)
    with reraise_dicom_errors(path, "header"):
        kind = str(dataset.get("SOPClassUID", ""))
    if kind not in (*SEGMENTATIONS, STRUCTURES):
        raise VolumeError(
            f"{path} is neither a DICOM segmentation nor a structure set (RTSTRUCT); choose a file "
            "of labels."
        )
    return dataset, kind


def _compare_origin(path: Path, dataset: Dataset, header: object) -> None:
    """Warn if labels have another frame of reference than the scan and refer to another series."""
    if not isinstance(header, DicomVolume):
        return
    with reraise_dicom_errors(path, "header"):
        scan = read_dataset(header.files[0])
        wanted = {
            str(scan.get(keyword))
            for keyword in ("FrameOfReferenceUID", "SeriesInstanceUID")
            if scan.get(keyword)
        }
        referenced = {*_frames_of_reference(dataset), *_series(dataset)}
    if wanted and referenced and not wanted & referenced:
        warnings.warn(
            f"{path} refers to another scan than the one in {header.path}; check the position "
            "of the labels.",
            ScanWarning,
            stacklevel=4,
        )


def _frames_of_reference(dataset: Dataset) -> set[str]:
    """Return the frames of reference of labels."""
    regions = dataset.get("StructureSetROISequence") or []
    uids = [region.get("ReferencedFrameOfReferenceUID") for region in regions]
    return {str(uid) for uid in (dataset.get("FrameOfReferenceUID"), *uids) if uid}


def _series(dataset: Dataset) -> set[str]:
    """Return the series that labels refer to."""
    found = list(dataset.get("ReferencedSeriesSequence") or [])
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            found += study.get("RTReferencedSeriesSequence") or []
    return {str(item.SeriesInstanceUID) for item in found if item.get("SeriesInstanceUID")}
