"""Plan the pixels that a network of slices sees: as coarse as the structures allow.

A network without a GPU spends its minutes on pixels. Sampled at half as fine a spacing, a slice has
a quarter of them, so that four times as many slices are seen in the same time, and each position
sees twice as far around it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

import numpy as np

from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane, in_plane_axes
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan, Scan
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.settings.preprocessing import Preprocessing

PLANNED_SIDE = 128
"""Pixels along the longest side of a slice, see docs/benchmarks.md."""

LEAST_RATIO = 1.25
"""Slices are sampled again only if their pixels get larger by this factor."""

THINNEST = 6
"""Pixels across the thinnest structure. Labels that are sampled so and back have a Dice of about
0.94 with themselves; with two or three pixels across it is 0.87."""

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
            f"Slices are sampled at {self.spacing:.3g} mm, where the scans have {self.before:.3g} "
            f"mm. With all pixels (spacing “keep”) a step takes about {times:.2g} times as long."
        )


def plan_spacing(
    geometries: Sequence[Geometry],
    plane: Plane,
    size: tuple[int, int] | None = None,
    thickness: float | None = None,
) -> PlannedSpacing | None:
    """Plan the pixels of slices; None to keep those of the scans.

    The longest side gets ``PLANNED_SIDE`` pixels, or all slices fit into ``size``. The thinnest
    structure gets at least ``THINNEST`` pixels, as far as the scans have them.

    Parameters
    ----------
    geometries : sequence of Geometry
        Grids of the scans.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    size : tuple of int, optional
        Height and width of the canvas, if they are set.
    thickness : float, optional
        Thickness in mm of the thinnest labelled structure, see :func:`thinnest_structure`.
    """
    axes = in_plane_axes(plane)
    before = median(min(g.spacing[axis] for axis in axes) for g in geometries)
    # Height and width in mm.
    extents = [[g.spacing[axis] * g.display_shape[axis] for axis in axes] for g in geometries]
    if size is None:
        # One scan of another kind does not make the pixels of all others coarse.
        wanted, least = median(map(max, extents)) / PLANNED_SIDE, LEAST_RATIO * before
    else:
        wanted = max(mm / n for sides in extents for mm, n in zip(sides, size, strict=True))
        least = before
    if thickness is not None:
        wanted = min(wanted, thickness / THINNEST)
    # Rounded up, so that slices fit.
    spacing = ceil(wanted * 1000) / 1000
    return PlannedSpacing(spacing, before) if wanted > least else None


def with_planned_spacing(
    settings: Preprocessing,
    geometries: Sequence[Geometry],
    scans: Sequence[Scan] = (),
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
    scans : sequence of Volume, path-like, Series or LabelledScan
        The scans; structures are measured in the labelled ones.
    classes : sequence of int
        Label values of the structures.
    reader : ScanReader, optional
        Reads the labels and keeps them.
    """
    if settings.spacing != "planned":
        return settings, None
    if settings.fit == "resize" and settings.size:
        return settings.model_copy(update={"spacing": "keep"}), None
    plan = plan_spacing(geometries, settings.plane, settings.size)
    if plan is not None:
        labelled = [scan for scan in scans if isinstance(scan, LabelledScan)]
        thickness = thinnest_structure(labelled, classes, settings.plane, reader or ScanReader())
        plan = plan_spacing(geometries, settings.plane, settings.size, thickness)
    spacing = "keep" if plan is None else plan.spacing
    return settings.model_copy(update={"spacing": spacing}), plan


def warn_about_thin_structures(
    settings: Preprocessing,
    scans: Sequence[Scan],
    classes: Sequence[int],
    reader: ScanReader | None = None,
) -> None:
    """Warn if a labelled structure has so few pixels across that it can hardly be learnt.

    Nothing is measured, and nothing said, if the pixels are those of the scans.

    Parameters
    ----------
    settings, scans, classes, reader
        As in :func:`with_planned_spacing`; the spacing is not to be planned any more.
    """
    labelled = [scan for scan in scans if isinstance(scan, LabelledScan)]
    if not isinstance(settings.spacing, float) or not labelled:
        return
    thickness = thinnest_structure(labelled, classes, settings.plane, reader or ScanReader())
    if thickness is not None and thickness < THINNEST / 2 * settings.spacing:
        warnings.warn(
            f"The thinnest labelled structure is {thickness:.2g} mm across, but slices are sampled "
            f"at {settings.spacing:.3g} mm, so that its borders are lost; choose smaller pixels "
            f"from scratch or in the pretraining, such as --spacing {thickness / THINNEST:.2g}.",
            ScanWarning,
            stacklevel=2,
        )


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
