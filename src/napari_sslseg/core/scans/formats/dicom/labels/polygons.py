"""Fill the closed contours of one structure on one image plane."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Vertices are rounded to this many decimals of a pixel, so that those on voxel centres stay there.
ROUNDING_DIGITS = 5
_BLOCK = 256


class Polygon(NamedTuple):
    """A closed contour on an image plane.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
        Vertices in pixels.
    exclusive : bool
        Whether the file demands exclusive or with other contours (CLOSEDPLANAR_XOR).
    """

    points: np.ndarray
    exclusive: bool = False


@dataclass
class Filled:
    """Pixels inside the contours, and what happened to the contours.

    Parameters
    ----------
    first, second : ndarray of int
        Indices of the pixels.
    repeated : int
        Contours that equal another one.
    joined : int
        Contours that partly overlap another one.
    small : int
        Contours that contain no pixel centre.
    """

    first: np.ndarray
    second: np.ndarray
    repeated: int = 0
    joined: int = 0
    small: int = 0


def fill_polygons(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Filled:
    """Fill the contours of a structure on a plane.

    A contour in another one is a hole, a contour in the hole is an island, and so on (exclusive
    or). Contours that partly overlap are joined, unless the file demands exclusive or. Equal
    contours count once. A pixel belongs to a contour if its centre is inside it or on it.

    DICOM PS3.3 C.8.8.6.3 defines exclusive or for CLOSEDPLANAR_XOR. For CLOSED_PLANAR it defines
    holes only by a contour that leads into the hole and out again (keyhole), and leaves open what
    several contours of a plane mean. Most programs write holes as contours of their own: platipy
    and dcmrtstruct2nii read all contours with exclusive or, plastimatch joins them by default.
    Where one contour lies in another, or apart from it, this function follows the former;
    elsewhere exclusive or would leave out the area that was drawn twice.

    Parameters
    ----------
    polygons : sequence of Polygon
        Contours.
    shape : tuple of int
        Size of the plane in pixels.
    """
    distinct: dict[bytes, Polygon] = {}
    for polygon in polygons:
        points = _canonical(polygon.points)
        distinct.setdefault(points.tobytes(), Polygon(points, polygon.exclusive))
    kept = list(distinct.values())
    low = np.maximum(np.floor(np.min([p.points.min(0) for p in kept], axis=0)), 0)
    high = np.max([polygon.points.max(0) for polygon in kept], axis=0)
    size = np.maximum(np.minimum(np.ceil(high) + 1, shape) - low, 0).astype(int)
    kept = [Polygon(polygon.points - low, polygon.exclusive) for polygon in kept]
    masks = [_mask(polygon.points, (int(size[0]), int(size[1]))) for polygon in kept]
    groups = list(range(len(kept)))
    joined: set[int] = set()
    for one, other in _overlapping_pairs(kept, masks):
        joined |= {one, other}
        groups = [groups[one] if group == groups[other] else group for group in groups]
    odd, edge = np.zeros(size, bool), np.zeros(size, bool)
    for group in set(groups):
        members = [mask for mask, own in zip(masks, groups, strict=True) if own == group]
        odd ^= np.logical_or.reduce([mask == 1 for mask in members])
        edge |= np.logical_or.reduce([mask > 1 for mask in members])
    first, second = np.nonzero(odd | edge)
    return Filled(
        first + int(low[0]),
        second + int(low[1]),
        repeated=len(polygons) - len(kept),
        joined=len(joined),
        small=sum(not mask.any() for mask in masks),
    )


def is_hole(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Return whether a polygon is inside another one, apart from its edges, and not nearly alike.

    Parameters
    ----------
    inner, outer : ndarray, shape (n, 2)
        Vertices in pixels.
    """
    from skimage.measure import points_in_poly

    if (inner.min(0) <= outer.min(0)).any() or (inner.max(0) >= outer.max(0)).any():
        return False
    if not points_in_poly(inner, outer).all() or _cross(inner, outer):
        return False
    low = np.floor(outer.min(0))
    row, column = (np.ceil(outer.max(0) - low) + 2).astype(int)
    masks = [_mask(points - low + 1, (row + 1, column + 1)) > 0 for points in (inner, outer)]
    return not _alike(*masks)


