"""What the header of a DICOM file tells: whose it is, and where each of its image planes lies."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from napari_sslseg.core.dicom.mosaic import is_mosaic, mosaic_tiles
from napari_sslseg.core.errors import VolumeError
from napari_sslseg.core.reading import check_present, refusing

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

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
NO_SCAN = {
    "RTDOSE": "a dose distribution",
    "SM": "a microscopy image",
}


@dataclass(frozen=True, slots=True)
class Plane:
    """One image plane: a classic file, a frame of a multi-frame file, or a tile of a mosaic.

    Parameters
    ----------
    path : Path
        The file.
    instance : str
        Its SOP instance UID.
    frame : int or None
        Index in a multi-frame file.
    tile : tuple of int or None
        First row and column in a mosaic.
    shape : tuple of int
        Rows and columns.
    position : tuple of float
        Centre of the first pixel in LPS mm.
    orientation : tuple of float
        Direction cosines of the rows and of the columns, as in Image Orientation (Patient).
    spacing : tuple of float
        Between rows and between columns, in mm.
    thickness : float or None
        Slice thickness in mm.
    distance : float or None
        Spacing between slices as the header states it, in mm.
    rescale : tuple of float
        Slope and intercept.
    raw : tuple or None
        Where uncompressed 16-bit values begin in the file: position of the element, unused bits,
        whether they are signed.
    phase : tuple
        What may tell volumes at the same place apart: kind of image, stack, echo time, time
        point, trigger time, b-value, gradient direction, acquisition, its time.
    """

    path: Path
    instance: str
    frame: int | None
    tile: tuple[int, int] | None
    shape: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None
    distance: float | None
    rescale: tuple[float, float]
    raw: tuple[int, int, bool] | None
    phase: tuple[str, ...]

    def fits(self, kind: np.dtype) -> bool:
        """Whether rescaled values fit an integer type whatever they are."""
        if self.raw is None:
            return False
        _, unused, signed = self.raw
        bits = 16 - unused - signed
        low, high = -(2**bits) if signed else 0, 2**bits - 1
        limits = np.iinfo(kind)
        return limits.min <= low + self.rescale[1] and high + self.rescale[1] <= limits.max


@dataclass(frozen=True)
class Header:
    """One DICOM file: the series that it belongs to, and its planes or why it has none."""

    path: Path
    dataset: Dataset = field(repr=False)
    planes: tuple[Plane, ...] = ()
    problem: str | None = None
    is_scan: bool = True
    mosaic: bool = False

    def text(self, keyword: str) -> str:
        """Value of an attribute as text, empty if it is absent."""
        value = self.dataset.get(keyword)
        return "" if value is None else str(value).strip()


@contextmanager
def quietly() -> Iterator[None]:
    """Keep pydicom from printing values that it finds odd: they may be a patient's."""
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = before


def read_dataset(path: Path, *, everything: bool = False) -> Dataset:
    """Attributes of a file but its pixels: those of interest, or all.

    Raises
    ------
    VolumeError
        If it is no DICOM file, or a damaged one.
    """
    check_present(path)
    tags = None if everything else TAGS
    with refusing(path, "a DICOM file"), quietly(), path.open("rb") as file:
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


def read_header(path: Path) -> Header:
    """Read one file; whatever is wrong with it stands in ``problem``."""
    try:
        dataset = read_dataset(path)
    except VolumeError as error:
        return Header(path, Dataset(), problem=str(error))
    try:
        with refusing(path, "a DICOM image"), quietly():
            other = _no_scan(dataset)
            if other:
                return Header(path, dataset, problem=f"{path} {other}.", is_scan=False)
            mosaic = is_mosaic(dataset)
            planes = tuple(_planes(path, dataset, mosaic))
            _check(planes, path)
    except VolumeError as error:
        return Header(path, dataset, problem=str(error))
    return Header(path, dataset, planes, mosaic=mosaic)


def _no_scan(dataset: Dataset) -> str | None:
    """Say what it is if it is no scan by its nature."""
    kind = str(dataset.get("SOPClassUID", ""))
    modality = str(dataset.get("Modality", ""))
    image_type = [str(part).upper() for part in dataset.get("ImageType") or []]
    if kind.startswith(SEGMENTATIONS):
        return "is a segmentation, no scan; open it as labels of its scan"
    if kind == STRUCTURES:
        return "holds contours of structures (RTSTRUCT), no scan; open it as labels of its scan"
    if kind == DIRECTORY or "DirectoryRecordSequence" in dataset:
        return "is a list of files (DICOMDIR), no scan"
    if modality in NO_SCAN:
        return f"is {NO_SCAN[modality]}, no scan"
    if not dataset.get("Rows") or not dataset.get("Columns"):
        return f"holds no image but {UID(kind).name or 'something else'}"
    if kind.startswith(SECONDARY_CAPTURE):
        return "is a secondary capture, a picture of a screen or a result, no scan"
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        return "is a localizer (scout), which serves to plan a scan; choose the scan itself"
    if "PROJECTION IMAGE" in image_type:
        return "is a projection of a scan seen from one side; choose the scan itself"
    if dataset.get("SamplesPerPixel", 1) != 1 or "PALETTE" in str(
        dataset.get("PhotometricInterpretation", "")
    ):
        return "is a colour image; choose the grey values that it was made from"
    return None


