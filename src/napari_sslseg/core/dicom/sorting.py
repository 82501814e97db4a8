"""Image planes sorted into volumes: by direction, by phase, and by position along the normal."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from napari_sslseg.core.dicom.planes import Plane
from napari_sslseg.core.errors import VolumeError

# Planes of one direction differ by the rounding of the header alone.
SAME_DIRECTION = 1e-3
SAME_PLACE_MM = 1e-2
# Fewer planes of one direction among others are a localizer; more are a volume of their own.
LEAST_PLANES_OF_A_DIRECTION = 3

PHASES = (
    "kinds of image",
    "stacks",
    "echo times",
    "time points",
    "trigger times",
    "b-values",
    "gradient directions",
    "acquisitions",
    "acquisition times",
)
"""What the entries of :attr:`Plane.phase` are."""


def normal(plane: Plane) -> np.ndarray:
    """Unit normal of a plane in LPS, rows × columns."""
    vector = np.cross(plane.orientation[:3], plane.orientation[3:])
    return vector / np.linalg.norm(vector)


def positions(planes: Sequence[Plane]) -> np.ndarray:
    """Positions of planes along the normal of the first in mm, shape (n,)."""
    return np.array([plane.position for plane in planes]) @ normal(planes[0])


def by_direction(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes of one direction, size and pixel size each, the most first."""
    groups: list[list[Plane]] = []
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


def is_stray(group: Sequence[Plane], groups: Sequence[Sequence[Plane]]) -> bool:
    """Whether few planes lie across the others of their series, as those of a localizer do."""
    return len(groups) > 1 and len(group) < LEAST_PLANES_OF_A_DIRECTION


def by_phase(planes: Sequence[Plane], where: str) -> list[tuple[str, list[Plane]]]:
    """Volumes among planes of one direction, each with the phase that tells it from the others.

    Where several planes lie at one position, the first entries of the phase under which every
    value covers all the positions tell the volumes apart.

    Raises
    ------
    VolumeError
        If planes lie at one position and nothing tells them apart.
    """
    planes = without_copies(planes)
    parts: list[tuple[str, list[Plane]]] = [("", list(planes))]
    for number in range(len(PHASES)):
        parts = [finer for part in parts for finer in _split(part, number)]
    for _, part in parts:
        _refuse_double(part, where)
    return parts


def without_copies(planes: Sequence[Plane]) -> list[Plane]:
    """Each plane once, where the same instance was filed twice."""
    once = {(plane.instance, plane.frame, plane.tile): plane for plane in reversed(planes)}
    return list(reversed(once.values())) if planes[0].instance else list(planes)


def _split(part: tuple[str, list[Plane]], number: int) -> list[tuple[str, list[Plane]]]:
    label, planes = part
    places = _places(planes)
    if len(places) == len(planes):
        return [part]
    groups: dict[str, list[Plane]] = defaultdict(list)
    for plane in planes:
        groups[plane.phase[number]].append(plane)
    if len(groups) == 1 or any(len(_places(group)) != len(places) for group in groups.values()):
        return [part]
    return [
        (f"{label} {PHASES[number].removesuffix('s')} {index + 1}".strip(), group)
        for index, group in enumerate(groups[value] for value in sorted(groups, key=_in_order))
    ]


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _places(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes by their position along the normal."""
    order = np.argsort(positions(planes), kind="stable")
    along = positions(planes)[order]
    groups: list[list[Plane]] = []
    last = -np.inf
    for index, place in zip(order, along, strict=True):
        if groups and place - last <= SAME_PLACE_MM:
            groups[-1].append(planes[index])
        else:
            groups.append([planes[index]])
            last = place
    return groups


def _refuse_double(planes: list[Plane], where: str) -> None:
    double = [group for group in _places(planes) if len(group) > 1]
    if double:
        one, other = double[0][:2]
        more = f" (and so at {len(double) - 1} more positions)" if len(double) > 1 else ""
        raise VolumeError(
            f"{where} is no volume: {plane_name(one)} and {plane_name(other)} lie at the same "
            f"position{more}, and nothing in their headers tells which belongs to it; keep one."
        )


def plane_name(plane: Plane) -> str:
    """What a user knows a plane by."""
    return plane.path.name if plane.frame is None else f"frame {plane.frame + 1}"
