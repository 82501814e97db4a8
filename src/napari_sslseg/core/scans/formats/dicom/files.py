"""DICOM files opened without their pixels, and without a word about what stands in them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import Tag

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.image_file import (
    PARSER_ERRORS,
    check_present,
    reraise_parser_errors,
)

TAGS = [
    Tag(name)
    for name in (
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
        "Modality",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientBirthName",
        "OtherPatientIDs",
        "OtherPatientNames",
        "AccessionNumber",
        "ImageType",
        "FrameOfReferenceUID",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "SpacingBetweenSlices",
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "BitsAllocated",
        "BitsStored",
        "PixelRepresentation",
        "NumberOfFrames",
        "RescaleSlope",
        "RescaleIntercept",
        "ModalityLUTSequence",
        "EchoTime",
        "TemporalPositionIdentifier",
        "TriggerTime",
        "InversionTime",
        "FlipAngle",
        "DiffusionBValue",
        "DiffusionGradientOrientation",
        "AcquisitionNumber",
        "AcquisitionTime",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "DirectoryRecordSequence",
        0x00291010,  # Siemens CSA header, which tells the tiles of a mosaic
        0x00290010,
        0x0019100C,  # Siemens b-value
    )
]


@contextmanager
def silence_pydicom() -> Iterator[None]:
    """Keep pydicom from printing values that it finds odd: they may be a patient's."""
    before = config.settings.reading_validation_mode, config.logger.disabled
    config.settings.reading_validation_mode, config.logger.disabled = config.IGNORE, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode, config.logger.disabled = before


@contextmanager
def reraise_dicom_errors(
    path: Path, part: str, *, advice: str = "export or download it again"
) -> Iterator[None]:
    """Turn what pydicom raises inside the block into a VolumeError of one sentence.

    See :func:`~napari_sslseg.core.scans.formats.image_file.reraise_parser_errors`.

    Parameters
    ----------
    path : Path
        The file.
    part : str
        What of it is read, such as "header": all that the message tells. The library's own words
        may quote what stands in the file, and so the patient.
    advice : str
        What the user can do.
    """
    with reraise_parser_errors(path, "a DICOM file", advice=advice), silence_pydicom():
        try:
            yield
        except (*PARSER_ERRORS, BytesLengthException, InvalidDicomError) as error:
            raise ValueError(f"its {part} cannot be read") from error


def read_dataset(path: Path, *, everything: bool = False) -> Dataset:
    """Attributes of a file but its pixels: those of interest, or all.

    Raises
    ------
    VolumeError
        If it is no DICOM file, or a damaged one.
    """
    check_present(path)
    tags = None if everything else TAGS
    with reraise_dicom_errors(path, "header"), path.open("rb") as file:
        try:
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=tags)
        except InvalidDicomError:
            # Old scanners leave the mark at the start out; what follows decides.
            file.seek(0)
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=tags, force=True)
            if "SOPClassUID" not in dataset:
                raise VolumeError(
                    f"{path} is no DICOM file, or its start is damaged; export it again."
                ) from None
        # pydicom stops where the pixels begin.
        dataset.pixels_at = file.tell()
    return dataset
