"""Image planes sorted into volumes: by direction, by phase, and by position along the normal."""

import filecmp
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.pixels import stored_values
from napari_sslseg.core.scans.formats.dicom.plane import ImagePlane

# Planes of one direction differ by the rounding of the header alone.
SAME_DIRECTION = 1e-3
SAME_PLACE_MM = 1e-2
# Fewer planes of one direction among others are a localizer; more are a volume of their own.
LEAST_PLANES_OF_A_DIRECTION = 3

PHASES = (
    "kind",
    "stack",
    "echo",
    "time-point",
    "trigger",
    "inversion",
    "flip-angle",
    "b-value",
    "direction",
    "acquisition",
    "acquired",
)
"""What the entries of :attr:`Plane.phase` are."""

# What makes volumes of their own even where their slices lie between each other's. Others, such as
# the number of the acquisition, differ within one volume of interleaved slices as well.
APART = ("kind", "echo", "time-point", "b-value")


def plane_normal(plane: ImagePlane) -> np.ndarray:
    """Unit normal of a plane in LPS, rows × columns."""
    vector = np.cross(plane.orientation[:3], plane.orientation[3:])
    return vector / np.linalg.norm(vector)


def positions(planes: Sequence[ImagePlane]) -> np.ndarray:
    """Positions of planes along the normal of the first in mm, shape (n,)."""
    return np.array([plane.position for plane in planes]) @ plane_normal(planes[0])


def group_by_direction(planes: Sequence[ImagePlane]) -> list[list[ImagePlane]]:
    """Planes of one direction, size and pixel size each, the most first."""
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
    """Whether few planes lie across the others of their series, as those of a localizer do."""
    return len(groups) > 1 and len(group) < LEAST_PLANES_OF_A_DIRECTION


def split_phases(planes: Sequence[ImagePlane], where: str) -> list[tuple[str, list[ImagePlane]]]:
    """Volumes among planes of one direction, each with the phase that tells it from the others.

    A stack that the header names is a volume. Else an entry of the phase tells volumes apart if
    several planes lie at one position and every value of it covers all the positions, or if every
    value of kind, echo, time point or b-value makes a stack of the same even spacing.

    Raises
    ------
    VolumeError
        If planes lie at one position and nothing tells them apart.
    """
    parts: list[tuple[str, list[ImagePlane]]] = [("", without_copies(planes))]
    for name in PHASES:
        parts = [finer for part in parts for finer in _split(part, name)]
    parts = [(label, _without_same_images(part)) for label, part in parts]
    for _, part in parts:
        _refuse_double(part, where)
    return parts


def split_acquisitions(planes: Sequence[ImagePlane]) -> list[tuple[str, list[ImagePlane]]]:
    """Planes of each acquisition, for stacks that lie apart from each other."""
    groups = _by_value(planes, "acquisition")
    return [(_label("acquisition", value, groups), group) for value, group in groups.items()]


def without_copies(planes: Sequence[ImagePlane]) -> list[ImagePlane]:
    """Each plane once, where the same file was filed twice.

    An instance number alone does not tell a copy: tools that remove names may give all slices
    the same, and a processed series may keep those of its source.
    """
    kept: list[ImagePlane] = []
    seen: dict[tuple[object, ...], ImagePlane] = {}
    for plane in planes:
        key = (plane.instance, plane.frame, plane.tile, plane.position)
        twin = seen.setdefault(key, plane)
        if twin is plane or not filecmp.cmp(twin.path, plane.path, shallow=False):
            kept.append(plane)
    return kept


def _without_same_images(planes: list[ImagePlane]) -> list[ImagePlane]:
    """Leave out planes whose pixels are those of another at the same position."""
    if len(places := _places(planes)) == len(planes):
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


def _split(part: tuple[str, list[ImagePlane]], name: str) -> list[tuple[str, list[ImagePlane]]]:
    label, planes = part
    groups = _by_value(planes, name)
    if len(groups) == 1:
        return [part]
    places = len(_places(planes))
    covering = places < len(planes) and all(len(_places(g)) == places for g in groups.values())
    stacks = name == "stack" and min(map(len, groups.values())) > 1
    if not covering and not stacks and not (name in APART and _alike_stacks(groups.values())):
        return [part]
    return [
        ("_".join(filter(None, [label, _label(name, value, groups)])), group)
        for value, group in groups.items()
    ]


def _by_value(planes: Sequence[ImagePlane], name: str) -> dict[str, list[ImagePlane]]:
    """Planes by the value of an entry of their phase, in the order of the values."""
    groups: dict[str, list[ImagePlane]] = defaultdict(list)
    for plane in planes:
        groups[plane.phase[PHASES.index(name)]].append(plane)
    return {value: groups[value] for value in sorted(groups, key=_in_order)}


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _alike_stacks(groups: Iterable[Sequence[ImagePlane]]) -> bool:
    """Whether each group is an evenly spaced stack, all of one length and spacing."""
    gaps = [np.diff(np.sort(positions(group))) for group in groups]
    if len({len(gap) for gap in gaps}) > 1 or len(gaps[0]) < LEAST_PLANES_OF_A_DIRECTION - 1:
        return False
    every = np.concatenate(gaps)
    return bool(every.min() > SAME_PLACE_MM and np.ptp(every) <= 0.05 * every.min())


def _label(name: str, value: str, groups: Mapping[str, object]) -> str:
    """Short name of one volume among others: by its value where that says something."""
    if name == "kind":
        words = {other: re.findall(r"\w+", other) for other in groups}
        common = set.intersection(*(set(found) for found in words.values()))
        own = [word for word in words[value] if word not in common]
        return "-".join(own) or "plain"
    number = _in_order(value)[0]
    if name == "acquired" or not np.isfinite(number):
        return f"{name}-{list(groups).index(value) + 1}"
    return f"{name}-{number:g}"


def _places(planes: Sequence[ImagePlane]) -> list[list[ImagePlane]]:
    """Planes by their position along the normal."""
    order = np.argsort(positions(planes), kind="stable")
    along = positions(planes)[order]
    groups: list[list[ImagePlane]] = []
    last = -np.inf
    for index, place in zip(order, along, strict=True):
        if groups and place - last <= SAME_PLACE_MM:
            groups[-1].append(planes[index])
        else:
            groups.append([planes[index]])
            last = place
    return groups


def _refuse_double(planes: list[ImagePlane], where: str) -> None:
    double = [group for group in _places(planes) if len(group) > 1]
    if double:
        one, other = double[0][:2]
        more = f" (and so at {len(double) - 1} more positions)" if len(double) > 1 else ""
        raise VolumeError(
            f"{where} is no volume: {plane_name(one)} and {plane_name(other)} lie at the same "
            f"position{more}, and nothing in their headers tells which belongs to it; keep one."
        )


def plane_name(plane: ImagePlane) -> str:
    """What a user knows a plane by."""
    return plane.path.name if plane.frame is None else f"frame {plane.frame + 1}"
