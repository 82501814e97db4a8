"""Read DICOM structure sets (RTSTRUCT): fill closed contours on the planes of a scan."""

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.scans.formats.dicom.datasets import reraise_dicom_errors
from napari_sslseg.core.scans.formats.dicom.identity.persons import without_persons
from napari_sslseg.core.scans.formats.dicom.labels.contour_planes import (
    Contour,
    ContourPlane,
    contour_planes,
)
from napari_sslseg.core.scans.formats.dicom.labels.placing import (
    OFF_VOXELS,
    LabelGrid,
)
from napari_sslseg.core.scans.formats.dicom.labels.polygons import Polygon, fill_polygons
from napari_sslseg.core.scans.formats.labels.painting import paint_labels, structure_name
from napari_sslseg.core.scans.geometry import Geometry

EXCLUSIVE = "CLOSEDPLANAR_XOR"
CLOSED = ("CLOSED_PLANAR", EXCLUSIVE)
NOT_CLOSED = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
# Computed positions in the middle between two slices deviate by less than this.
TIE = 1e-4

OPEN = "points and open contours, which enclose no area, were left out"
UNKNOWN = (
    "contours without a type that DICOM defines, such as CLOSED_PLANAR, were left out; export the "
    "structure set again"
)
DEGENERATE = "contours of fewer than 3 points, which enclose no area, were left out"
REPEATED = "contours that are stored more than once count once"
JOINED = "contours that partly overlap were joined, and their common area belongs to the structure"
SMALL = "contours that contain no voxel centre had no effect; they are smaller than a voxel"
CUT = "contours that leave the images were cut"
OUTSIDE = "contours outside the images were left out"
BETWEEN = (
    "contours between the slices were moved to the nearest slice, since they were drawn on other "
    "images than these"
)
HOLES = (
    "contours inside another one, less than half a slice off its plane, were taken as holes of it"
)
SPARSE = (
    "no two neighbouring slices have contours, and slices between contours stay background; "
    "check how many slices lack their label"
)
Remarks = dict[str, Counter[int]]
"""How many contours, or slices, of each label value a remark is about."""


def structure_values(dataset: Dataset) -> dict[int, int]:
    """Return label values by ROI number: 1, 2, … in the order of the numbers.

    Raises
    ------
    VolumeError
        If structures share a number, so that their contours cannot be distinguished.
    """
    regions = dataset.get("StructureSetROISequence") or []
    numbers = [int(region.ROINumber) for region in regions]
    for number, count in Counter(numbers).items():
        if count > 1:
            names = [str(r.get("ROIName") or "") for r in regions if int(r.ROINumber) == number]
            raise VolumeError(
                f"{getattr(dataset, 'filename', None) or 'The structure set'} has {count} "
                f"structures with the number {number} ({', '.join(map(repr, names))}), so that "
                "their contours cannot be distinguished; export it again."
            )
    return {number: value for value, number in enumerate(sorted(numbers), 1)}


def read_structures(
    path: Path, dataset: Dataset, geometry: Geometry, header: object = None
) -> np.ndarray:
    """Fill the contours of a structure set on the grid of a scan.

    Contours of one plane are combined by
    :func:`~napari_sslseg.core.scans.formats.dicom.labels.polygons.fill_polygons`: contours in
    others are holes. Contours between slices are assigned to the nearest slice, and those in the
    middle to the next one. In a resampled scan these are the planes as acquired, on which contours
    are drawn.

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

    Warns
    -----
    ScanWarning
        For each kind of contour that is not filled as it is stored, with the names of the
        structures; and for structures that are hidden by smaller ones.
    """
    with reraise_dicom_errors(path, "contours"):
        contours, remarks = _contours(path, dataset)
        names = _names(dataset)
    grid = LabelGrid(geometry, header)
    placed = {
        value: [part._replace(points=grid.voxel_coordinates(part.points)) for part in parts]
        for value, parts in contours.items()
    }
    spread = [np.ptp(part.points, axis=0) for parts in placed.values() for part in parts]
    # The slice axis is that of the contour planes, for any order of the axes.
    axis = int(np.sum(spread, axis=0).argmin()) if spread and not grid.resampled else 2
    placed = _on_images(placed, axis, grid.shape, path, remarks)
    voxels = {
        value: _fill_contours(value, planes, axis, grid.shape, remarks)
        for value, planes in contour_planes(placed, axis).items()
    }
    drawn = {value for value, inside in voxels.items() if inside.size}
    _warn(path, remarks, drawn, names)
    return grid.regular(paint_labels(grid.shape, voxels, path, names))


def _names(dataset: Dataset) -> dict[int, str]:
    """Return the names of the label values, for messages."""
    values = structure_values(dataset)
    return {
        values[int(region.ROINumber)]: without_persons(region.get("ROIName"), dataset)
        for region in dataset.get("StructureSetROISequence") or []
    }


