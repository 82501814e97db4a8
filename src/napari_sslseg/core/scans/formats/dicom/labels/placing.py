"""Map labels from patient coordinates in DICOM files to the voxels of a scan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import GeometryError
from napari_sslseg.core.scans.formats.dicom.labels.resampled import labels_to_grid
from napari_sslseg.core.scans.formats.dicom.planes.plane import plane_affine
from napari_sslseg.core.scans.formats.dicom.planes.sorting import plane_normal
from napari_sslseg.core.scans.formats.dicom.volume import DicomVolume
from napari_sslseg.core.scans.geometry import LPS_TO_RAS, Geometry

# Largest distance, in voxels, between a frame and its voxels. Positions in headers are rounded, and
# scans are put on a regular grid; a frame of another grid is further away.
OFF_VOXELS = 0.2


@dataclass(frozen=True)
class LabelFrame:
    """An image plane of labels: its place in LPS mm, and its size.

    Parameters
    ----------
    position, orientation, spacing : tuple of float
        As in a DICOM header.
    shape : tuple of int
        Rows and columns.
    distance, thickness : float or None
        Distance to the next plane, and thickness of the plane, in mm; None if the file has none.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    shape: tuple[int, int]
    distance: float | None = None
    thickness: float | None = None

    def affine(self, distance: float = 1.0) -> np.ndarray:
        """Return the affine of column, row and slice to RAS mm."""
        return plane_affine(self.position, self.orientation, self.spacing, distance)


