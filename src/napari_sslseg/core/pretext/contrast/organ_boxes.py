"""Where the organs of a pair lie, such as kidneys: one box per side, and crops of a fixed size.

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

# What crosses the middle plane from the other side, where a person has but one organ, is smaller.
LEAST_SHARE = 0.05


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
        If the box holds no voxel or begins outside of the scan.
    """

    side: int
    start: Shape
    stop: Shape
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not all(0 <= a < b for a, b in zip(self.start, self.stop, strict=True)):
            raise DataError(
                f"The box from {self.start} to {self.stop} holds no voxel of the scan; its end "
                "must lie behind its start along each axis."
            )

    @property
    def shape(self) -> Shape:
        """Voxels along each axis."""
        a, b, c = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return a, b, c

    @property
    def centre(self) -> Shape:
        """Voxel in the middle; of two, the one at the higher index."""
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
        Instead of these, the one label value of both. The scan is then halved by the sagittal
        plane in the middle of its width, as in the paper; of an odd width, the voxels in the
        middle are of the left half. A part on one side that has less than a twentieth of the
        voxels of that on the other is taken for what crosses the plane, and left out.

    Returns
    -------
    list of OrganBox
        Left, then right; a side without the organ is left out. Each box holds the largest
        connected part of its side, so that stray voxels do not widen it.

    Raises
    ------
    ConfigError
        If it is not said which label values to look for, or two ways are.
    """
    pair = left is not None and right is not None and left != right
    if not (pair and organ is None) and not (organ is not None and left is right is None):
        raise ConfigError(
            "To tell the sides of an organ, give two different label values, left and right, or "
            "the one label value of both."
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
    """Box of an organ in a scan that shows one alone, on a known side or not; None without it."""
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
        Preprocessed image; stays as it is.
    box : OrganBox
        On the same grid.
    size : tuple of int
        Shape of the crop.
    fill : float or ndarray broadcastable to (C, 1, 1, 1)
        Value beyond the edge of the scan, for ``background="keep"``.
    background : {"zero", "keep"}
        zero: 0 wherever the organ is not, as in the authors' program. Where the user gave a box
        and no mask, 0 outside of the box. keep: what surrounds the organ stays.

    Returns
    -------
    ndarray, shape (C, *size)
    """
    if any(stop > side for stop, side in zip(box.stop, image.shape[1:], strict=True)):
        raise DataError(
            f"The box from {box.start} to {box.stop} reaches out of the scan, which has "
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
    """Cut a box of a fixed size around a voxel, which comes to lie at ``size // 2``.

    Parameters
    ----------
    array : ndarray, shape (C, D, H, W)
        Stays as it is. What is larger than the box is cut off on both sides (the authors' program
        pads alone).
    centre : sequence of int
        Voxel in the middle.
    size : tuple of int
        Shape of the box.
    fill : float or ndarray broadcastable to (C, 1, 1, 1)
        Value beyond the edge of the array.
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


def mirrored(array: np.ndarray) -> np.ndarray:
    """Copy with left and right exchanged: flipped along the last axis."""
    return np.flip(array, -1).copy()


def _largest(mask: np.ndarray, side: int, offset: int = 0) -> OrganBox | None:
    """Box around the largest connected part of a mask, ``offset`` columns into the scan."""
    around = ndimage.find_objects(mask.view(np.uint8))
    if not around:
        return None
    # Corners connect: an organ drawn on thick slices may touch itself at corners alone.
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