def _warn(path: Path, remarks: Remarks, drawn: set[int], names: dict[int, str]) -> None:
    sentences = []
    for remark, counts in remarks.items():
        structures = (f"{structure_name(v, names)} ({n})" for v, n in sorted(counts.items()))
        sentences.append(f"{remark}: {', '.join(structures)}.")
    empty = {value for counts in remarks.values() for value in counts} - drawn
    if empty:
        structures = (structure_name(value, names) for value in sorted(empty))
        sentences.append(f"no voxel is labelled {', '.join(structures)}.")
    if not drawn and not remarks:
        sentences.append("it has no contours, so all voxels are background.")
    for sentence in sentences:
        warnings.warn(f"{path}: {sentence}", ScanWarning, stacklevel=5)


def _contours(path: Path, dataset: Dataset) -> tuple[dict[int, list[Contour]], Remarks]:
    """Return the closed contours by label value, in LPS mm, and remarks on other contours."""
    values = structure_values(dataset)
    found: dict[int, list[Contour]] = defaultdict(list)
    remarks: Remarks = defaultdict(Counter)
    for region in dataset.get("ROIContourSequence") or []:
        number = int(region.ReferencedROINumber)
        if number not in values:
            raise VolumeError(f"{path} has contours of an unlisted structure; export it again.")
        value = values[number]
        for contour in region.get("ContourSequence") or []:
            kind = contour.get("ContourGeometricType")
            points = _numbers(contour.get("ContourData"))
            if points.size % 3 or not np.isfinite(points).all():
                raise VolumeError(f"{path} has a contour without valid points; export it again.")
            if kind not in CLOSED:
                remarks[OPEN if kind in NOT_CLOSED else UNKNOWN][value] += 1
            elif points.size < 9:
                remarks[DEGENERATE][value] += 1
            else:
                found[value].append(Contour(points.reshape(-1, 3), kind == EXCLUSIVE))
    return found, remarks


def _numbers(data: Any) -> np.ndarray:
    """Return the numbers of a contour.

    A text of 64 KiB or more is stored without its type in explicit transfer syntaxes (DICOM PS3.5
    6.2.2), and pydicom leaves it as bytes.
    """
    if isinstance(data, bytes):
        data = data.decode("ascii").strip("\0 ").split("\\")
    return np.array([] if data is None else data, dtype=np.float64)


def _nearest(place: float, count: int) -> int:
    """Return the slice nearest to a place; the next one for the middle between two slices.

    Rounding to even numbers would draw contours in the middle of slices on every second slice.
    """
    return min(max(math.floor(place + 0.5 + TIE), 0), count - 1)


def _on_images(
    contours: dict[int, list[Contour]],
    axis: int,
    shape: tuple[int, ...],
    path: Path,
    remarks: Remarks,
) -> dict[int, list[Contour]]:
    """Return the contours that are on the images, such as those of an organ but not of the couch.

    Raises
    ------
    GeometryError
        If a contour crosses the slices, or none is on an image.
    """
    others = [other for other in range(3) if other != axis]
    size = np.array(shape)[others]
    kept: dict[int, list[Contour]] = {value: [] for value in contours}
    for value, parts in contours.items():
        for contour in parts:
            place = float(contour.points[:, axis].mean())
            if np.abs(contour.points[:, axis] - place).max() > OFF_VOXELS:
                raise GeometryError(
                    f"A contour in {path} crosses the slices of the scan; choose the scan that it "
                    "was drawn on."
                )
            low, high = contour.points[:, others].min(0), contour.points[:, others].max(0)
            inside = (high >= -0.5).all() and (low <= size - 0.5).all()
            if not -0.5 <= place <= shape[axis] - 0.5 or not inside:
                remarks[OUTSIDE][value] += 1
                continue
            kept[value].append(contour)
            if abs(place - _nearest(place, shape[axis])) > OFF_VOXELS:
                remarks[BETWEEN][value] += 1
            # Half a pixel more is still inside the pixel at the edge.
            if (low < -1).any() or (high > size).any():
                remarks[CUT][value] += 1
    if OUTSIDE in remarks and not any(kept.values()):
        raise GeometryError(
            f"All contours in {path} are outside the scan; choose the scan that they were drawn on."
        )
    return kept


def _fill_contours(
    value: int, planes: Sequence[ContourPlane], axis: int, shape: tuple[int, ...], remarks: Remarks
) -> np.ndarray:
    """Return the flat indices of the voxels inside the contours of one structure."""
    others = [other for other in range(3) if other != axis]
    found: list[Any] = [np.empty(0, int)]
    used = set()
    for plane in planes:
        polygons = [Polygon(part.points[:, others], part.exclusive) for part in plane.contours]
        filled = fill_polygons(polygons, (shape[others[0]], shape[others[1]]))
        for remark, count in (
            (REPEATED, filled.repeated),
            (JOINED, filled.joined),
            (SMALL, filled.small),
            (HOLES, plane.moved),
        ):
            if count:
                remarks[remark][value] += count
        index = np.empty((3, len(filled.first)), int)
        index[axis] = number = _nearest(plane.place, shape[axis])
        used.add(number)
        index[others[0]], index[others[1]] = filled.first, filled.second
        found.append(np.ravel_multi_index(tuple(index), shape))
    gaps = np.diff(sorted(used))
    if len(gaps) > 1 and gaps.min() > 1:
        remarks[SPARSE][value] += int(gaps.sum()) - len(gaps)
    return np.unique(np.concatenate(found))
