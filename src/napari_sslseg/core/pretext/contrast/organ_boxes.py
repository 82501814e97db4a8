"""Boxes of paired organs, such as kidneys, and crops of a fixed size around them.

After Dhere & Sivaswamy 2021, who cut a region of 64 × 112 × 112 voxels around each kidney. All
arrays are on the display grid, whose axes run towards inferior, posterior and the patient's left:
the patient's left is where indices of the last axis are high.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.pretext.contrast.side_pairs import LEFT, RIGHT, UNKNOWN

Shape = tuple[int, int, int]
Background = Literal["zero", "keep"]

LEAST_SHARE = 0.05
"""Smallest size of an organ relative to that of the other side; smaller parts are parts of the
other organ that cross the middle plane."""


@dataclass(frozen=True, eq=False)
class OrganBox:
    """The box of one organ.

    Parameters
    ----------
    side : int
        0 left, 1 right, −1 unknown.
    start, stop : tuple of int
        First voxel along each axis, and one past the last.
    mask : ndarray of bool, shape of the box, or None
        Voxels of the organ; None if the user gave the box.

    Raises
    ------
    DataError
        If the box contains no voxel or begins outside the scan.
    """

    side: int
    start: Shape
    stop: Shape
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not all(0 <= a < b for a, b in zip(self.start, self.stop, strict=True)):
            raise DataError(
                f"The box from {self.start} to {self.stop} contains no voxel of the scan; its end "
                "must be above its start along each axis."
            )

    @property
    def shape(self) -> Shape:
        """Number of voxels along each axis."""
        a, b, c = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return a, b, c

    @property
    def centre(self) -> Shape:
        """Central voxel; of two, the one with the higher index."""
        a, b, c = ((start + stop) // 2 for start, stop in zip(self.start, self.stop, strict=True))
        return a, b, c

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index of an array (D, H, W)."""
        a, b, c = map(slice, self.start, self.stop)
        return a, b, c


def organ_boxes(
    labels: np.ndarray,
    *,
    left: int | None = None,
    right: int | None = None,
    organ: int | None = None,
) -> list[OrganBox]:
    """Find the organ of each side in a label map.

    Parameters
    ----------
    labels : ndarray, shape (D, H, W)
        Labels on the display grid.
    left, right : int
        Label values of the left and the right organ.
    organ : int
        Instead of these, the label value of both. The scan is then divided by the sagittal plane
        in the middle of its width, as in the paper; with an odd width, the voxels in the middle
        belong to the left half. A part with less than a twentieth of the voxels of that on the
        other side is considered a part of the other organ that crosses the plane, and left out.

    Returns
    -------
    list of OrganBox
        Left, then right; a side without the organ is left out. Each box contains the
        largest connected component of its side, so that stray voxels do not widen it.

    Raises
    ------
    ConfigError
        If neither or both of the two ways to give label values are used.
    """
    pair = left is not None and right is not None and left != right
    if not (pair and organ is None) and not (organ is not None and left is right is None):
        raise ConfigError(
            "To find the organ of each side, give two different label values, left and right, or "
            "the label value of both."
        )
    if organ is None:
        found = [_largest(labels == left, LEFT), _largest(labels == right, RIGHT)]
        return [box for box in found if box is not None]
    middle = labels.shape[2] // 2
    mask = labels == organ
    found = [_largest(mask[:, :, middle:], LEFT, middle), _largest(mask[:, :, :middle], RIGHT)]
    boxes = [box for box in found if box is not None]
    sizes = [0 if box.mask is None else int(box.mask.sum()) for box in boxes]
    return [b for b, n in zip(boxes, sizes, strict=True) if n >= LEAST_SHARE * max(sizes)]


def whole_organ(labels: np.ndarray, organ: int, side: int = UNKNOWN) -> OrganBox | None:
    """Return the box of an organ in a scan that shows only one; None without it."""
    return _largest(labels == organ, side)


def organ_crop(
    image: np.ndarray,
    box: OrganBox,
    size: Shape,
    *,
    fill: float | np.ndarray = 0.0,
    background: Background = "zero",
) -> np.ndarray:
    """Cut an image to a fixed size around an organ.

    Parameters
    ----------
    image : ndarray, shape (C, D, H, W)
        Preprocessed image; not changed.
    box : OrganBox
        Box on the same grid.
    size : tuple of int
        Shape of the crop.
    fill : float or ndarray broadcastable to (C, 1, 1, 1)
        Value outside the scan, for ``background="keep"``.
    background : {"zero", "keep"}
        zero: 0 outside the organ, as in the authors' program; outside the box if there is no mask.
        keep: the surroundings of the organ stay.

    Returns
    -------
    ndarray, shape (C, *size)
    """
    if any(stop > side for stop, side in zip(box.stop, image.shape[1:], strict=True)):
        raise DataError(
            f"The box from {box.start} to {box.stop} extends beyond the scan, which has "
            f"{image.shape[1:]} voxels; correct the box."
        )
    if background == "keep":
        return crop(image, box.centre, size, fill)
    inside = image[(slice(None), *box.slices)]
    if box.mask is not None:
        inside = np.where(box.mask, inside, 0).astype(image.dtype)
    middle = [centre - start for centre, start in zip(box.centre, box.start, strict=True)]
    return crop(inside, middle, size, 0.0)


def crop(
    array: np.ndarray, centre: Sequence[int], size: Shape, fill: float | np.ndarray
) -> np.ndarray:
    """Cut a box of a fixed size around a voxel, which becomes voxel ``size // 2``.

    Parameters
    ----------
    array : ndarray, shape (C, D, H, W)
        Not changed. If it is larger than the box, both sides are cut off (the authors' program
        only pads).
    centre : sequence of int
        Central voxel.
    size : tuple of int
        Shape of the box.
    fill : float or ndarray broadcastable to (C, 1, 1, 1)
        Value outside the array.
    """
    cut = np.empty((array.shape[0], *size), array.dtype)
    cut[:] = fill
    inside: list[slice] = [slice(None)]
    outside: list[slice] = [slice(None)]
    for middle, side, length in zip(centre, size, array.shape[1:], strict=True):
        first = middle - side // 2
        low = min(max(first, 0), length)
        high = max(min(first + side, length), low)
        outside.append(slice(low, high))
        inside.append(slice(low - first, high - first))
    cut[tuple(inside)] = array[tuple(outside)]
    return cut


def _largest(mask: np.ndarray, side: int, offset: int = 0) -> OrganBox | None:
    """Return the box of the largest component of a mask that starts at column ``offset``."""
    around = ndimage.find_objects(mask.view(np.uint8))
    if not around:
        return None
    # With connectivity over corners, because in thick slices parts may touch only at corners.
    parts, _ = ndimage.label(mask[around[0]], np.ones((3, 3, 3)))
    number = int(np.bincount(parts.ravel())[1:].argmax()) + 1
    within = ndimage.find_objects(parts)[number - 1]
    part = parts[within] == number
    start = np.array([a.start + b.start for a, b in zip(around[0], within, strict=True)])
    start[2] += offset
    stop = start + part.shape
    return OrganBox(side, _triple(start), _triple(stop), part)


def _triple(numbers: np.ndarray) -> Shape:
    a, b, c = numbers.tolist()
    return a, b, c
