"""Read DICOM headers without the pixels, and without printing their contents."""

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
        0x00291010,  # Siemens CSA header, which describes the tiles of a mosaic
        0x00290010,
        0x0019100C,  # Siemens b-value
    )
]


@contextmanager
def silence_pydicom() -> Iterator[None]:
    """Silence pydicom, which prints unusual values: they may identify a patient."""
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
        Part of the file that is read, such as "header". The message names only this: messages of
        the library may quote values, and so identify the patient.
    advice : str
        Advice for the user.
    """
    with reraise_parser_errors(path, "a DICOM file", advice=advice), silence_pydicom():
        try:
            yield
        except (*PARSER_ERRORS, BytesLengthException, InvalidDicomError) as error:
            raise ValueError(f"its {part} cannot be read") from error


def read_dataset(path: Path, *, everything: bool = False) -> Dataset:
    """Read the attributes of a file, without its pixels.

    Parameters
    ----------
    path : Path
        The file.
    everything : bool
        Whether to read all attributes, or only ``TAGS``.

    Raises
    ------
    VolumeError
        If it is not a DICOM file, or damaged.
    """
    check_present(path)
    tags = None if everything else TAGS
    with reraise_dicom_errors(path, "header"), path.open("rb") as file:
        try:
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=tags)
        except InvalidDicomError:
            # Files of old scanners lack the magic bytes; the attributes decide.
            file.seek(0)
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=tags, force=True)
            if "SOPClassUID" not in dataset:
                raise VolumeError(
                    f"{path} is not a DICOM file, or its start is damaged; export it again."
                ) from None
        # pydicom stops at the start of the pixels.
        dataset.pixels_at = file.tell()
    return dataset
