"""Write labels as a DICOM segmentation (SEG) that refers to its source series."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import config
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.classes.class_codes import (
    TISSUE,
    Algorithm,
    SegmentClass,
    describe_classes,
)
from napari_sslseg.core.scans.formats.dicom.datasets import (
    read_dataset,
    reraise_dicom_errors,
    silence_pydicom,
)
from napari_sslseg.core.scans.formats.dicom.labels.resampled import labels_to_planes
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.volume import DicomVolume
from napari_sslseg.core.scans.formats.image_file import reraise_parser_errors
from napari_sslseg.core.scans.geometry import Geometry

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

MANUFACTURER = "napari-sslseg"
# Segment numbers count from 1 without gaps; the label value of a segment is stored in its
# description, where users can read it too.
VALUE_TEXT = "Label value {}"
MOST_SEGMENTS = 65535
# highdicom requires these of every source; some files lack them.
_EXPECTED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
# Groups of attributes about the patient and the study.
_PATIENT_GROUPS = (0x0008, 0x0010, 0x0012, 0x0020, 0x0032, 0x0038, 0x0040)
# Replaces private SOP classes of sources, whose modules no table lists.
_MR = "1.2.840.10008.5.1.4.1.1.4"


def write_segmentation(
    source: np.ndarray,
    geometry: Geometry,
    header: object,
    path: Path,
    *,
    classes: Mapping[int, str | SegmentClass] | None = None,
    algorithm: Algorithm = "AUTOMATIC",
) -> None:
    """Write labels on the source grid of a DICOM series as a binary segmentation.

    Parameters
    ----------
    source : ndarray of int
        Labels in the source grid.
    geometry : Geometry
        Grid of the labels, which must be that of the series.
    header : object
        The :class:`~napari_sslseg.core.scans.formats.dicom.volume.DicomVolume` of the series.
    path : Path
        The file.
    classes : mapping of int to str or SegmentClass, optional
        Classes by label value.
    algorithm : {"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}
        How the labels were created, for classes without their own ``algorithm``.

    Raises
    ------
    VolumeError
        If the labels are not on a DICOM series, or the series cannot be referenced.
    """
    if not isinstance(header, DicomVolume) or not _same_grid(geometry, header.geometry):
        raise VolumeError(
            "A DICOM segmentation (.dcm) refers to the DICOM series of the labels, and these are "
            "on another kind of scan; load the series, or save them as .nii.gz."
        )
    planes, masks = list(header.planes), labels_to_planes(source, header)
    segments = _describe_segments(masks, classes, algorithm, path)
    stored = _segment_numbers(masks, list(segments))
    if not stored.any():
        # A file needs at least one frame; one empty frame is enough.
        planes, stored = planes[:1], stored[:1]
    segmentation = _make_segmentation(header, planes, stored, segments)
    with _silence_libraries():
        segmentation.save_as(path, enforce_file_format=True)


def _describe_segments(
    masks: np.ndarray,
    classes: Mapping[int, str | SegmentClass] | None,
    algorithm: Algorithm,
    path: Path,
) -> dict[int, SegmentClass]:
    """Describe the label values on the planes; without any, a single empty segment.

    Raises
    ------
    VolumeError
        If there are more classes than a file can hold.
    """
    values = {int(value) for mask in masks for value in np.unique(mask)}
    segments = describe_classes(values, classes, algorithm)
    segments = segments or describe_classes([1], None, algorithm)
    if len(segments) > MOST_SEGMENTS:
        raise VolumeError(
            f"{path.name} cannot hold {len(segments)} classes; save them as .nii.gz instead."
        )
    return segments


def _segment_numbers(masks: np.ndarray, values: list[int]) -> np.ndarray:
    """Convert ascending label values to segment numbers 1, 2, …; 0 stays 0."""
    stored = np.empty(masks.shape, np.min_scalar_type(len(values)))
    for mask, out in zip(masks, stored, strict=True):
        out[:] = np.searchsorted([0, *values], mask)
    return stored


def _make_segmentation(
    stack: DicomVolume,
    planes: list[ImagePlane],
    stored: np.ndarray,
    segments: Mapping[int, SegmentClass],
) -> "Segmentation":
    """Create the segmentation with references to its series, and with the patient of the series."""
    first = stack.files[0]
    what = "the source of a DICOM segmentation"
    with _silence_libraries(), reraise_parser_errors(first, what, advice=_ADVICE):
        sources = {file: read_dataset(file) for file in stack.files}
        _check(stack, sources)
        frame_of_reference = sources[first].get("FrameOfReferenceUID") or _new_uid()
        images = [
            _stand_in(plane, number, sources[first], frame_of_reference)
            for number, plane in enumerate(planes)
        ]
        descriptions = [
            _description(number, value, item)
            for number, (value, item) in enumerate(segments.items(), 1)
        ]
        segmentation = _segmentation(images, stored, descriptions, sources[first])
        _state_distance(segmentation, stack)
        _refer(segmentation, planes, sources)
    with _silence_libraries(), reraise_dicom_errors(first, "patient and study", advice=_ADVICE):
        _copy_patient(segmentation, read_dataset(first, everything=True))
    return segmentation


_ADVICE = "save as .nii.gz instead"


@contextmanager
def _silence_libraries() -> Iterator[None]:
    """Prevent the libraries from printing, logging or rejecting values of the patient."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with silence_pydicom(), config.disable_value_validation():
            yield
    finally:
        logger.setLevel(level)


def _same_grid(one: Geometry, other: Geometry) -> bool:
    return one.shape == other.shape and np.allclose(one.affine, other.affine, rtol=0, atol=1e-4)


def _check(stack: DicomVolume, sources: Mapping[Path, Dataset]) -> None:
    """Check that the series can be referenced and consists of single images.

    Raises
    ------
    VolumeError
        If it does not.
    """
    if any(plane.tile for plane in stack.planes):
        raise VolumeError(
            f"{stack.path} is a mosaic, whose tiles a DICOM segmentation cannot refer to; "
            f"{_ADVICE}."
        )
    for path, dataset in sources.items():
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            if not dataset.get(keyword):
                raise VolumeError(
                    f"{path} has no {dictionary_description(keyword)}, which a DICOM segmentation "
                    f"needs to refer to it (anonymisation may have removed it); {_ADVICE}."
                )


def _stand_in(plane: ImagePlane, number: int, source: Dataset, frame_of_reference: str) -> Dataset:
    """Describe a plane to highdicom as a single image without a patient.

    So highdicom handles all series alike: classic, multi-frame, and files that lack attributes.
    ``_refer`` and ``_copy_patient`` add the references and the patient afterwards.
    """
    image = Dataset()
    for keyword in _EXPECTED:
        setattr(image, keyword, "")
    image.SOPClassUID = _MR
    image.SOPInstanceUID = f"2.25.{number + 1}"
    image.StudyInstanceUID = source.StudyInstanceUID
    image.SeriesInstanceUID = source.SeriesInstanceUID
    image.FrameOfReferenceUID = frame_of_reference
    image.Modality = source.get("Modality") or "OT"
    image.Rows, image.Columns = plane.shape
    image.ImagePositionPatient = [_number(value) for value in plane.position]
    image.ImageOrientationPatient = [_number(value) for value in plane.orientation]
    image.PixelSpacing = [_number(value) for value in plane.spacing]
    image.SliceThickness = _number(plane.thickness or plane.distance or 1.0)
    return image


def _number(value: float) -> str:
    """Format a decimal string of DICOM, at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    text = repr(float(value))
    return text if len(text) <= 16 else format_number_as_ds(float(value))


def _new_uid() -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid())


def _description(number: int, value: int, item: SegmentClass) -> "SegmentDescription":
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    name = _text(item.name)
    algorithm = None
    if item.algorithm != "MANUAL":
        algorithm = AlgorithmIdentificationSequence(
            _text(item.algorithm_name), codes.DCM.ArtificialIntelligence, version(MANUFACTURER)
        )
    description = SegmentDescription(
        number,
        name,
        CodedConcept(*(item.category or TISSUE)),
        CodedConcept(*(item.type or TISSUE)),
        item.algorithm or "AUTOMATIC",
        algorithm,
        tracking_uid=_new_uid(),
        tracking_id=name,
        display_color=None if item.color is None else CIELabColor.from_rgb(*item.color),
    )
    description.SegmentDescription = VALUE_TEXT.format(value)
    if item.side is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept(*item.side)]
    return description


def _text(text: str) -> str:
    """Convert text to a long string (LO) of DICOM, at most 64 characters."""
    return "".join(c if c.isprintable() and c != "\\" else " " for c in text).strip()[:64]


def _segmentation(
    images: list[Dataset], masks: np.ndarray, descriptions: list[Any], source: Dataset
) -> "Segmentation":
    from highdicom.seg import Segmentation

    series = source.get("SeriesNumber")
    return Segmentation(
        source_images=images,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=_new_uid(),
        series_number=1000 + max(0, min(int(series or 0), 10**6)),
        sop_instance_uid=_new_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=version(MANUFACTURER)[:64],
        device_serial_number="1",
        omit_empty_frames=bool(masks.any()),
        content_label="SEGMENTATION",
        content_description="Segmentation by napari-sslseg",
        series_description="Segmentation",
        # Unicode, since names of classes may be in another script than the name of the patient.
        specific_character_set="ISO_IR 192",
    )


def _state_distance(segmentation: Dataset, stack: DicomVolume) -> None:
    """Store the distance of evenly spaced slices, also if only one of them has labels."""
    steps = np.diff(stack.layout.along)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if not len(steps) or np.ptp(steps) < 1e-6:
        measures.SpacingBetweenSlices = _number(stack.layout.distance)
    elif "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices


def _refer(
    segmentation: Dataset, planes: list[ImagePlane], sources: Mapping[Path, Dataset]
) -> None:
    """Replace references to stand-in images by references to the source files and frames."""
    sources_by_uid = {f"2.25.{number + 1}": plane for number, plane in enumerate(planes)}
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                plane = sources_by_uid.get(item.ReferencedSOPInstanceUID)
                if plane is None:  # shared with another segment, already replaced
                    continue
                item.ReferencedSOPClassUID = sources[plane.path].SOPClassUID
                item.ReferencedSOPInstanceUID = sources[plane.path].SOPInstanceUID
                if plane.frame is not None:
                    item.ReferencedFrameNumber = plane.frame + 1
    references = []
    for dataset in sources.values():
        reference = Dataset()
        reference.ReferencedSOPClassUID = dataset.SOPClassUID
        reference.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        references.append(reference)
    segmentation.SourceImageSequence = references
    series = Dataset()
    series.SeriesInstanceUID = next(iter(sources.values())).SeriesInstanceUID
    series.ReferencedInstanceSequence = references
    segmentation.ReferencedSeriesSequence = [series]


def _copy_patient(segmentation: "Segmentation", source: Dataset) -> None:
    """Copy the patient and the study of the source, in the text encoding of the new file."""
    from highdicom._standard_utils import get_sop_class_iod_map

    tags = list(source.keys())  # iterating over the dataset itself would parse every value
    for tag in tags:
        if tag.group not in _PATIENT_GROUPS:
            del source[tag]
    source.decode()
    if source.SOPClassUID not in get_sop_class_iod_map():
        source.SOPClassUID = _MR
    segmentation.copy_patient_and_study_information(source)
