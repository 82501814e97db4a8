"""Separate acquisitions of one series that are stacks of their own."""

from collections.abc import Sequence

import numpy as np

from napari_sslseg.core.scans.formats.dicom.phases.attributes import PHASES
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.planes.sorting import (
    LEAST_PLANES_OF_A_DIRECTION,
    SAME_PLACE_MM,
    positions,
)

# Stacks lie apart if more slices than these are missing between them and no image number is, or if
# the gap is longer than a loss of slices explains.
APART_STEPS = 5
APART_MM = 50.0
# Interleaved acquisitions fill a common grid, but for lost slices.
FILLED = 0.75


def separate_acquisitions(planes: Sequence[ImagePlane]) -> dict[str, list[ImagePlane]]:
    """Group planes that are no volume together by acquisition, if these are stacks of their own.

    Acquisitions that continue one another are parts of one stack, and so are interleaved ones:
    where such a stack is irregular, it has lost slices. Acquisitions are stacks of their own only
    if they overlap or lie apart.

    Returns
    -------
    dict of str to list of ImagePlane
        Planes by the number of their (first) acquisition; empty if they are not separate stacks.
    """
    index = PHASES.index("acquisition")
    along = positions(planes)
    groups: dict[str, list[ImagePlane]] = {}
    places: dict[str, list[float]] = {}
    for number in np.argsort(along, kind="stable"):
        value = planes[number].phase[index]
        groups.setdefault(value, []).append(planes[number])
        places.setdefault(value, []).append(float(along[number]))
    steps = np.concatenate([np.diff(found) for found in places.values()])
    steps = steps[steps > SAME_PLACE_MM]
    if len(groups) == 1 or not len(steps):
        return {}
    apart = APART_MM
    if _is_complete(planes):
        apart = min(apart, APART_STEPS * float(np.median(steps)))
    stacks: list[list[str]] = []
    joined = overlapping = False
    for value in groups:
        start = places[value][0]
        gaps = [start - max(places[other][-1] for other in stack) for stack in stacks]
        following = [number for number, gap in enumerate(gaps) if SAME_PLACE_MM < gap <= apart]
        overlapping |= any(gap <= SAME_PLACE_MM for gap in gaps)
        if following:
            joined = True
            stacks[min(following, key=lambda number: gaps[number])].append(value)
        else:
            stacks.append([value])
    found = {stack[0]: [p for value in stack for p in groups[value]] for stack in stacks}
    if len(found) == 1 or min(map(len, found.values())) < LEAST_PLANES_OF_A_DIRECTION:
        return {}
    if overlapping and (joined or _is_interleaved(along)):
        return {}
    return found


def _is_complete(planes: Sequence[ImagePlane]) -> bool:
    """Return whether the image numbers have no gap."""
    index = PHASES.index("instance")
    numbers = {plane.phase[index] for plane in planes}
    if not all(number.isdecimal() for number in numbers) or len(numbers) < len(planes):
        return False
    whole = sorted(map(int, numbers))
    return whole[-1] - whole[0] + 1 == len(whole)


def _is_interleaved(along: np.ndarray) -> bool:
    """Return whether positions fill most of a grid, without two at one position."""
    places = np.sort(along)
    gaps = np.diff(places)
    if gaps.min() <= SAME_PLACE_MM:
        return False
    return bool(len(places) >= FILLED * (np.rint((places[-1] - places[0]) / gaps.min()) + 1))
