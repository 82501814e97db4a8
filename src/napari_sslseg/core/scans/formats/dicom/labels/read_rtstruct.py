"""Read DICOM structure sets (RTSTRUCT): fill closed contours on the planes of a scan."""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.scans.formats.dicom.datasets import reraise_dicom_errors
from napari_sslseg.core.scans.formats.dicom.labels.placing import (
    OFF_VOXELS,
    LabelGrid,
    paint_labels,
)
from napari_sslseg.core.scans.geometry import Geometry

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
# Contours closer than this, in slices, are in one plane and may be holes of each other.
SAME_PLANE = 0.02
# Decimals to which vertices are rounded, so that vertices on voxel centres stay there.
ROUNDING_DIGITS = 5


def structure_values(dataset: Dataset) -> dict[int, int]:
    """Return label values by ROI number: 1, 2, … in the order of the numbers."""
    regions = dataset.get("StructureSetROISequence") or []
    numbers = sorted({int(region.ROINumber) for region in regions})
    return {number: value for value, number in enumerate(numbers, 1)}


def structure_labels(dataset: Dataset) -> dict[int, str]:
    """Return the names of the label values."""
    values = structure_values(dataset)
    return {
        values[int(region.ROINumber)]: str(region.get("ROIName") or "").strip()
        or f"class {values[int(region.ROINumber)]}"
        for region in dataset.get("StructureSetROISequence") or []
    }


def read_structures(
    path: Path, dataset: Dataset, geometry: Geometry, header: object = None
) -> np.ndarray:
    """Fill the contours of a structure set on the grid of a scan.

    A voxel belongs to a structure if its centre is inside an odd number of contours of one plane,
    or on a contour. Contours between slices are assigned to the nearest slice. In a resampled scan
    these are the planes as acquired, on which contours are drawn.

    Parameters
    ----------
    path : Path
        The file.
    dataset : Dataset
        Attributes of the file.
    geometry : Geometry
        Grid of the scan.
    header : object
        Header of the scan, which may be a stack of DICOM planes.

    Returns
    -------
    ndarray
        Labels in the source grid.
    """
    with reraise_dicom_errors(path, "contours"):
        contours, ignored = _contours(path, dataset)
    if ignored:
        warnings.warn(
            f"{path}: {ignored} points and open contours enclose no area and were ignored.",
            ScanWarning,
            stacklevel=4,
        )
    grid = LabelGrid(geometry, header)
    placed = {
        value: [grid.voxel_coordinates(points) for points in parts]
        for value, parts in contours.items()
    }
    spread = [np.ptp(points, axis=0) for parts in placed.values() for points in parts]
    # The slice axis is that of the contour planes, for any order of the axes.
    axis = int(np.sum(spread, axis=0).argmin()) if spread and grid.stack is None else 2
    voxels = {
        value: _fill_contours(parts, axis, grid.shape, path) for value, parts in placed.items()
    }
    return grid.regular(paint_labels(grid.shape, voxels, path))


def _contours(path: Path, dataset: Dataset) -> tuple[dict[int, list[np.ndarray]], int]:
    """Return the closed contours by label value, in LPS mm, and the number of other contours."""
    values = structure_values(dataset)
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    ignored = 0
    for region in dataset.get("ROIContourSequence") or []:
        number = int(region.ReferencedROINumber)
        if number not in values:
            raise VolumeError(f"{path} has contours of an unlisted structure; export it again.")
        for contour in region.get("ContourSequence") or []:
            if contour.get("ContourGeometricType") not in CLOSED:
                ignored += 1
                continue
            points = np.array(contour.get("ContourData") or [], dtype=np.float64)
            if points.size < 9 or points.size % 3 or not np.isfinite(points).all():
                raise VolumeError(f"{path} has a contour without valid points; export it again.")
            found[values[number]].append(points.reshape(-1, 3))
    return found, ignored


def _fill_contours(
    contours: Sequence[np.ndarray], axis: int, shape: tuple[int, ...], path: Path
) -> np.ndarray:
    """Return the flat indices of the voxels inside the contours of one structure."""
    planes: dict[tuple[int, int], list[np.ndarray]] = defaultdict(list)
    others = [other for other in range(3) if other != axis]
    for points in contours:
        place = float(points[:, axis].mean())
        if np.abs(points[:, axis] - place).max() > OFF_VOXELS:
            raise GeometryError(
                f"A contour in {path} crosses the slices of the scan; choose the scan that it was "
                "drawn on."
            )
        flat = points[:, others]
        inside = (flat.max(0) >= -0.5).all() and (
            flat.min(0) <= np.array(shape)[others] - 0.5
        ).all()
        if not -0.5 <= place <= shape[axis] - 0.5 or not inside:
            raise GeometryError(
                f"A contour in {path} is outside the scan; choose the scan that it was drawn on."
            )
        nearest = min(max(round(place), 0), shape[axis] - 1)
        planes[nearest, round(place / SAME_PLANE)].append(np.round(flat, ROUNDING_DIGITS))
    found: list[Any] = [np.empty(0, int)]
    for (number, _), polygons in planes.items():
        first, second = _inside(polygons, (shape[others[0]], shape[others[1]]))
        index = np.empty((3, len(first)), int)
        index[axis], index[others[0]], index[others[1]] = number, first, second
        found.append(np.ravel_multi_index(tuple(index), shape))
    return np.unique(np.concatenate(found))


def _inside(
    polygons: Sequence[np.ndarray], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels inside an odd number of polygons of one plane, or on one of them."""
    from skimage.measure import grid_points_in_poly

    low = np.maximum(np.floor(np.min([polygon.min(0) for polygon in polygons], axis=0)), 0)
    high = np.minimum(np.ceil(np.max([polygon.max(0) for polygon in polygons], axis=0)) + 1, shape)
    size = tuple(np.maximum(high - low, 0).astype(int).tolist())
    odd, edge = np.zeros(size, bool), np.zeros(size, bool)
    for polygon in polygons:
        where = grid_points_in_poly(size, polygon - low, binarize=False)
        odd ^= where == 1
        edge |= where > 1
    first, second = np.nonzero(odd | edge)
    return first + int(low[0]), second + int(low[1])