class LabelGrid:
    """The voxels of a scan, on which frames of labels are placed.

    On a DICOM series, frames are placed on the planes as acquired, which may be rounded, uneven or
    shifted against the regular grid.

    Parameters
    ----------
    geometry : Geometry
        Grid of the scan.
    header : object
        Header of the scan, which may be a stack of DICOM planes.
    """

    def __init__(self, geometry: Geometry, header: object = None) -> None:
        self.geometry = geometry
        stack = header if isinstance(header, DicomVolume) and len(header.planes) > 1 else None
        self.stack = stack
        self.resampled = stack is not None and stack.layout.resampled
        self.shape: tuple[int, ...] = geometry.shape
        self._inverse = np.linalg.inv(geometry.affine)
        if self.stack is not None:
            planes = self.stack.planes
            self.shape = (planes[0].shape[1], planes[0].shape[0], len(planes))
            self._along = np.array([plane.position for plane in planes]) @ plane_normal(planes[0])

    def indices(self, frame: LabelFrame, pixels: np.ndarray, path: Path, name: str) -> np.ndarray:
        """Return the flat indices of the voxels of some pixels of a frame.

        Parameters
        ----------
        frame : Frame
            The frame.
        pixels : ndarray of int
            Flat indices into the frame.
        path : Path
            The file, for messages.
        name : str
            Name of the frame in messages.

        Raises
        ------
        GeometryError
            If the frame is not on a slice of the scan, or a pixel is outside the scan.
        """
        to_voxels, offset = self._to_voxels(np.array(frame.position))
        matrix = to_voxels @ frame.affine()
        start = matrix[:3, 3] + (0, 0, offset)
        snapped, steps = np.rint(start), np.rint(matrix[:3, :2])
        rows, columns = frame.shape
        corners = np.array([(c, r) for c in (0, columns - 1) for r in (0, rows - 1)]).T
        off = start[:, None] + matrix[:3, :2] @ corners - (snapped[:, None] + steps @ corners)
        if (
            np.abs(off).max() > OFF_VOXELS
            or (np.abs(steps).sum(axis=0) != 1).any()
            or (steps[:, 0] * steps[:, 1]).any()
        ):
            copy = "" if self.stack else ", as a DICOM series if its slices are unevenly spaced"
            raise GeometryError(
                f"{name} in {path} {_misfit(frame, matrix, start)}; choose the scan that the "
                f"labels were drawn on{copy}."
            )
        row, column = np.divmod(pixels, columns)
        index = snapped.astype(int)[:, None] + steps.astype(int) @ np.stack([column, row])
        if ((index < 0) | (index >= np.array(self.shape)[:, None])).any():
            raise GeometryError(
                f"{name} in {path} is outside the scan; choose the scan that the labels were drawn "
                "on."
            )
        return np.ravel_multi_index(tuple(index), self.shape)

    def voxel_coordinates(self, points: np.ndarray) -> np.ndarray:
        """Convert the points of a contour to voxel coordinates.

        Parameters
        ----------
        points : ndarray, shape (n, 3)
            Points in LPS mm.

        Returns
        -------
        ndarray, shape (n, 3)
        """
        to_voxels = self._to_voxels(points.mean(0))[0] @ LPS_TO_RAS
        found = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        if self.stack is not None:
            along = points @ plane_normal(self.stack.planes[0])
            gaps = np.diff(self._along)
            before = np.searchsorted(self._along, along, side="right") - 1
            before = np.clip(before, 0, len(gaps) - 1)
            found[:, 2] = before + (along - self._along[before]) / gaps[before]
        return found

    def _to_voxels(self, point: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the matrix from RAS mm to voxels near a point in LPS mm, and the slice offset."""
        if self.stack is None:
            return self._inverse, 0.0
        # Planes may be shifted against each other, so each is a grid of one slice.
        number = int(np.abs(self._along - point @ plane_normal(self.stack.planes[0])).argmin())
        plane = self.stack.planes[number]
        own = LabelFrame(plane.position, plane.orientation, plane.spacing, plane.shape)
        return np.linalg.inv(own.affine(self.stack.layout.distance)), float(number)

    def regular(self, labels: np.ndarray) -> np.ndarray:
        """Map labels on the voxels to the source grid of the scan."""
        if self.stack is None or not self.resampled:
            return labels
        return labels_to_grid(labels, self.stack)


def _misfit(frame: LabelFrame, matrix: np.ndarray, start: np.ndarray) -> str:
    """Say how a frame differs from the slices of the scan: its directions, pixels or place.

    Parameters
    ----------
    frame : LabelFrame
        The frame.
    matrix : ndarray, shape (4, 4)
        Column and row of the frame to voxels of the scan.
    start : ndarray, shape (3,)
        First pixel of the frame in voxels.
    """
    steps, extent = np.abs(matrix[:3, :2]), np.array(frame.shape[::-1]) - 1
    along = steps.argmax(axis=0)
    aside = np.sort(steps, axis=0)[1]
    if along[0] == along[1] or (aside * np.maximum(extent, 1) > OFF_VOXELS).any():
        return "is turned against the slices of the scan"
    size = steps.max(axis=0)
    if (np.abs(size - 1) * np.maximum(extent, 1) > OFF_VOXELS).any():
        own = np.array(frame.spacing)[::-1]
        return (
            f"has pixels of {_times(own)} mm, but those of the scan have {_times(own / size)} mm "
            "(columns × rows)"
        )
    off = np.abs(start - np.rint(start))
    across = ({0, 1, 2} - {*along.tolist()}).pop()
    if off[across] > OFF_VOXELS:
        return f"is not on a slice of the scan, but {off[across]:.2g} slices from the nearest"
    return f"has pixels between those of the scan, {off.max():.2g} voxels from the nearest"


def _times(numbers: np.ndarray) -> str:
    return " × ".join(f"{number:.4g}" for number in numbers)


# A stack is not longer than a body; larger grids mean that the header is damaged.
MOST_MM = 5000.0
MOST_VOXELS = 2**30


def grid_of_frames(frames: Sequence[LabelFrame], path: Path) -> Geometry:
    """Find the regular grid of frames, including empty slices that the file omits.

    Raises
    ------
    GeometryError
        If the frames are not on a regular grid.
    """
    first = frames[0]
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    positions = np.array([frame.position for frame in frames])
    along = positions @ normal
    aside = positions - positions[0] - np.outer(along - along[0], normal)
    if np.ptp(aside, axis=0).max() > OFF_VOXELS * min(first.spacing):
        raise GeometryError(
            f"The frames of {path} are shifted within their planes, as with a tilted gantry, so "
            "they are not a volume by themselves; load it with its scan (like=)."
        )
    places = np.unique(np.round(along - along.min(), 3))
    lowest = frames[int(along.argmin())]
    stated = [first.distance] if first.distance else []
    least = np.diff(places).min() if len(places) > 1 else first.thickness or 1.0
    for distance in [*stated, float(least)]:
        slices = places / distance
        if np.abs(slices - np.rint(slices)).max() <= OFF_VOXELS / 2:
            break
    else:
        distance = float("nan")
    count = int(np.rint(places[-1] / distance)) + 1 if np.isfinite(distance) else 0
    rows, columns = first.shape
    if not count or places[-1] > MOST_MM or rows * columns * count > MOST_VOXELS:
        raise GeometryError(
            f"The frames of {path} are unevenly spaced, so they are not a volume by themselves; "
            "load it with its scan (like=)."
        )
    if count > 1:
        # The mean is more precise than the stated distance, which may be rounded.
        distance = places[-1] / (count - 1)
    return Geometry(replace(lowest, shape=first.shape).affine(distance), (columns, rows, count))
