"""Fit a regular grid to image planes, and resample onto it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane, plane_affine
from napari_sslseg.core.scans.formats.dicom.planes.sorting import (
    plane_name,
    plane_normal,
    positions,
)

# Rounded positions in headers deviate by up to 1/50 of the slice distance, and 1/10 of a pixel
# within the plane. Larger deviations are a property of the scan.
UNEVEN = 0.03
DRIFT_PIXELS = 0.15
# Some programs write positions with one decimal, or none.
UNITS_MM = (1.0, 0.1, 0.01)
# In whole millimetres, only the distance that the header states is evidence of even slices.
WHOLE_MM = UNITS_MM[0]
# A gap larger than this multiple of the smallest gap is a missing slice; less is uneven spacing.
GAP = 1.7
# A gantry tilts by at most 30 degrees, 0.58 mm per mm; a little more leaves room for rounding.
STEEPEST = 0.65
# A stack is not longer than a body.
MOST_MM = 5000.0


@dataclass(frozen=True, eq=False)
class StackLayout:
    """Positions of the planes of a stack, and the regular grid that represents them.

    Parameters
    ----------
    along : ndarray, shape (n,)
        Positions of the planes along their normal, relative to the first, in mm, ascending; exact
        multiples of the distance if they deviate only by the rounding of the header.
    shift : ndarray, shape (n, 2)
        Shift of each plane against the first within the plane, in rows and columns; zero unless
        the gantry was tilted.
    distance : float
        Slice distance of the regular grid in mm.
    count : int
        Number of slices of the regular grid.
    margin : ndarray, shape (2, 2)
        Rows and columns of the grid before and after those of the first plane.
    start : float
        Position of the first slice of the grid, relative to the first plane, in mm; not 0 only if
        positions are rounded.
    resampled : bool
        Whether values are interpolated.
    notes : tuple of str
        Differences between the grid and the planes; empty if there are none.
    """

    along: np.ndarray
    shift: np.ndarray
    distance: float
    count: int
    margin: np.ndarray
    start: float = 0.0
    resampled: bool = False
    notes: tuple[str, ...] = ()

    @cached_property
    def slice_of_plane(self) -> np.ndarray:
        """The slice of the grid that represents each plane, shape (n,), ascending.

        It is the nearest one. Two planes share a slice only if the grid is coarser than their gap.
        """
        nearest = np.floor(self.along / self.distance + 0.5 + 1e-6).astype(int)
        return np.clip(nearest, 0, self.count - 1)

    @cached_property
    def plane_of_slice(self) -> np.ndarray:
        """The nearest plane of each slice of the grid, shape (count,)."""
        places = self.distance * np.arange(self.count)
        after = np.clip(np.searchsorted(self.along, places), 1, max(len(self.along) - 1, 1))
        if len(self.along) == 1:
            return np.zeros(self.count, int)
        nearest = after - (places - self.along[after - 1] <= self.along[after] - places)
        nearest[self.slice_of_plane] = np.arange(len(self.along))
        return nearest

    def window(self, plane: int, shape: Sequence[int]) -> tuple[slice, slice]:
        """Rows and columns of the grid that a plane covers, to whole pixels.

        Parameters
        ----------
        plane : int
            Index of the plane.
        shape : sequence of int
            Rows and columns of the plane.
        """
        row, column = self.margin[0] + np.rint(self.shift[plane]).astype(int)
        return slice(row, row + shape[0]), slice(column, column + shape[1])


def fit_regular_grid(planes: Sequence[ImagePlane], where: str) -> StackLayout:
    """Find the regular grid of sorted planes of one direction with different positions.

    Raises
    ------
    VolumeError
        If slices are missing.
    """
    along = positions(planes)
    along = along - along[0]
    thickness = planes[0].distance or planes[0].thickness or 1.0
    if len(planes) == 1:
        notes = (
            []
            if planes[0].distance or planes[0].thickness
            else ["its header gives no slice thickness; it was taken to be 1 mm thick"]
        )
        return StackLayout(
            along, np.zeros((1, 2)), abs(thickness), 1, np.zeros((2, 2), int), notes=tuple(notes)
        )
    gaps = np.diff(along)
    unit = _unit(planes)
    distance, start = along[-1] / (len(planes) - 1), 0.0
    uneven = np.abs(along - distance * np.arange(len(planes))).max() > UNEVEN * distance
    rounded = _fit_rounded(planes, along, unit) if uneven else None
    if rounded is None or along[-1] > MOST_MM:
        _check_complete(planes, gaps, where)
    else:
        distance, start = rounded
        uneven = False
    shift = _in_plane(planes)
    drift = DRIFT_PIXELS + _rounding_in_plane(
        planes[0], unit if rounded or unit < WHOLE_MM else 0.0
    )
    tilted = (np.abs(shift) > drift).any()
    notes, count = [], len(planes)
    if uneven:
        count, off = _slices(along, gaps)
        distance = along[-1] / (count - 1)
        notes.append(
            f"the slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; they were resampled "
            f"to {count} slices, {distance:.2f} mm apart, each up to {off:.2f} mm from the image "
            "that shares its labels"
        )
    elif rounded and unit == WHOLE_MM:
        notes.append(
            f"its positions are rounded to whole mm; the slices were taken to be {distance:g} mm "
            "apart, as its header states"
        )
    if not uneven:
        notes += _gap_note(planes[0], distance)
    margin = np.zeros((2, 2), int)
    if tilted:
        _check_straight(planes, along, shift, drift, where)
        before, after = np.floor(shift.min(0) + 1e-6), np.ceil(shift.max(0) - 1e-6)
        margin = np.array([np.maximum(-before, 0), np.maximum(after, 0)]).astype(int)
        # The shift is within the plane; the position along the normal is unchanged.
        side = shift[-1] * np.array(planes[0].spacing)
        angle = np.rad2deg(np.arctan2(np.linalg.norm(side), along[-1]))
        notes.append(
            f"the gantry was tilted by {angle:.1f} degrees; the slices were shifted within their "
            "planes onto a rectangular grid"
        )
    else:
        shift = np.zeros_like(shift)
    if not uneven:
        along = distance * np.arange(len(planes))
    resampled = bool(uneven or tilted)
    return StackLayout(
        along, shift, float(distance), count, margin, float(start), resampled, tuple(notes)
    )


def _gap_note(plane: ImagePlane, distance: float) -> list[str]:
    """Return a note if even slices are so far apart that every second one may be lost."""
    stated, thickness = abs(plane.distance or 0.0), abs(plane.thickness or 0.0)
    # Some scanners state the gap between slices instead of their distance.
    is_gap = stated < thickness and abs(thickness + stated - distance) < UNEVEN * distance
    apart = f"the slices are {distance:.4g} mm apart, but"
    doubt = "slices may be missing between them"
    if stated and not is_gap:
        times = distance / stated
        if round(times) > 1 and abs(times - round(times)) < UNEVEN * times:
            return [f"{apart} its header states {stated:.4g} mm; {doubt}"]
        if abs(times - 1) < UNEVEN:
            return []
    if not is_gap and 0 < thickness < distance / (2 - UNEVEN):
        return [f"{apart} only {thickness:.4g} mm thick; {doubt}"]
    return []


def _unit(planes: Sequence[ImagePlane]) -> float:
    """Return the unit in mm of which all positions are multiples; 0 if they are not rounded."""
    numbers = np.array([plane.position for plane in planes])
    for unit in UNITS_MM:
        if np.abs(numbers / unit - np.rint(numbers / unit)).max() < 1e-6:
            return unit
    return 0.0


def _fit_rounded(
    planes: Sequence[ImagePlane], along: np.ndarray, unit: float
) -> tuple[float, float] | None:
    """Find the distance of even slices, and the place of the first, that rounding explains.

    Each coordinate deviates by up to half a unit. The distance that the header states is preferred
    to the best fit.

    Returns
    -------
    tuple of float or None
        Distance and place of the first slice in mm; None if even slices do not explain the
        positions.
    """
    spread = unit * np.abs(plane_normal(planes[0])).sum() + 1e-6
    index = np.arange(len(along))
    candidates = [abs(value) for value in (planes[0].distance, planes[0].thickness) if value]
    if unit < WHOLE_MM:
        from scipy.optimize import minimize_scalar

        mean, slack = along[-1] / index[-1], spread / index[-1]
        best = minimize_scalar(
            lambda distance: np.ptp(along - distance * index),
            bounds=(mean - slack, mean + slack),
            method="bounded",
            options={"xatol": 1e-9},
        ).x
        # A lost slice must not look like rounding.
        candidates += [best] if best > 1.5 * spread else []
    for distance in candidates:
        off = along - distance * index
        steps = distance / unit if unit else 0.0
        # Multiples of the unit are not rounded.
        if distance > spread and np.ptp(off) <= spread and abs(steps - round(steps)) > 1e-3:
            return float(distance), float(off.max() + off.min()) / 2
    return None


def _rounding_in_plane(plane: ImagePlane, unit: float) -> np.ndarray:
    """Return by how many rows and columns rounding shifts a plane against the first."""
    axes = np.abs(np.array([plane.orientation[3:], plane.orientation[:3]])).sum(axis=1)
    return unit * axes / np.array(plane.spacing)


def _slices(along: np.ndarray, gaps: np.ndarray) -> tuple[int, float]:
    """Return the number of slices of the grid, and the largest distance of a slice to its plane.

    Every plane needs a slice of its own, so that labels on planes survive on the grid. Where the
    spacing varies around its mean, slices and planes go in pairs. Otherwise the grid is as fine as
    the smallest gap.
    """
    planes = len(along)
    mean = along[-1] / (planes - 1)
    off = float(np.abs(along - mean * np.arange(planes)).max())
    if off < 0.45 * mean:
        return planes, off
    count = int(np.ceil(along[-1] / gaps.min() - 1e-6)) + 1
    places = along[-1] / (count - 1) * np.arange(count)
    return count, float(np.abs(places[:, None] - along).min(axis=1).max())


def resample(planes: np.ndarray, layout: StackLayout) -> np.ndarray:
    """Interpolate planes onto the regular grid, linearly, in float32.

    Parameters
    ----------
    planes : ndarray, shape (n, rows, columns)
        Values of the planes in the order of the layout.
    layout : Layout
        Positions of the planes.

    Returns
    -------
    ndarray, shape (count, rows + margins, columns + margins)
        Where only one of two planes covers a voxel, it has the value of the nearer plane. Voxels
        outside the nearer plane have the smallest value of the scan.
    """
    from scipy.ndimage import shift as shifted

    shape = planes.shape[1:]
    whole = tuple(np.array(shape) + layout.margin.sum(0))
    background = float(planes.min())
    placed = np.full((len(planes), *whole), background, np.float32)
    for number, offset in enumerate(layout.shift):
        rest = offset - np.rint(offset)
        plane = planes[number].astype(np.float32, copy=False)
        moved = shifted(plane, rest, order=1, mode="nearest") if rest.any() else plane
        placed[number][layout.window(number, shape)] = moved
    before, weight = _between(layout)
    out = np.empty((layout.count, *whole), np.float32)
    for number, (first, fraction) in enumerate(zip(before, weight, strict=True)):
        out[number] = placed[layout.plane_of_slice[number]]
        if not fraction:
            continue
        windows = zip(layout.window(first, shape), layout.window(first + 1, shape), strict=True)
        both = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in windows)
        one, other = placed[first][both], placed[first + 1][both]
        out[number][both] = one + fraction * (other - one)
    return out


def _between(layout: StackLayout) -> tuple[np.ndarray, np.ndarray]:
    """Return for each slice of the grid the preceding plane and the weight of the next one."""
    wanted = np.minimum(layout.distance * np.arange(layout.count), layout.along[-1])
    before = np.searchsorted(layout.along, wanted, side="right") - 1
    before = np.clip(before, 0, max(len(layout.along) - 2, 0))
    gap = layout.along[before + 1] - layout.along[before]
    weight = (wanted - layout.along[before]) / gap
    # Rounding errors must not blend a slice that coincides with a plane.
    nearest = np.rint(weight)
    return before, np.where(np.abs(weight - nearest) < 1e-6, nearest, weight)


def _in_plane(planes: Sequence[ImagePlane]) -> np.ndarray:
    """Return the shift of each plane against the first in rows and columns, shape (n, 2)."""
    first = planes[0]
    offset = np.array([plane.position for plane in planes]) - np.array(first.position)
    along_rows, along_columns = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    return np.stack(
        [offset @ along_columns / first.spacing[0], offset @ along_rows / first.spacing[1]], axis=1
    )


def _check_straight(
    planes: Sequence[ImagePlane],
    along: np.ndarray,
    shift: np.ndarray,
    drift: np.ndarray,
    where: str,
) -> None:
    """Check that shifts are those of a tilted gantry, which shifts all slices by equal steps.

    Raises
    ------
    VolumeError
        If they are not.
    """
    slope = np.median(np.diff(shift, axis=0) / np.diff(along)[:, None], axis=0)
    off = shift - slope * along[:, None]
    off = np.abs(off - np.median(off, axis=0))
    crooked = (off > drift).any()
    off = np.linalg.norm(off * np.array(planes[0].spacing), axis=1)
    steepest = np.linalg.norm(slope * np.array(planes[0].spacing))
    if crooked or steepest > STEEPEST:
        raise VolumeError(
            f"{where} is not a straight stack: {plane_name(planes[int(off.argmax())])} is "
            f"{off.max():.3g} mm off the line of the other slices; export the series again."
            if crooked
            else f"{where} is not a stack: its slices are shifted by {steepest:.3g} mm per mm "
            "along their normal, more than a tilted gantry can do; export the series again."
        )


def _check_complete(planes: Sequence[ImagePlane], gaps: np.ndarray, where: str) -> None:
    """Check that no slices are missing; gaps that thicker slices fill are allowed.

    Raises
    ------
    VolumeError
        If slices are missing.
    """
    unit = gaps.min()
    thickness = np.array([plane.thickness or 0.0 for plane in planes])
    reach = np.maximum(thickness[:-1], thickness[1:]) if np.ptp(thickness) > 0.1 * unit else 0.0
    wide = np.flatnonzero((gaps > GAP * unit) & (gaps > 1.1 * reach))
    usual = float(np.median(gaps))
    displaced = _displaced(gaps) if wide.size else None
    if displaced is None and wide.size:
        displaced = _between_others(gaps)
    if displaced is not None:
        raise VolumeError(
            f"{where} is unevenly spaced: {plane_name(planes[displaced])} is "
            f"{gaps[displaced - 1]:.4g} and {gaps[displaced]:.4g} mm from the slices beside it, "
            f"others are {usual:.4g} mm apart; it may be displaced, so export the series again."
        )
    if wide.size > len(gaps) / 2 and gaps.max() <= GAP * usual:
        index = int(gaps.argmin())
        raise VolumeError(
            f"{where} is unevenly spaced: {plane_name(planes[index])} and "
            f"{plane_name(planes[index + 1])} are only {unit:.4g} mm apart, others are "
            f"{usual:.4g} mm apart; one may be displaced, so export the series again."
        )
    if wide.size or gaps.sum() > MOST_MM:
        index = int(wide[0]) if wide.size else int(gaps.argmax())
        more = f" (and in {wide.size - 1} more places)" if wide.size > 1 else ""
        raise VolumeError(
            f"{where} lacks slices: {plane_name(planes[index])} and "
            f"{plane_name(planes[index + 1])} are {gaps[index]:.4g} mm apart, others are "
            f"{unit:.4g} mm apart{more}; copy the whole series again."
        )


def _displaced(gaps: np.ndarray) -> int | None:
    """Return the index of a plane that lies off its place between even planes; None without."""
    usual = float(np.median(gaps))
    off = np.flatnonzero(np.abs(gaps - usual) > UNEVEN * usual)
    if len(off) != 2 or off[1] != off[0] + 1:
        return None
    return int(off[1]) if abs(gaps[off].sum() - 2 * usual) < UNEVEN * usual else None


def _between_others(gaps: np.ndarray) -> int | None:
    """Return the index of a plane between two even planes, if the place of one is empty."""
    usual = float(np.median(gaps))
    off = np.flatnonzero(np.abs(gaps - usual) > UNEVEN * usual)
    near = off[gaps[off] < usual]
    if len(off) != 3 or len(near) != 2 or near[1] != near[0] + 1:
        return None
    wide = gaps[off].max()
    places = gaps[near].sum() - usual, wide - 2 * usual
    return int(near[1]) if max(map(abs, places)) < UNEVEN * usual else None


def grid_affine(planes: Sequence[ImagePlane], layout: StackLayout) -> np.ndarray:
    """Return the affine of the regular grid: column, row and slice to RAS+ mm."""
    first = planes[0]
    affine = plane_affine(first.position, first.orientation, first.spacing, layout.distance)
    affine[:3, 3] += affine[:3, 2] * layout.start / layout.distance
    rows, columns = layout.margin[0]
    affine[:3, 3] -= columns * affine[:3, 0] + rows * affine[:3, 1]
    return affine