def _canonical(points: np.ndarray) -> np.ndarray:
    """Return the vertices from the least one, in a fixed direction, each lap once."""
    points = np.round(points, ROUNDING_DIGITS) + 0.0  # no negative zero
    new = (points != np.roll(points, 1, axis=0)).any(axis=1)
    points = points[new] if new.any() else points[:1]
    if len(points) < 3:
        return points
    half = len(points) // 2
    if half >= 3 and np.array_equal(points[:half], points[half:]):
        points = points[:half]
    start = np.lexsort(points.T[::-1])[0]
    forth = np.roll(points, -start, axis=0)
    back = np.roll(forth[::-1], 1, axis=0)
    return min(forth, back, key=lambda order: order.tolist())


def _mask(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return 1 for pixels inside the polygon and more for pixels on it."""
    from skimage.measure import grid_points_in_poly

    out = np.zeros(size, np.uint8)
    low = np.maximum(np.floor(points.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0)) + 1, size).astype(int)
    if len(points) >= 3 and (high > low).all():
        part = grid_points_in_poly(tuple(high - low), points - low, binarize=False)
        out[low[0] : high[0], low[1] : high[1]] = part
    return out


def _overlapping_pairs(
    polygons: Sequence[Polygon], masks: Sequence[np.ndarray]
) -> Iterator[tuple[int, int]]:
    """Yield pairs that partly overlap or are nearly alike, so that neither is a hole."""
    boxes = [(polygon.points.min(0), polygon.points.max(0)) for polygon in polygons]
    for one, (low, high) in enumerate(boxes):
        for other in range(one + 1, len(polygons)):
            apart = (low > boxes[other][1]).any() or (high < boxes[other][0]).any()
            if apart or (polygons[one].exclusive and polygons[other].exclusive):
                continue
            inside, outside = masks[one] > 0, masks[other] > 0
            if not _cross(polygons[one].points, polygons[other].points):
                continue
            if _alike(inside, outside) or not (
                _mostly_in(inside, outside) or _mostly_in(outside, inside)
            ):
                yield one, other


def _cross(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether edges of two polygons cross; polygons that only touch do not cross."""
    low = np.maximum(one.min(0), other.min(0))
    high = np.minimum(one.max(0), other.max(0))
    starts, ends = _edges(one, low, high)
    others = _edges(other, low, high)
    c, d = (points[None] for points in others)
    # In blocks, since contours have thousands of vertices.
    for first in range(0, len(starts), _BLOCK):
        a, b = (points[first : first + _BLOCK, None] for points in (starts, ends))
        apart = _side(a, b, c) * _side(a, b, d) < 0
        if (apart & (_side(c, d, a) * _side(c, d, b) < 0)).any():
            return True
    return False


def _edges(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and ends of the edges of a polygon that may be in a box."""
    ends = np.roll(points, -1, axis=0)
    near = (np.minimum(points, ends) <= high) & (np.maximum(points, ends) >= low)
    return points[near.all(axis=1)], ends[near.all(axis=1)]


def _side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return on which side of an edge a point is: positive, negative, or 0 on its line."""
    along, to = end - start, point - start
    area = along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]
    return np.where(np.abs(area) < 10.0**-ROUNDING_DIGITS, 0, np.sign(area))


def _mostly_in(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Whether a mask extends beyond another one by at most a pixel, as rounded contours do."""
    from scipy.ndimage import binary_dilation

    return bool((binary_dilation(outer, np.ones((3, 3))) >= inner).all())


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return _mostly_in(one, other) and _mostly_in(other, one)
