"""Divide the planes of one direction into volumes, by what their headers say."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_sslseg.core.scans.formats.dicom.phases.attributes import PHASES
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.planes.sorting import (
    LEAST_PLANES_OF_A_DIRECTION,
    SAME_PLACE_MM,
    group_by_position,
    place_numbers,
    plane_name,
    positions,
    without_copies,
    without_same_images,
)

# Entries that separate volumes even if their slices are interleaved. Other entries, such as the
# acquisition number, also differ within one interleaved volume.
APART = ("kind", "component", "echo", "time-point", "kernel", "tube-voltage", "b-value")
# Times that need not be equal at all positions: they vary with the heart rate, and with the slice.
TIMES = {"trigger": "phase", "frame-time": "frame"}
ORDERS = {"acquired": "acquisition time", "instance": "image number"}
# Largest relative difference of echo times within a volume.
SAME_ECHO = 0.01


@dataclass(frozen=True)
class Phase:
    """Planes that the headers assign to one volume.

    Parameters
    ----------
    label : str
        What distinguishes it from the other volumes, such as ``b-value-1000``; may be empty.
    planes : list of ImagePlane
        Its planes in any order.
    notes : tuple of str
        How it was distinguished, where this was inferred.
    problem : str or None
        Why it is not a volume: the end of a sentence that begins with the name of the volume.
    """

    label: str
    planes: list[ImagePlane]
    notes: tuple[str, ...] = ()
    problem: str | None = None

    def part(self, label: str, planes: list[ImagePlane], note: str = "") -> "Phase":
        """Return a part of the phase."""
        label = "_".join(filter(None, [self.label, label]))
        return replace(self, label=label, planes=planes, notes=(*self.notes, *filter(None, [note])))

    @property
    def is_double(self) -> bool:
        """Whether several planes have the same position."""
        return int(place_numbers(self.planes).max()) + 1 < len(self.planes)


def split_phases(planes: Sequence[ImagePlane]) -> list[Phase]:
    """Split planes of one direction into volumes.

    A stack named in the header is a volume. Otherwise an entry of the phase separates volumes if

    - several planes have the same position, and each of its values covers all positions;
    - or each value of kind, echo, time point, kernel or b-value, among others, forms a stack with
      the same even spacing;
    - or it is a time that differs between positions, and each position has equally many planes,
      which are then numbered in the order of the time;
    - or the first condition is met except for values that lack positions, which are then problems.
    """
    return _divide(Phase("", without_copies(planes)))


def _divide(phase: Phase) -> list[Phase]:
    parts = [phase]
    for name in PHASES:
        parts = [finer for part in parts for finer in _split(part, name)]
    return [finer for part in parts for finer in (_resolve(part) if part.is_double else [part])]


def _resolve(phase: Phase) -> list[Phase]:
    """Divide planes at the same positions that no entry divides completely."""
    for name, label in TIMES.items():
        found = _by_order(phase, name, label) if _is_cycle(phase, name) else []
        if found:
            return [finer for part in found for finer in _divide(part)]
    found = _incomplete(phase)
    if found:
        return found
    different = without_same_images(phase.planes)
    single = []
    if len(different) < len(phase.planes):
        single = _divide(replace(phase, planes=different))
        if not any(part.problem for part in single):
            return single
        # Volumes may have the same empty images at their ends.
    several = len(group_by_position(phase.planes)) >= LEAST_PLANES_OF_A_DIRECTION
    for name, meaning in ORDERS.items() if several else ():
        note = (
            "of the entries that are compared, the volumes of its series differ only in the "
            f"{meaning} of their images; they were numbered in this order"
        )
        found = _by_order(phase, name, "repeat", note) if _is_ordered(phase, name) else []
        if found:
            return found
    return single or [replace(phase, problem=_why_double(phase.planes))]


def _split(phase: Phase, name: str) -> list[Phase]:
    """Split by an entry whose values each cover all positions, or are similar stacks."""
    planes = phase.planes
    groups = _by_value(planes, name)
    if len(groups) == 1 or name == "instance":
        return [phase]
    if name in ORDERS and len(group_by_position(planes)) < LEAST_PLANES_OF_A_DIRECTION:
        return [phase]
    covered = _covered(planes, groups)
    places = len(set().union(*covered.values()))
    covering = places < len(planes) and all(len(found) == places for found in covered.values())
    stacks = name == "stack" and min(map(len, groups.values())) > 1
    similar = name in APART and _are_similar_stacks(groups.values(), phase.is_double)
    if not covering and not stacks and not similar:
        return [phase]
    longest = max(map(len, groups.values()))
    return [
        phase.part(
            _label(name, value, groups),
            group,
            f"it has {len(group)} slices, another volume of its series {longest}"
            if similar and len(group) < longest
            else "",
        )
        for value, group in groups.items()
    ]


def _by_order(phase: Phase, name: str, label: str, note: str = "") -> list[Phase]:
    """Divide by the order of a number at each position."""
    index = PHASES.index(name)
    groups = group_by_position(phase.planes)
    ranks = [sorted(group, key=lambda plane: _number(plane.phase[index])) for group in groups]
    return [
        phase.part(f"{label}-{number + 1}", list(group), note)
        for number, group in enumerate(zip(*ranks, strict=True))
    ]


def _numbers(phase: Phase, name: str) -> np.ndarray | None:
    """Return a number of the planes at each position, ascending, shape (positions, planes).

    None if positions have different numbers of planes, or a number is absent or occurs twice.
    """
    index = PHASES.index(name)
    groups = group_by_position(phase.planes)
    if len({len(group) for group in groups}) > 1:
        return None
    numbers = np.sort(
        [[_number(plane.phase[index]) for plane in group] for group in groups], axis=1
    )
    distinct = np.isfinite(numbers).all() and (np.diff(numbers, axis=1) > 0).all()
    return numbers if distinct else None


def _follow_one_another(numbers: np.ndarray) -> bool:
    return bool((numbers.max(0)[:-1] < numbers.min(0)[1:]).all())


def _is_cycle(phase: Phase, name: str) -> bool:
    """Return whether times have one course at all positions, but for their start and length.

    The trigger times of a cine vary with the heart rate. Other times have no such course.
    """
    times = _numbers(phase, name)
    if times is None:
        return False
    course = (times - times[:, :1]) / (times[:, -1:] - times[:, :1])
    mean = course.mean(0)
    same = np.abs(course - mean).max() < 0.5 * np.diff(mean).min()
    return bool(same) or _follow_one_another(times)


def _is_ordered(phase: Phase, name: str) -> bool:
    """Return whether volumes follow one another, or else the images of each position do."""
    numbers = _numbers(phase, name)
    if numbers is None:
        return False
    by_start = numbers[np.argsort(numbers[:, 0])]
    return _follow_one_another(numbers) or bool((by_start[:-1, -1] < by_start[1:, 0]).all())


def _incomplete(phase: Phase) -> list[Phase]:
    """Divide by an entry of which at least half of the values cover all positions.

    The other values are volumes that lack slices. Empty if there is no such entry.
    """
    planes = phase.planes
    for name in PHASES:
        groups = _by_value(planes, name)
        if name in ORDERS or len(groups) == 1:
            continue
        covered = _covered(planes, groups)
        every = set().union(*covered.values())
        whole = [value for value in groups if len(covered[value]) == len(every)]
        if not whole or 2 * len(whole) < len(groups):
            continue
        found = []
        for value, group in groups.items():
            part = phase.part(_label(name, value, groups), group)
            if value in whole:
                found += _divide(part)
                continue
            missing = sorted(every - covered[value])
            problem = _why_incomplete(missing, len(every), planes, groups[whole[0]])
            found.append(replace(part, problem=problem))
        return found
    return []


def _covered(
    planes: Sequence[ImagePlane], groups: Mapping[str, Sequence[ImagePlane]]
) -> dict[str, set[int]]:
    """Return the numbers of the positions that each group covers."""
    number = dict(zip(map(id, planes), place_numbers(planes).tolist(), strict=True))
    return {value: {number[id(plane)] for plane in group} for value, group in groups.items()}


def _by_value(planes: Sequence[ImagePlane], name: str) -> dict[str, list[ImagePlane]]:
    """Group planes by an entry of their phase, in the order of its values."""
    groups: dict[str, list[ImagePlane]] = defaultdict(list)
    for plane in planes:
        groups[plane.phase[PHASES.index(name)]].append(plane)
    found: dict[str, list[ImagePlane]] = {}
    last = ""
    for value in sorted(groups, key=_in_order):
        if name == "echo" and last and _is_same_echo(_in_order(last)[0], _in_order(value)[0]):
            found[last] += groups[value]
        else:
            found[value], last = groups[value], value
    return found


def _is_same_echo(first: float, other: float) -> bool:
    # Slices of one echo may be acquired with slightly different times.
    return other - first < SAME_ECHO * other


def _number(value: str) -> float:
    # A time may end with its zone.
    return _in_order(re.split(r"(?<=\d\d)[-+]", value)[0])[0]


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value.rstrip("% ")), value
    except ValueError:
        return float("inf"), value


def _are_similar_stacks(groups: Iterable[Sequence[ImagePlane]], double: bool) -> bool:
    """Return whether all groups are evenly spaced stacks of the same length and spacing.

    Interleaved stacks may differ in length by a fifth, as slices at their ends may be lost, but not
    if planes have the same position (``double``): then lost slices are known.
    """
    sorted_places = [np.sort(positions(group)) for group in groups]
    lengths = [len(places) for places in sorted_places]
    if min(lengths) < LEAST_PLANES_OF_A_DIRECTION:
        return False
    every = np.concatenate([np.diff(places) for places in sorted_places])
    if every.min() <= SAME_PLACE_MM or np.ptp(every) > 0.05 * every.min():
        return False
    if double or max(lengths) == min(lengths):
        return max(lengths) == min(lengths)
    start = max(places[0] for places in sorted_places)
    end = min(places[-1] for places in sorted_places)
    shortest = min(places[-1] - places[0] for places in sorted_places)
    few = max(lengths) - min(lengths) <= max(1, 0.2 * max(lengths))
    return bool(few and end - start > 0.5 * shortest)


def _label(name: str, value: str, groups: Mapping[str, object]) -> str:
    """Return a short label of a volume, from its value if that is meaningful."""
    if name in ("kind", "component", "kernel", "asl", "option"):
        words = {other: re.findall(r"\w+", other) for other in groups}
        common = set.intersection(*(set(found) for found in words.values()))
        own = [word for word in words[value] if word not in common]
        return "-".join([name] * (name in ("kernel", "option")) + (own or ["plain"]))
    if not value:
        return f"{name}-none"
    number = _in_order(value)[0]
    if name == "acquired" or not np.isfinite(number):
        return f"{name}-{list(groups).index(value) + 1}"
    return f"{name}-{number:g}"


def _why_incomplete(
    missing: Sequence[int], places: int, planes: Sequence[ImagePlane], whole: Sequence[ImagePlane]
) -> str:
    """Say which slices a volume lacks, by their place in a volume that has them."""
    numbers = place_numbers(planes)
    present = {id(plane) for plane in whole}
    beside = [
        next(p for p, n in zip(planes, numbers, strict=True) if n == number and id(p) in present)
        for number in missing
    ]
    where = ", ".join(f"{value:g}" for value in beside[0].position)
    more = f" and at {len(missing) - 1} more" if len(missing) > 1 else ""
    return (
        f"lacks {len(missing)} of {places} slices: it has none at the position ({where}) mm, that "
        f"of {plane_name(beside[0])} in another volume{more}; copy the whole series again."
    )


def _why_double(planes: Sequence[ImagePlane]) -> str:
    """Say which planes have the same position, and what the numbers of planes suggest."""
    groups = group_by_position(planes)
    double = [group for group in groups if len(group) > 1]
    one, other = double[0][:2]
    more = f" (as at {len(double) - 1} more positions)" if len(double) > 1 else ""
    same = f"{plane_name(one)} and {plane_name(other)} have the same position{more}"
    counts = Counter(map(len, groups))
    usual, times = counts.most_common(1)[0]
    if len(groups) == 1 and len(planes) > 2:
        where = ", ".join(f"{value:g}" for value in one.position)
        return (
            f"is not a volume: its {len(planes)} images all have the position ({where}) mm, and no "
            "entry of their headers that is understood assigns them to volumes; export the series "
            "with its geometry."
        )
    if usual == 1 or len(groups) == 1:
        return (
            f"is not a volume: {same}, and their headers do not distinguish them; keep one of them."
        )
    if times == len(groups):
        return (
            f"is not a volume: {same}, {usual} images at each, and no entry of their headers that "
            "is understood assigns them to volumes; export the volumes as separate series."
        )
    odd = next(group for group in groups if len(group) != usual)
    return (
        f"is not a volume: {same}, {usual} images at most positions but {len(odd)} at that of "
        f"{plane_name(odd[0])}, so it cannot be told which volume each belongs to; copy or export "
        "the whole series again."
    )
