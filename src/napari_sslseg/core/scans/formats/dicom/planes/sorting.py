"""Sort image planes by direction and position along the normal, without copies."""

import filecmp
from collections.abc import Sequence

import numpy as np

from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.values.pixels import stored_values

# Planes of one direction differ only by the rounding of the header.
SAME_DIRECTION = 1e-3
SAME_PLACE_MM = 1e-2
# Fewer planes of one direction in a series are a localizer; more are a separate volume.
LEAST_PLANES_OF_A_DIRECTION = 3


def plane_normal(plane: ImagePlane) -> np.ndarray:
    """Return the unit normal of a plane in LPS, rows × columns."""
    vector = np.cross(plane.orientation[:3], plane.orientation[3:])
    return vector / np.linalg.norm(vector)


def positions(planes: Sequence[ImagePlane]) -> np.ndarray:
    """Return positions along the normal of the first plane in mm, shape (n,)."""
    return np.array([plane.position for plane in planes]) @ plane_normal(planes[0])


def group_by_direction(planes: Sequence[ImagePlane]) -> list[list[ImagePlane]]:
    """Group planes by direction, size and pixel size, the largest group first."""
    groups: list[list[ImagePlane]] = []
    for plane in planes:
        for group in groups:
            first = group[0]
            if (
                plane.shape == first.shape
                and np.allclose(plane.orientation, first.orientation, atol=SAME_DIRECTION)
                and np.allclose(plane.spacing, first.spacing, rtol=1e-3)
            ):
                group.append(plane)
                break
        else:
            groups.append([plane])
    return sorted(groups, key=len, reverse=True)


def is_localizer_group(group: Sequence[ImagePlane], groups: Sequence[Sequence[ImagePlane]]) -> bool:
    """Return whether a group of a series has as few planes as a localizer."""
    return len(groups) > 1 and len(group) < LEAST_PLANES_OF_A_DIRECTION


def without_copies(planes: Sequence[ImagePlane]) -> list[ImagePlane]:
    """Remove planes of duplicate files.

    Equal instance UIDs are not sufficient: anonymisation tools may give all slices the same UID,
    and a processed series may keep those of its source.
    """
    kept: list[ImagePlane] = []
    seen: dict[tuple[object, ...], ImagePlane] = {}
    for plane in planes:
        key = (plane.instance, plane.frame, plane.tile, plane.position)
        twin = seen.setdefault(key, plane)
        if twin is plane or not filecmp.cmp(twin.path, plane.path, shallow=False):
            kept.append(plane)
    return kept


def without_same_images(planes: list[ImagePlane]) -> list[ImagePlane]:
    """Remove planes with the same pixels as another plane at the same position."""
    if len(places := group_by_position(planes)) == len(planes):
        return planes
    kept = []
    for group in places:
        images = list(stored_values(group)) if len(group) > 1 else []
        same = [
            any(
                np.array_equal(image, images[before]) and plane.rescale == group[before].rescale
                for before in range(index)
            )
            for index, (image, plane) in enumerate(zip(images, group, strict=False))
        ]
        kept += [plane for plane, again in zip(group, same or [False], strict=True) if not again]
    return kept


def place_numbers(planes: Sequence[ImagePlane]) -> np.ndarray:
    """Number the positions along the normal from 0; planes at one position share its number.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    along = positions(planes)
    order = np.argsort(along, kind="stable")
    numbers = np.empty(len(planes), int)
    number, start = -1, -np.inf
    for index in order:
        if along[index] - start > SAME_PLACE_MM:
            number, start = number + 1, along[index]
        numbers[index] = number
    return numbers


def group_by_position(planes: Sequence[ImagePlane]) -> list[list[ImagePlane]]:
    """Group planes by their position along the normal."""
    numbers = place_numbers(planes)
    groups: list[list[ImagePlane]] = [[] for _ in range(numbers.max() + 1)]
    for plane, number in zip(planes, numbers, strict=True):
        groups[number].append(plane)
    return groups


def plane_name(plane: ImagePlane) -> str:
    """Return the name of a plane for messages."""
    return plane.path.name if plane.frame is None else f"frame {plane.frame + 1}"
