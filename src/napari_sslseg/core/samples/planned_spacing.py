"""Plan the pixels that a network of slices sees: as coarse as the structures allow.

A network without a GPU spends its minutes on pixels. Sampled at half as fine a spacing, a slice has
a quarter of them, so that four times as many slices are seen in the same time, and each position
sees twice as far around it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.samples.placement import in_plane_axes
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan, Scan
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.settings.preprocessing import Preprocessing

PLANNED_SIDE = 128
"""Pixels along the longest side of a slice, see docs/benchmarks.md."""

LEAST_RATIO = 1.25
"""Slices are sampled again only if their pixels get larger by this factor."""

THINNEST = 6
"""Pixels across the thinnest structure. Labels that are sampled at this spacing and back have a Dice
of about 0.94 with themselves, of 0.87 with two or three pixels."""

MOST_SCANS, MOST_SLICES = 4, 12
"""Labelled scans, and labelled slices of each, in which the structures are measured."""


@dataclass(frozen=True)
class PlannedSpacing:
    """Pixels for the slices of some scans.

    Attributes
    ----------
    spacing : float
        Size of the pixels in mm.
    before : float
        Size of the pixels of the scans in mm.
    """

    spacing: float
    before: float

    def describe(self) -> str:
        """Describe the plan and what it saves."""
        times = (self.spacing / self.before) ** 2
        return (
            f"Slices are sampled at {self.spacing:.3g} mm. With all pixels of the scans "
            f"({self.before:.3g} mm; spacing “keep”) each step takes about {times:.2g} times as long."
        )


def plan_spacing(
    geometries: Sequence[Geometry], plane: Plane, thickness: float | None = None
) -> PlannedSpacing | None:
    """Plan the pixels of slices; None to keep those of the scans.

    The longest side gets ``PLANNED_SIDE`` pixels, and the thinnest structure at least ``THINNEST``,
    as far as the scans have them. Scans differ, so that each number is a median over the scans.

    Parameters
    ----------
    geometries : sequence of Geometry
        Grids of the scans.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    thickness : float, optional
        Thickness in mm of the thinnest labelled structure, see :func:`thinnest_structure`.
    """
    axes = in_plane_axes(plane)
    before = median(min(g.spacing[axis] for axis in axes) for g in geometries)
    longest = median(max(g.spacing[axis] * g.display_shape[axis] for axis in axes) for g in geometries)
    wanted = longest / PLANNED_SIDE
    if thickness is not None:
        wanted = min(wanted, thickness / THINNEST)
    if wanted < LEAST_RATIO * before:
        return None
    return PlannedSpacing(float(f"{wanted:.3g}"), before)


def with_planned_spacing(
    settings: Preprocessing,
    geometries: Sequence[Geometry],
    scans: Iterable[Scan] = (),
    classes: Sequence[int] = (),
    reader: ScanReader | None = None,
) -> tuple[Preprocessing, PlannedSpacing | None]:
    """Replace a spacing that is to be planned, and return the plan if it changes the pixels.

    Parameters
    ----------
    settings : Preprocessing
        Other spacings are left as they are.
    geometries : sequence of Geometry
        Grids of all scans.
    scans : iterable of Volume, path-like, Series or LabelledScan
        The scans; structures are measured in the labelled ones.
    classes : sequence of int
        Label values of the structures.
    reader : ScanReader, optional
        Reads the labels and keeps them.
    """
    if settings.spacing != "planned":
        return settings, None
    plan = plan_spacing(geometries, settings.plane)
    if plan is not None:
        labelled = [scan for scan in scans if isinstance(scan, LabelledScan)]
        thickness = thinnest_structure(labelled, classes, settings.plane, reader or ScanReader())
        plan = plan_spacing(geometries, settings.plane, thickness)
    spacing = "keep" if plan is None else plan.spacing
    return settings.model_copy(update={"spacing": spacing}), plan


def thinnest_structure(
    scans: Sequence[LabelledScan], classes: Sequence[int], plane: Plane, reader: ScanReader
) -> float | None:
    """Measure the thickness of the thinnest structure in labelled slices, in mm.

    The thickness of a structure in a slice is the diameter of the largest circle within it; of a
    structure, it is the median over slices. Some slices of some scans are measured.

    Parameters
    ----------
    scans : sequence of LabelledScan
        Scans with labels.
    classes : sequence of int
        Label values of the structures.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    reader : ScanReader
        Reads the labels and keeps them.

    Returns
    -------
    float or None
        None if no structure is labelled.
    """
    found: dict[int, list[float]] = {}
    for scan in scans[:: max(1, len(scans) // MOST_SCANS)][:MOST_SCANS]:
        labels = reader.labels(scan)
        spacing = tuple(labels.spacing[axis] for axis in in_plane_axes(plane))
        slices = np.moveaxis(labels.data, PLANE_AXIS[plane], 0)
        slices = slices[scan.annotated_mask(slices)]
        for value in classes:
            shown = np.flatnonzero((slices == value).any(axis=(1, 2)))
            for index in shown[:: max(1, len(shown) // MOST_SLICES)][:MOST_SLICES]:
                found.setdefault(value, []).append(_thickness(slices[index] == value, spacing))
    return min((median(values) for values in found.values()), default=None)


def _thickness(mask: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Return the diameter in mm of the largest circle within a structure."""
    from scipy import ndimage

    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    distances = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing)
    # Distances are to the centres of pixels outside, half a pixel beyond the edge.
    return float(2 * distances.max() - min(spacing))
