"""Group the contours of structures by their plane, with the holes that lie a little off it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_sslseg.core.scans.formats.dicom.labels.polygons import is_hole

# Contours closer than this, in slices, are in one plane and may be holes of each other.
SAME_PLANE = 0.02
# A hole belongs to a plane within half a slice, unless the contours were drawn on finer slices.
HALF_SLICE = 0.5
# Positions that are rounded differ from whole slices by less.
OFF_SLICE = 0.1


class Contour(NamedTuple):
    """A closed contour.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        Vertices in LPS mm, or in voxels.
    exclusive : bool
        Whether the file demands exclusive or with other contours.
    """

    points: np.ndarray
    exclusive: bool


@dataclass(frozen=True)
class ContourPlane:
    """Contours of one structure in one plane.

    Parameters
    ----------
    place : float
        Place of the plane along the slice axis, in slices.
    contours : list of Contour
        Its contours, in voxels.
    moved : int
        How many of them lie off the plane, as holes of the others.
    """

    place: float
    contours: list[Contour]
    moved: int = 0


def contour_planes(
    structures: Mapping[int, Sequence[Contour]], axis: int
) -> dict[int, list[ContourPlane]]:
    """Group the contours of each structure by plane, in ascending order.

    Contours that lie inside those of another plane, less than half a slice away, join that plane
    as holes, if contours were drawn whole slices apart. Contours on finer slices than those of
    the scan lie inside each other wherever the structure tapers, and stay in their planes.

    Parameters
    ----------
    structures : mapping of int to sequence of Contour
        Contours in voxels by label value.
    axis : int
        Slice axis.
    """
    planes = {value: _by_place(contours, axis) for value, contours in structures.items()}
    others = [other for other in range(3) if other != axis]
    inner = {value: _inside_others(found, others) for value, found in planes.items()}
    outer = {
        value: [plane for number, plane in enumerate(found) if number not in inner[value]]
        for value, found in planes.items()
    }
    if not _are_whole_slices([[plane.place for plane in found] for found in outer.values()]):
        return planes
    return {value: _join(found, inner[value]) for value, found in planes.items()}


def _are_whole_slices(places: Sequence[Sequence[float]]) -> bool:
    """Whether the outer planes of structures are whole slices apart; one plane, on an image."""
    gaps = np.array([gap for found in places for gap in np.diff(found)])
    if gaps.size and np.median(gaps) < 1 - OFF_SLICE:
        return False
    if not gaps.size:
        gaps = np.concatenate([*places, []])
    return not gaps.size or bool(np.median(np.abs(gaps - np.rint(gaps))) <= OFF_SLICE)


def _by_place(contours: Sequence[Contour], axis: int) -> list[ContourPlane]:
    places = [float(contour.points[:, axis].mean()) for contour in contours]
    found: list[ContourPlane] = []
    last = -np.inf
    for index in sorted(range(len(places)), key=lambda index: places[index]):
        if places[index] - last > SAME_PLANE:
            found.append(ContourPlane(places[index], []))
        found[-1].contours.append(contours[index])
        last = places[index]
    return found


def _inside_others(planes: Sequence[ContourPlane], others: list[int]) -> set[int]:
    """Indices of planes whose contours are all inside those of another one in half a slice."""
    places = np.array([plane.place for plane in planes])
    found = set()
    for number, plane in enumerate(planes):
        for near in np.flatnonzero(np.abs(places - plane.place) < HALF_SLICE).tolist():
            if near != number and all(
                any(
                    is_hole(c.points[:, others], o.points[:, others]) for o in planes[near].contours
                )
                for c in plane.contours
            ):
                found.add(number)
                break
    return found


def _join(planes: list[ContourPlane], inner: set[int]) -> list[ContourPlane]:
    """Move inner planes onto the nearest other.

    Planes that are evenly spaced, or too far from others, were drawn on finer slices and stay.
    """
    gaps = np.diff([plane.place for plane in planes])
    if not inner or (len(gaps) > 1 and np.ptp(gaps) < SAME_PLANE):
        return planes
    outer = [plane for number, plane in enumerate(planes) if number not in inner]
    added: list[list[Contour]] = [[] for _ in outer]
    for number in sorted(inner):
        distances = [abs(plane.place - planes[number].place) for plane in outer]
        if min(distances, default=np.inf) >= HALF_SLICE:
            return planes
        added[int(np.argmin(distances))] += planes[number].contours
    return [
        ContourPlane(plane.place, [*plane.contours, *holes], len(holes))
        for plane, holes in zip(outer, added, strict=True)
    ]
