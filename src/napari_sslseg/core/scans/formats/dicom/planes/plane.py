"""One image plane of a DICOM file: its place, its encoding, and its affine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from napari_sslseg.core.scans.formats.dicom.values.scaling import Scaling
from napari_sslseg.core.scans.geometry import LPS_TO_RAS


class PixelEncoding(NamedTuple):
    """Encoding of the pixel values of a file.

    Parameters
    ----------
    start : int
        Byte offset of the pixel data element.
    syntax : str
        Transfer syntax UID.
    allocated, bits : int
        Bits allocated and stored per value.
    signed : bool
        Whether stored values are signed.
    padding : tuple of int or None
        Lowest and highest stored value that mean padding; None if there is none.
    """

    start: int
    syntax: str
    allocated: int
    bits: int
    signed: bool
    padding: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ImagePlane:
    """An image plane: a classic file, a frame of a multi-frame file, or a tile of a mosaic.

    Parameters
    ----------
    path : Path
        The file.
    instance : str
        SOP instance UID.
    frame : int or None
        Index in a multi-frame file.
    tile : tuple of int or None
        First row and column in a mosaic.
    shape : tuple of int
        Rows and columns.
    position : tuple of float
        Centre of the first pixel in LPS mm.
    orientation : tuple of float
        Direction cosines of rows and columns, as in Image Orientation (Patient).
    spacing : tuple of float
        Distance between rows and between columns, in mm.
    thickness : float or None
        Slice thickness in mm.
    distance : float or None
        Spacing Between Slices of the header, in mm.
    rescale : tuple of float
        Slope and intercept.
    is_rescaled : bool
        Whether the header gives the intercept; without it, values of CT may not be HU.
    stored : Stored
        Encoding of the values.
    phase : tuple
        Values that may distinguish volumes, in the order of
        :data:`~..phases.attributes.PHASES`.
    unit : str
        Unit of real-world values, if these are used.
    other_scalings : tuple of Scaling
        Other maps of the stored values in the header, see :mod:`~..values.scaling`.
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
    is_rescaled: bool
    stored: PixelEncoding
    phase: tuple[str, ...]
    unit: str = ""
    other_scalings: tuple[Scaling, ...] = ()

    def fits(self, kind: np.dtype) -> bool:
        """Return whether all possible rescaled values fit an integer type."""
        bits = self.stored.bits - self.stored.signed
        low, high = -(2**bits) if self.stored.signed else 0, 2**bits - 1
        limits = np.iinfo(kind)
        return limits.min <= low + self.rescale[1] and high + self.rescale[1] <= limits.max


def plane_affine(
    position: Sequence[float],
    orientation: Sequence[float],
    spacing: Sequence[float],
    distance: float,
) -> np.ndarray:
    """Return the affine of a stack that starts with a plane: column, row and slice to RAS+ mm.

    Parameters
    ----------
    position, orientation, spacing : sequence of float
        As in :class:`ImagePlane`.
    distance : float
        Slice distance along the normal, in mm.
    """
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    across = np.cross(along_row, along_column)
    affine = np.eye(4)
    affine[:3, 0] = along_row * spacing[1]
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = across / np.linalg.norm(across) * distance
    affine[:3, 3] = position
    return LPS_TO_RAS @ affine
