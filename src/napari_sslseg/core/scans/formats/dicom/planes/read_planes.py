"""Read the image planes of a DICOM file and their place in the patient."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.phases.attributes import read_phase
from napari_sslseg.core.scans.formats.dicom.planes.mosaic import is_mosaic, mosaic_tiles
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane, PixelEncoding
from napari_sslseg.core.scans.formats.dicom.values.padding import padding_range
from napari_sslseg.core.scans.formats.dicom.values.pixels import refuse_private_encoding
from napari_sslseg.core.scans.formats.dicom.values.scaling import read_scalings


def read_planes(path: Path, dataset: Dataset) -> tuple[ImagePlane, ...]:
    """Read the image planes of one file.

    Raises
    ------
    VolumeError
        If their place in the patient is missing or invalid.
    """
    planes = tuple(_planes(path, dataset))
    _check(planes, path)
    refuse_private_encoding(planes[0])
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
    """Read the plane of a classic file, or of a frame of a multi-frame file.

    Parameters
    ----------
    path : Path
        The file.
    dataset : Dataset
        Its attributes.
    groups : list of Dataset
        Functional groups of the frame, then the shared ones; empty for a classic file.
    frame : int, optional
        Index of the frame.
    """
    find = _Finder(dataset, groups)
    position, orientation, spacing = _place(path, find)
    if dataset.get("ModalityLUTSequence"):
        raise VolumeError(
            f"{path} stores its values through a look-up table; export it with rescaled values."
        )
    transformation = "PixelValueTransformationSequence"
    slope = _number(find(transformation, "RescaleSlope"))
    intercept = _number(find(transformation, "RescaleIntercept"))
    scaling, others = read_scalings(dataset, groups, slope, intercept)
    return ImagePlane(
        path=path,
        instance=str(dataset.get("SOPInstanceUID", "")),
        frame=frame,
        tile=None,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=_number(find("PixelMeasuresSequence", "SliceThickness")),
        distance=_number(find("PixelMeasuresSequence", "SpacingBetweenSlices")),
        rescale=(scaling.slope, scaling.intercept),
        is_rescaled=intercept is not None or bool(scaling.source),
        stored=_encoding(dataset),
        phase=read_phase(dataset, find),
        unit=scaling.unit,
        other_scalings=others,
    )


class _Finder:
    """Look up attributes in the functional groups of a frame, or in a classic dataset."""

    def __init__(self, dataset: Dataset, groups: list[Dataset]) -> None:
        self.dataset = dataset
        self.groups = groups

    def __call__(self, sequence: str, keyword: str) -> Any:
        """Return an attribute in the first item of a sequence; None if it is absent.

        Some writers of multi-frame files store an attribute of all frames only at the top level.
        """
        for group in self.groups:
            for item in (group.get(sequence) or [])[:1]:
                if item.get(keyword) is not None:
                    return item.get(keyword)
        return self.dataset.get(keyword)


Floats = tuple[float, ...]


def _place(path: Path, find: _Finder) -> tuple[Floats, Floats, Floats]:
    """Read position, orientation and pixel spacing.

    Raises
    ------
    VolumeError
        If one of them is missing.
    """
    values: dict[str, Any] = {
        "position": find("PlanePositionSequence", "ImagePositionPatient"),
        "orientation": find("PlaneOrientationSequence", "ImageOrientationPatient"),
        "pixel size": find("PixelMeasuresSequence", "PixelSpacing"),
    }
    for name, value in values.items():
        if not value:
            raise VolumeError(
                f"{path} does not give its {name} in the patient, so it is not part of a volume; "
                "export the scan with its geometry."
            )
    position, orientation, spacing = (
        tuple(float(number) for number in (value if isinstance(value, MultiValue) else [value]))
        for value in values.values()
    )
    return position, orientation, spacing


def _number(value: Any) -> float | None:
    """Convert an attribute to a number; None if it is absent or empty."""
    return None if value in (None, "") else float(value)


def _encoding(dataset: Dataset) -> PixelEncoding:
    allocated = int(dataset.get("BitsAllocated") or 0)
    bits = int(dataset.get("BitsStored") or allocated)
    signed = dataset.get("PixelRepresentation") == 1
    padding = padding_range(dataset)
    if padding and not signed and padding[1] >= 2**bits:
        # Padding beyond the bits of the values: all allocated bits hold a value.
        bits = allocated
    return PixelEncoding(dataset.pixels_at, _syntax(dataset), allocated, bits, signed, padding)


def _syntax(dataset: Dataset) -> str:
    """Return the transfer syntax; in old files without it, the syntax that they were read with."""
    stated = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    implicit, little_endian = dataset.original_encoding
    if stated or not little_endian:
        return stated
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _check(planes: tuple[ImagePlane, ...], path: Path) -> None:
    """Check the numbers that describe the planes.

    Raises
    ------
    VolumeError
        If they do not describe a plane.
    """
    first = planes[0]
    numbers = np.array([(*p.position, *p.orientation, *p.spacing, *p.rescale) for p in planes])
    rows, columns = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    if numbers.shape[1] != 13 or not np.isfinite(numbers).all():
        wrong = "numbers that are missing or not finite"
    elif (
        abs(np.linalg.norm(numbers[:, 3:6], axis=1) - 1).max() > 1e-2
        or abs(np.linalg.norm(numbers[:, 6:9], axis=1) - 1).max() > 1e-2
    ):
        wrong = "directions whose length is not 1"
    elif abs(rows @ columns) > 1e-2:
        wrong = "rows and columns that are not at right angles"
    elif numbers[:, 9:11].min() <= 0:
        wrong = "a pixel size that is not positive"
    elif (numbers[:, 11] == 0).any():
        raise VolumeError(
            f"{path} gives its values with a rescale slope of zero, which makes all of them equal; "
            "export it again."
        )
    else:
        return
    raise VolumeError(f"{path} gives its place in the patient with {wrong}; export it again.")
