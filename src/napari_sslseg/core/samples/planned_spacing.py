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
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane, format_size, in_plane_axes
from napari_sslseg.core.common.text import count_phrase, join_names
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, name_of
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.settings.preprocessing import Preprocessing

PLANNED_SIDE = 128
"""Pixels along the longest side of a slice, see docs/benchmarks.md."""

LEAST_GAIN = 1.5
"""Slices are sampled again only if they have this many times fewer pixels then."""

THINNEST = 6
"""Pixels across the thinnest structure. Labels that are sampled so and back have a Dice of about
0.94 with themselves; with two or three pixels across it is 0.87."""

MOST_SCANS, MOST_SLICES = 4, 12
"""Labelled scans, and labelled slices of each, in which a structure is measured."""

SMALLEST_SIDE = 32
"""Slices whose longest side becomes shorter than this are reported."""


@dataclass(frozen=True)
class PlannedSpacing:
    """Pixels for the slices of some scans.

    Attributes
    ----------
    spacing : float
        Size of the pixels in mm.
    before : tuple of float
        Height and width of the pixels of the scans in mm.
    times : float
        How many times as many pixels the slices of the scans have.
    size : tuple of int or None
        Canvas into which slices have to fit, if it is set.
    """

    spacing: float
    before: tuple[float, float]
    times: float
    size: tuple[int, int] | None = None

    def describe(self) -> str:
        """Describe the plan and its purpose."""
        height, width = (f"{mm:.3g}" for mm in self.before)
        had = height if height == width else f"{height} × {width}"
        text = f"Slices are sampled at {self.spacing:.3g} mm, where the scans have {had} mm"
        if self.size is not None:
            return f"{text}, so that they fit into {format_size(self.size)} pixels."
        return (
            f"{text}. With all pixels (spacing “keep”) a step takes about {self.times:.2g} times "
            "as long."
        )


def plan_spacing(
    geometries: Sequence[Geometry],
    plane: Plane,
    size: tuple[int, int] | None = None,
    thickness: float | None = None,
) -> PlannedSpacing | None:
    """Plan the pixels of slices; None to keep those of the scans.

    With ``size``, all slices fit into it. Otherwise the longest side gets ``PLANNED_SIDE`` pixels,
    and the thinnest structure at least ``THINNEST``, as far as the scans have them; pixels are kept
    unless this saves many.

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
    shapes = np.array([[g.display_shape[axis] for axis in axes] for g in geometries])
    pixels = np.array([[g.spacing[axis] for axis in axes] for g in geometries])
    extents = shapes * pixels  # in mm
    if size is None:
        # One scan of another kind does not make the pixels of all others coarse.
        wanted = float(np.median(extents.max(axis=1))) / PLANNED_SIDE
        if thickness is not None:
            wanted = min(wanted, thickness / THINNEST)
    elif (shapes <= size).all():
        return None
    else:
        wanted = float((extents / size).max())
    spacing = ceil(wanted * 1000) / 1000  # Rounded up, so that slices fit.
    # Pixels that are not square would become finer along one side.
    times = float(np.median(shapes.prod(axis=1)) / np.median(extents.prod(axis=1) / spacing**2))
    if size is None and times < LEAST_GAIN:
        return None
    height, width = np.median(pixels, axis=0).tolist()
    return PlannedSpacing(spacing, (height, width), times, size)


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
    if plan is not None and settings.size is None:
        labelled = [scan for scan in scans if isinstance(scan, LabelledScan)]
        thickness = thinnest_structure(labelled, classes, settings.plane, reader or ScanReader())
        plan = plan_spacing(geometries, settings.plane, None, thickness)
    spacing = "keep" if plan is None else plan.spacing
    return settings.model_copy(update={"spacing": spacing}), plan


def warn_about_lost_detail(
    settings: Preprocessing,
    scans: Sequence[Scan],
    geometries: Sequence[Geometry],
    classes: Sequence[int],
    reader: ScanReader | None = None,
) -> None:
    """Warn if a structure, or the slices of a scan, get so few pixels that little can be learnt.

    Nothing is measured, and nothing said, if the pixels are those of the scans.

    Parameters
    ----------
    settings, scans, geometries, classes, reader
        As in :func:`with_planned_spacing`; the spacing is not to be planned any more.
    """
    if not isinstance(settings.spacing, float):
        return
    axes, labelled = in_plane_axes(settings.plane), []
    small, finest = [], float("inf")
    for scan, geometry in zip(scans, geometries, strict=True):
        if isinstance(scan, LabelledScan):
            labelled.append(scan)
            finest = min(finest, *(geometry.spacing[axis] for axis in axes))
        shape = [geometry.display_shape[axis] for axis in axes]
        longest = max(geometry.spacing[axis] * n for axis, n in zip(axes, shape, strict=True))
        if longest / settings.spacing < SMALLEST_SIDE <= max(shape) / 2:
            small.append(name_of(scan))
    if small:
        warnings.warn(
            f"Slices of {count_phrase(len(small), 'scan')} ({join_names(small)}) become smaller "
            f"than {SMALLEST_SIDE} pixels at {settings.spacing:.3g} mm, since their pixels are "
            "much finer than those of the others; leave them out if they show something else.",
            ScanWarning,
            stacklevel=2,
        )
    reader = reader or ScanReader()
    thickness = thinnest_structure(labelled, classes, settings.plane, reader) if labelled else None
    if thickness is not None and thickness < THINNEST / 2 * settings.spacing:
        wanted = thickness / THINNEST
        choice = f"--spacing {wanted:.2g}" if wanted > LEAST_GAIN * finest else "--spacing keep"
        warnings.warn(
            f"The thinnest labelled structure is {thickness:.2g} mm across, but slices are sampled "
            f"at {settings.spacing:.3g} mm, so that its borders are lost; choose smaller pixels "
            f"from scratch or in the pretraining, such as {choice}.",
            ScanWarning,
            stacklevel=2,
        )


def thinnest_structure(
    scans: Sequence[LabelledScan], classes: Sequence[int], plane: Plane, reader: ScanReader
) -> float | None:
    """Measure the thickness of the thinnest structure in labelled slices, in mm.

    The thickness of a structure in a slice is the diameter of the largest circle within it; of a
    structure, it is the median over slices. Each structure is measured in some slices of some of
    the scans that show it.

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
    found: dict[int, list[float]] = {value: [] for value in classes}
    left = dict.fromkeys(classes, MOST_SCANS)
    for scan in scans:
        wanted = [value for value, count in left.items() if count]
        if not wanted:
            break
        labels = reader.labels(scan)
        spacing = tuple(labels.spacing[axis] for axis in in_plane_axes(plane))
        slices = np.moveaxis(labels.data, PLANE_AXIS[plane], 0)
        slices = slices[scan.annotated_mask(slices)]
        for value in wanted:
            shown = np.flatnonzero((slices == value).any(axis=(1, 2)))
            left[value] -= bool(shown.size)
            for index in shown[:: max(1, len(shown) // MOST_SLICES)][:MOST_SLICES]:
                found[value].append(_thickness(slices[index] == value, spacing))
    return min((median(values) for values in found.values() if values), default=None)


def _thickness(mask: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Return the diameter in mm of the largest circle within a structure."""
    from scipy import ndimage

    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    distances = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing)
    # Distances are to the centres of pixels outside, half a pixel beyond the edge.
    return float(2 * distances.max() - min(spacing))
