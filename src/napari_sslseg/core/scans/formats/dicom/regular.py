"""From the true positions of image planes to a regular grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.plane import ImagePlane, plane_affine
from napari_sslseg.core.scans.formats.dicom.sorting import plane_name, positions

# What the rounding of positions in headers was seen to cost: a fiftieth of the slice distance,
# a tenth of a pixel in the plane. Anything beyond is a property of the scan.
UNEVEN = 0.03
DRIFT_PIXELS = 0.15
# A gap of this many of the smallest ones is a slice that is missing; less is uneven spacing.
GAP = 1.7
# A gantry tilts by 30 degrees at the most.
STEEPEST = 1.0
# Slices further apart than a body is long are no stack.
MOST_MM = 5000.0


@dataclass(frozen=True, eq=False)
class StackLayout:
    """Where the planes of a stack lie, and the regular grid that stands for them.

    Parameters
    ----------
    along : ndarray, shape (n,)
        Positions of the planes along their normal from the first, in mm, ascending; exact
        multiples of the distance where they are so but for the rounding of the header.
    shift : ndarray, shape (n, 2)
        How far each plane lies from the first within the plane, in rows and columns; zero but
        for a tilted gantry.
    distance : float
        Slice distance of the regular grid in mm.
    count : int
        Its number of slices.
    margin : ndarray, shape (2, 2)
        Rows and columns that the grid has before and after those of the first plane.
    notes : tuple of str
        What makes the grid differ from the planes; empty if it does not.
    """

    along: np.ndarray
    shift: np.ndarray
    distance: float
    count: int
    margin: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def resampled(self) -> bool:
        """Whether values are interpolated."""
        return bool(self.notes)


def fit_regular_grid(planes: Sequence[ImagePlane], where: str) -> StackLayout:
    """Find the regular grid of sorted planes of one direction, each at a position of its own.

    Raises
    ------
    VolumeError
        If slices are missing.
    """
    along = positions(planes)
    along = along - along[0]
    thickness = planes[0].distance or planes[0].thickness or 1.0
    if len(planes) == 1:
        return StackLayout(along, np.zeros((1, 2)), abs(thickness), 1, np.zeros((2, 2), int))
    gaps = np.diff(along)
    _refuse_missing(planes, gaps, where)
    distance = along[-1] / (len(planes) - 1)
    uneven = np.abs(along - distance * np.arange(len(planes))).max() > UNEVEN * distance
    shift = _in_plane(planes)
    tilted = np.abs(shift).max() > DRIFT_PIXELS
    notes, count = [], len(planes)
    if uneven:
        count = round(along[-1] / float(np.median(gaps))) + 1
        distance = along[-1] / (count - 1)
        notes.append(
            f"the slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; they were resampled "
            f"to {count} slices, {distance:.2f} mm apart"
        )
    margin = np.zeros((2, 2), int)
    if tilted:
        _refuse_crooked(planes, along, shift, where)
        before, after = np.floor(shift.min(0) + 1e-6), np.ceil(shift.max(0) - 1e-6)
        margin = np.array([np.maximum(-before, 0), np.maximum(after, 0)]).astype(int)
        # Both ways lie in the plane; along the normal the planes are as they were.
        side = shift[-1] * np.array(planes[0].spacing)
        angle = np.rad2deg(np.arctan2(np.linalg.norm(side), along[-1]))
        notes.append(
            f"the gantry was tilted by {angle:.1f} degrees; the slices were shifted within their "
            "planes onto a grid at right angles"
        )
    else:
        shift = np.zeros_like(shift)
    if not uneven:
        along = distance * np.arange(len(planes))
    return StackLayout(along, shift, float(distance), count, margin, tuple(notes))


def resample(planes: np.ndarray, layout: StackLayout) -> np.ndarray:
    """Interpolate planes onto the regular grid, linearly, in float32.

    Parameters
    ----------
    planes : ndarray, shape (n, rows, columns)
        Values of the planes in the order of the layout.
    layout : Layout
        Where they lie.

    Returns
    -------
    ndarray, shape (count, rows + margins, columns + margins)
        Where a shifted plane does not reach, the smallest value of the scan stands.
    """
    from scipy.ndimage import shift as shifted

    background = float(planes.min())
    padded = np.pad(
        planes.astype(np.float32),
        ((0, 0), *layout.margin.T.tolist()),
        constant_values=background,
    )
    for plane, offset in zip(padded, layout.shift, strict=True):
        if offset.any():
            plane[:] = shifted(plane, offset, order=1, cval=background)
    before, weight = _between(layout)
    out = np.empty((layout.count, *padded.shape[1:]), np.float32)
    for number, (first, share) in enumerate(zip(before, weight, strict=True)):
        out[number] = padded[first]
        if share > 0:
            out[number] += share * (padded[first + 1] - padded[first])
    return out


def labels_on_planes(labels: np.ndarray, layout: StackLayout, shape: tuple[int, int]) -> np.ndarray:
    """Bring labels of the regular grid back onto the planes, by the nearest voxel.

    Parameters
    ----------
    labels : ndarray, shape (count, rows + margins, columns + margins)
        Labels on the regular grid.
    layout : Layout
        Where the planes lie.
    shape : tuple of int
        Rows and columns of a plane.

    Returns
    -------
    ndarray, shape (n, rows, columns)
    """
    if not layout.resampled:
        return labels
    slices = np.clip(np.rint(layout.along / layout.distance).astype(int), 0, layout.count - 1)
    out = np.empty((len(slices), *shape), labels.dtype)
    for number, (index, offset) in enumerate(zip(slices, layout.shift, strict=True)):
        first = layout.margin[0] + np.rint(offset).astype(int)
        out[number] = labels[index, first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]]
    return out


def _between(layout: StackLayout) -> tuple[np.ndarray, np.ndarray]:
    """For each slice of the grid the plane before it, and the share of the next one."""
    wanted = np.minimum(layout.distance * np.arange(layout.count), layout.along[-1])
    before = np.searchsorted(layout.along, wanted, side="right") - 1
    before = np.clip(before, 0, max(len(layout.along) - 2, 0))
    gap = layout.along[before + 1] - layout.along[before]
    weight = (wanted - layout.along[before]) / gap
    # Rounding must not blend a slice that is exactly at its place.
    nearest = np.rint(weight)
    return before, np.where(np.abs(weight - nearest) < 1e-6, nearest, weight)


def _in_plane(planes: Sequence[ImagePlane]) -> np.ndarray:
    """Shift of each plane against the first along rows and columns, in pixels, shape (n, 2)."""
    first = planes[0]
    offset = np.array([plane.position for plane in planes]) - np.array(first.position)
    along_rows, along_columns = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    return np.stack(
        [offset @ along_columns / first.spacing[0], offset @ along_rows / first.spacing[1]], axis=1
    )


def _refuse_crooked(
    planes: Sequence[ImagePlane], along: np.ndarray, shift: np.ndarray, where: str
) -> None:
    """Refuse shifts that no tilted gantry makes: it shifts each slice by as much as the last."""
    slope = np.median(np.diff(shift, axis=0) / np.diff(along)[:, None], axis=0)
    off = shift - slope * along[:, None]
    off = np.abs(off - np.median(off, axis=0)).max(1)
    steepest = np.linalg.norm(slope * np.array(planes[0].spacing))
    if off.max() > DRIFT_PIXELS or steepest > STEEPEST:
        raise VolumeError(
            f"{where} is no straight stack: {plane_name(planes[int(off.argmax())])} lies "
            f"{off.max():.3g} pixels beside the line of the other slices; export the series again."
            if off.max() > DRIFT_PIXELS
            else f"{where} is no stack: its slices are shifted by {steepest:.3g} mm with each mm "
            "along their normal, which no gantry does; export the series again."
        )


def _refuse_missing(planes: Sequence[ImagePlane], gaps: np.ndarray, where: str) -> None:
    """Refuse gaps of whole slices, unless thicker slices fill them."""
    unit = gaps.min()
    thickness = np.array([plane.thickness or 0.0 for plane in planes])
    reach = np.maximum(thickness[:-1], thickness[1:]) if np.ptp(thickness) > 0.1 * unit else 0.0
    wide = np.flatnonzero((gaps > GAP * unit) & (gaps > 1.1 * reach))
    if wide.size or gaps.sum() > MOST_MM:
        index = int(wide[0]) if wide.size else int(gaps.argmax())
        more = f" (and in {wide.size - 1} more places)" if wide.size > 1 else ""
        raise VolumeError(
            f"{where} lacks slices: {plane_name(planes[index])} and "
            f"{plane_name(planes[index + 1])} are {gaps[index]:.4g} mm apart where others are "
            f"{unit:.4g} mm apart{more}; copy the whole series again."
        )


def grid_affine(planes: Sequence[ImagePlane], layout: StackLayout) -> np.ndarray:
    """Affine of the regular grid in RAS+ mm for arrays ordered column, row, slice."""
    first = planes[0]
    affine = plane_affine(first.position, first.orientation, first.spacing, layout.distance)
    rows, columns = layout.margin[0]
    affine[:3, 3] -= columns * affine[:3, 0] + rows * affine[:3, 1]
    return affine
