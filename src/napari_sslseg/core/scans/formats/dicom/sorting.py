"""Sort image planes into volumes: by direction, phase and position along the normal."""

import filecmp
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.pixels import stored_values
from napari_sslseg.core.scans.formats.dicom.plane import ImagePlane

# Planes of one direction differ only by the rounding of the header.
SAME_DIRECTION = 1e-3
SAME_PLACE_MM = 1e-2
# Fewer planes of one direction in a series are a localizer; more are a separate volume.
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
"""Names of the entries of :attr:`~.plane.ImagePlane.phase`."""

# Entries that separate volumes even if their slices are interleaved. Other entries, such as the
# acquisition number, also differ within one interleaved volume.
APART = ("kind", "echo", "time-point", "b-value")


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


def split_phases(planes: Sequence[ImagePlane], where: str) -> list[tuple[str, list[ImagePlane]]]:
    """Split planes of one direction into volumes, each with a label of its phase.

    A stack named in the header is a volume. Otherwise an entry of the phase separates volumes if
    several planes have the same position and each of its values covers all positions, or if each
    value of kind, echo, time point or b-value forms a stack with the same even spacing.

    Raises
    ------
    VolumeError
        If planes have the same position and cannot be distinguished.
    """
    parts: list[tuple[str, list[ImagePlane]]] = [("", without_copies(planes))]
    for name in PHASES:
        parts = [finer for part in parts for finer in _split(part, name)]
    parts = [(label, _without_same_images(part)) for label, part in parts]
    for _, part in parts:
        _refuse_double(part, where)
    return parts


def split_acquisitions(planes: Sequence[ImagePlane]) -> list[tuple[str, list[ImagePlane]]]:
    """Split planes by acquisition, for stacks in different places."""
    groups = _by_value(planes, "acquisition")
    return [(_label("acquisition", value, groups), group) for value, group in groups.items()]


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


def _without_same_images(planes: list[ImagePlane]) -> list[ImagePlane]:
    """Remove planes with the same pixels as another plane at the same position."""
    if len(places := _group_by_position(planes)) == len(planes):
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
    places = len(_group_by_position(planes))
    covering = places < len(planes) and all(
        len(_group_by_position(g)) == places for g in groups.values()
    )
    stacks = name == "stack" and min(map(len, groups.values())) > 1
    if not covering and not stacks and not (name in APART and _are_similar_stacks(groups.values())):
        return [part]
    return [
        ("_".join(filter(None, [label, _label(name, value, groups)])), group)
        for value, group in groups.items()
    ]


def _by_value(planes: Sequence[ImagePlane], name: str) -> dict[str, list[ImagePlane]]:
    """Group planes by an entry of their phase, in the order of its values."""
    groups: dict[str, list[ImagePlane]] = defaultdict(list)
    for plane in planes:
        groups[plane.phase[PHASES.index(name)]].append(plane)
    return {value: groups[value] for value in sorted(groups, key=_in_order)}


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _are_similar_stacks(groups: Iterable[Sequence[ImagePlane]]) -> bool:
    """Return whether all groups are evenly spaced stacks of the same length and spacing."""
    gaps = [np.diff(np.sort(positions(group))) for group in groups]
    if len({len(gap) for gap in gaps}) > 1 or len(gaps[0]) < LEAST_PLANES_OF_A_DIRECTION - 1:
        return False
    every = np.concatenate(gaps)
    return bool(every.min() > SAME_PLACE_MM and np.ptp(every) <= 0.05 * every.min())


def _label(name: str, value: str, groups: Mapping[str, object]) -> str:
    """Return a short label of a volume, from its value if that is meaningful."""
    if name == "kind":
        words = {other: re.findall(r"\w+", other) for other in groups}
        common = set.intersection(*(set(found) for found in words.values()))
        own = [word for word in words[value] if word not in common]
        return "-".join(own) or "plain"
    number = _in_order(value)[0]
    if name == "acquired" or not np.isfinite(number):
        return f"{name}-{list(groups).index(value) + 1}"
    return f"{name}-{number:g}"


def _group_by_position(planes: Sequence[ImagePlane]) -> list[list[ImagePlane]]:
    """Group planes by their position along the normal."""
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
    double = [group for group in _group_by_position(planes) if len(group) > 1]
    if double:
        one, other = double[0][:2]
        more = f" (as at {len(double) - 1} more positions)" if len(double) > 1 else ""
        raise VolumeError(
            f"{where} is not a volume: {plane_name(one)} and {plane_name(other)} have the same "
            f"position{more}, and their headers do not distinguish them; keep one of them."
        )


def plane_name(plane: ImagePlane) -> str:
    """Return the name of a plane for messages."""
    return plane.path.name if plane.frame is None else f"frame {plane.frame + 1}"
