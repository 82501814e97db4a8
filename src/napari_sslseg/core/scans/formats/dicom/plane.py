"""TODO."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from napari_sslseg.core.scans.geometry import LPS_TO_RAS


class PixelEncoding(NamedTuple):
    """How the values of a file are stored.

    Parameters
    ----------
    start : int
        Where the element with the pixels begins in the file.
    syntax : str
        Transfer syntax UID.
    allocated, bits : int
        Bits of a value in the file, and those of them that count.
    signed : bool
        Whether values may be negative before rescaling.
    """

    start: int
    syntax: str
    allocated: int
    bits: int
    signed: bool


@dataclass(frozen=True, slots=True)
class ImagePlane:
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
    stored : Stored
        How its values stand in the file.
    phase : tuple
        What may tell volumes apart, in the order of :data:`~.sorting.PHASES`.
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
    stored: PixelEncoding
    phase: tuple[str, ...]

    def fits(self, kind: np.dtype) -> bool:
        """Whether rescaled values fit an integer type whatever they are."""
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
    """Affine of a plane, and of those stacked on it, from column, row and slice to RAS+ mm.

    Parameters
    ----------
    position, orientation, spacing : sequence of float
        As in a DICOM header, see :class:`ImagePlane`.
    distance : float
        From slice to slice along the normal, in mm.
    """
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    across = np.cross(along_row, along_column)
    affine = np.eye(4)
    affine[:3, 0] = along_row * spacing[1]
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = across / np.linalg.norm(across) * distance
    affine[:3, 3] = position
    return LPS_TO_RAS @ affine