def _planes(path: Path, dataset: Dataset, mosaic: bool) -> Iterator[Plane]:
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups:
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        frames = int(dataset.get("NumberOfFrames") or 1)
        if len(groups) != frames:
            raise VolumeError(
                f"{path} describes {len(groups)} frames but holds {frames}; export it again."
            )
        for number, group in enumerate(groups):
            yield _plane(path, dataset, [group, shared], frame=number)
        return
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise VolumeError(
            f"{path} holds {dataset.NumberOfFrames} frames without their positions in the "
            "patient; export it as single slices or as an enhanced multi-frame image."
        )
    plane = _plane(path, dataset, [])
    if mosaic:
        yield from mosaic_tiles(plane, dataset)
    else:
        yield plane


def _plane(path: Path, dataset: Dataset, groups: list[Dataset], frame: int | None = None) -> Plane:
    """Collect the plane of a classic file, or of a frame from its own and the shared groups."""

    def find(sequence: str, keyword: str) -> Any:
        for group in groups:
            for item in (group.get(sequence) or [])[:1]:
                if item.get(keyword) is not None:
                    return item.get(keyword)
        return dataset.get(keyword) if not groups else None

    position = find("PlanePositionSequence", "ImagePositionPatient")
    orientation = find("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = find("PixelMeasuresSequence", "PixelSpacing")
    if not position or not orientation or not spacing:
        missing = "position" if not position else "orientation" if not orientation else "pixel size"
        raise VolumeError(
            f"{path} does not tell its {missing} in the patient, so it is no part of a volume; "
            "export the scan with its geometry."
        )
    if dataset.get("ModalityLUTSequence"):
        raise VolumeError(
            f"{path} stores its values through a look-up table; export it with rescaled values."
        )
    slope = find("PixelValueTransformationSequence", "RescaleSlope")
    intercept = find("PixelValueTransformationSequence", "RescaleIntercept")
    thickness = find("PixelMeasuresSequence", "SliceThickness")
    distance = find("PixelMeasuresSequence", "SpacingBetweenSlices")
    phase = (
        _known(
            find("MRImageFrameTypeSequence", "FrameType"),
            find("CTImageFrameTypeSequence", "FrameType"),
            dataset.get("ImageType"),
        ),
        find("FrameContentSequence", "StackID"),
        _known(find("MREchoSequence", "EffectiveEchoTime"), dataset.get("EchoTime")),
        _known(
            find("FrameContentSequence", "TemporalPositionIndex"),
            dataset.get("TemporalPositionIdentifier"),
        ),
        _known(
            find("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
            dataset.get("TriggerTime"),
        ),
        _known(
            find("MRDiffusionSequence", "DiffusionBValue"),
            dataset.get("DiffusionBValue"),
            dataset.get((0x0019, 0x100C)),
        ),
        _known(
            find("MRDiffusionSequence", "DiffusionGradientDirectionSequence"),
            dataset.get("DiffusionGradientOrientation"),
        ),
        _known(
            find("FrameContentSequence", "FrameAcquisitionNumber"),
            dataset.get("AcquisitionNumber"),
        ),
        dataset.get("AcquisitionTime"),
    )
    return Plane(
        path=path,
        instance=str(dataset.get("SOPInstanceUID", "")),
        frame=frame,
        tile=None,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position=tuple(float(value) for value in position),
        orientation=tuple(float(value) for value in orientation),
        spacing=tuple(float(value) for value in spacing),
        thickness=None if thickness in (None, "") else float(thickness),
        distance=None if distance in (None, "") else float(distance),
        rescale=(
            1.0 if slope in (None, "") else float(slope),
            0.0 if intercept in (None, "") else float(intercept),
        ),
        raw=_raw(dataset),
        phase=tuple("" if value is None else str(value) for value in phase),
    )


def _raw(dataset: Dataset) -> tuple[int, int, bool] | None:
    """Where the values stand, if they are uncompressed and of 16 bits."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        return None
    stored = int(dataset.get("BitsStored") or 0)
    if dataset.get("BitsAllocated") != 16 or not 0 < stored <= 16:
        return None
    return dataset.pixels_at, 16 - stored, dataset.get("PixelRepresentation") == 1


def _known(*values: Any) -> Any:
    """The first that is not absent; 0 is a value."""
    return next((value for value in values if value is not None), None)


def _check(planes: tuple[Plane, ...], path: Path) -> None:
    """Refuse numbers that describe no plane."""
    first = planes[0]
    numbers = np.array([(*p.position, *p.orientation, *p.spacing, *p.rescale) for p in planes])
    rows, columns = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    if numbers.shape[1] != 13 or not np.isfinite(numbers).all():
        wrong = "numbers that are missing or not finite"
    elif (
        abs(np.linalg.norm(numbers[:, 3:6], axis=1) - 1).max() > 1e-2
        or abs(np.linalg.norm(numbers[:, 6:9], axis=1) - 1).max() > 1e-2
    ):
        wrong = "directions that have not the length 1"
    elif abs(rows @ columns) > 1e-2:
        wrong = "rows and columns that are not at right angles"
    elif numbers[:, 9:11].min() <= 0:
        wrong = "a pixel size that is not positive"
    elif (numbers[:, 11] == 0).any():
        wrong = "a rescale slope of zero"
    else:
        return
    raise VolumeError(f"{path} gives its place in the patient with {wrong}; export it again.")
