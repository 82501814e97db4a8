"""Where the image planes of a DICOM file lie in the patient."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.mosaic import is_mosaic, mosaic_tiles
from napari_sslseg.core.scans.formats.dicom.plane import ImagePlane, PixelEncoding


def read_planes(path: Path, dataset: Dataset) -> tuple[ImagePlane, ...]:
    """Planes of one file.

    Raises
    ------
    VolumeError
        If it does not say where they lie, or says what cannot be.
    """
    planes = tuple(_planes(path, dataset))
    _check(planes, path)
    return planes


def _planes(path: Path, dataset: Dataset) -> Iterator[ImagePlane]:
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
    if is_mosaic(dataset):
        yield from mosaic_tiles(plane, dataset)
    else:
        yield plane


def _plane(
    path: Path, dataset: Dataset, groups: list[Dataset], frame: int | None = None
) -> ImagePlane:
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
            find("MRModifierSequence", "InversionTimes"),
            dataset.get("InversionTime"),
        ),
        _known(
            find("MRTimingAndRelatedParametersSequence", "FlipAngle"),
            dataset.get("FlipAngle"),
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
    return ImagePlane(
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
        stored=_stored(dataset),
        phase=tuple("" if value is None else str(value) for value in phase),
    )


def _stored(dataset: Dataset) -> PixelEncoding:
    return PixelEncoding(
        start=dataset.pixels_at,
        syntax=_syntax(dataset),
        allocated=int(dataset.get("BitsAllocated") or 0),
        bits=int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 0),
        signed=dataset.get("PixelRepresentation") == 1,
    )


def _syntax(dataset: Dataset) -> str:
    """Transfer syntax; of old files that do not tell it, the plain one that they were read by."""
    told = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    implicit, little_endian = dataset.original_encoding
    if told or not little_endian:
        return told
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _known(*values: Any) -> Any:
    """The first that is not absent; 0 is a value."""
    return next((value for value in values if value is not None), None)


def _check(planes: tuple[ImagePlane, ...], path: Path) -> None:
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
