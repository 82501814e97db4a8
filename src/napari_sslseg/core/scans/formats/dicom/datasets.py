"""Read DICOM headers without the pixels, and without printing their contents."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, AllTransferSyntaxes, DeflatedExplicitVRLittleEndian

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.deflated import MOST_HEADER, is_deflated, unpacked
from napari_sslseg.core.scans.formats.dicom.identity.persons import IDENTITY
from napari_sslseg.core.scans.formats.dicom.phases.private import private_tags
from napari_sslseg.core.scans.formats.foreign import RENAMED, recognise
from napari_sslseg.core.scans.formats.image_file import (
    PARSER_ERRORS,
    check_present,
    reraise_parser_errors,
)

GE_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
PHILIPS_NATIVE = "1.3.46.670589.33.1.4.1"
PRIVATE_NATIVE = (GE_BIG_ENDIAN_PIXELS, PHILIPS_NATIVE)
"""Private transfer syntaxes of known encoding: implicit and explicit little endian.

In that of GE, the pixels are big endian. Files in that of Philips may also be compressed in a way
that is not published.
"""

TAGS: list[BaseTag] = [
    Tag(name)
    for name in (
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "StudyDate",
        "SeriesNumber",
        "SeriesDescription",
        "Modality",
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
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "NumberOfFrames",
        "RescaleSlope",
        "RescaleIntercept",
        "ModalityLUTSequence",
        "RealWorldValueMappingSequence",
        "EchoTime",
        "EchoNumbers",
        "ComplexImageComponent",
        "NominalPercentageOfCardiacPhase",
        "NominalPercentageOfRespiratoryPhase",
        "FrameReferenceTime",
        "ConvolutionKernel",
        "KVP",
        "SequenceName",
        "ImageComments",
        "TemporalPositionIdentifier",
        "TriggerTime",
        "ScanOptions",
        "InversionTime",
        "FlipAngle",
        "DiffusionBValue",
        "DiffusionGradientOrientation",
        "AcquisitionNumber",
        "AcquisitionDateTime",
        "AcquisitionDate",
        "AcquisitionTime",
        "InstanceNumber",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "DirectoryRecordSequence",
        0x00291010,  # Siemens CSA header, which describes the tiles of a mosaic
        0x00290010,
    )
] + [*map(Tag, IDENTITY), *private_tags()]


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
    options: dict[str, Any] = {
        "stop_before_pixels": True,
        "specific_tags": None if everything else TAGS,
    }
    with reraise_dicom_errors(path, "header"), path.open("rb") as file:
        try:
            dataset = _parse(path, file, **options)
        except InvalidDicomError:
            # Files of old scanners lack the magic bytes; the attributes decide.
            file.seek(0)
            dataset = dcmread(file, force=True, **options)
            if "SOPClassUID" not in dataset:
                if other := recognise(path) or recognise(path, RENAMED):
                    raise VolumeError(f"{path} is {other.name}; {other.advice}.") from None
                raise VolumeError(
                    f"{path} is not a DICOM file, or its start is damaged; export it again."
                ) from None
        # pydicom stops at the start of the pixels.
        dataset.pixels_at = file.tell()
    return dataset


def read_deflated(path: Path) -> Dataset:
    """Read a file whose attributes are compressed as a whole, with its pixels.

    Raises
    ------
    VolumeError
        If it is damaged, or unpacks to more than its header says.
    """
    header = read_dataset(path)
    with reraise_dicom_errors(path, "pixels"), path.open("rb") as file:
        numbers = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
        bits = math.prod(int(header.get(name) or 1) for name in numbers)
        return _parse(path, file, most=bits // 8 + 2 * MOST_HEADER)


def refuse_unknown_syntax(path: Path, syntax: str) -> None:
    """Refuse a transfer syntax that is neither of the standard nor a known private one.

    Raises
    ------
    VolumeError
        If the syntax is unknown.
    """
    if syntax and UID(syntax) not in AllTransferSyntaxes and syntax not in PRIVATE_NATIVE:
        private = "" if syntax.startswith("1.2.840.10008.") else "private to a manufacturer and "
        raise VolumeError(
            f"{path} is stored in the transfer syntax {syntax}, which is {private}unknown here; "
            "export it uncompressed, in Explicit VR Little Endian."
        )


def _parse(path: Path, file: BinaryIO, *, most: int = MOST_HEADER, **options: Any) -> Dataset:
    """Read a file; a deflated one may unpack to ``most`` bytes."""
    try:
        if is_deflated(file):
            dataset = dcmread(unpacked(file, most), **options)
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            return dataset
        return dcmread(file, **options)
    except PARSER_ERRORS:
        # Attributes in an unknown encoding look like damaged ones.
        refuse_unknown_syntax(path, str(read_file_meta_info(path).get("TransferSyntaxUID", "")))
        raise
