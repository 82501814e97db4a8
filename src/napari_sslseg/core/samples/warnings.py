"""Warn about scans that differ from the rest of a training in slice distance or slice size.

One network sees the same number of neighbouring slices in all scans, on a canvas that holds the
largest slice.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np

from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.common.text import count_phrase, join_names
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.settings.preprocessing import Preprocessing

Spacing = tuple[float, float, float]

DISTANT_RATIO = 3.0
"""Ratio of slice distance to pixel size above which adjacent slices differ strongly."""

LARGE_RATIO = 4.0
"""A canvas of more than this many times the median slice area is reported, with its cause."""


def default_neighbours(spacing: Spacing, plane: Plane) -> int:
    """Number of neighbouring slices on each side: 1 where slices are close together, else 0.

    Slices are close together if their distance is below ``DISTANT_RATIO`` times the pixel size.

    Parameters
    ----------
    spacing : tuple of float
        Voxel size in mm along the display axes.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    """
    axis = PLANE_AXIS[plane]
    pixel = min(size for number, size in enumerate(spacing) if number != axis)
    return int(spacing[axis] < DISTANT_RATIO * pixel)


def warn_about_distant_slices(
    names: Sequence[str], geometries: Sequence[Geometry], settings: Preprocessing
) -> None:
    """Name the scans whose slices are too far apart for neighbouring slices to be useful.

    Nothing is said if the slices are far apart in every scan: then neighbouring slices were a
    deliberate choice.

    Parameters
    ----------
    names : sequence of str
        Names of the scans.
    geometries : sequence of Geometry
        Grids of the scans.
    settings : Preprocessing
        Plane and number of neighbouring slices.
    """
    if not settings.neighbours:
        return
    distant = [
        name
        for name, geometry in zip(names, geometries, strict=True)
        if not default_neighbours(geometry.spacing, settings.plane)
    ]
    if 0 < len(distant) < len(geometries):
        warnings.warn(
            f"In {len(distant)} of {len(geometries)} scans ({join_names(distant)}) the slices are "
            "far apart, unlike in the others, so neighbouring slices help less there; set "
            "neighbouring slices to 0 if most of your scans are like this.",
            ScanWarning,
            stacklevel=2,
        )


def warn_about_large_slices(
    names: Sequence[str], shapes: Sequence[tuple[int, ...]], canvas: tuple[int, int]
) -> None:
    """Name the scans that make the canvas more than 4 times as large as the median slice.

    Parameters
    ----------
    names : sequence of str
        Names of the scans.
    shapes : sequence of tuple of int
        Height and width of their slices after resampling.
    canvas : tuple of int
        Height and width of the common canvas.
    """
    areas = np.array([math.prod(shape) for shape in shapes])
    median = np.median(areas)
    if math.prod(canvas) < LARGE_RATIO * median:
        return
    large = [
        name for name, area in zip(names, areas, strict=True) if area > LARGE_RATIO / 2 * median
    ]
    if large:
        height, width = shapes[int(np.argmin(np.abs(areas - median)))]
        warnings.warn(
            f"All slices are padded to {canvas[0]} × {canvas[1]} pixels, because those of "
            f"{join_names(large)} are much larger than the usual {height} × {width}. This slows "
            "down training; leave these scans out if they show something else.",
            ScanWarning,
            stacklevel=2,
        )


def warn_about_cropped_slices(
    names: Sequence[str], shapes: Sequence[tuple[int, ...]], canvas: tuple[int, int]
) -> None:
    """Say how many scans have slices that do not fit on the canvas, so that they are cropped.

    Parameters
    ----------
    names, shapes, canvas
        As in :func:`warn_about_large_slices`.
    """
    larger = [
        name
        for name, (height, width) in zip(names, shapes, strict=True)
        if height > canvas[0] or width > canvas[1]
    ]
    if larger:
        height, width = (max(sides) for sides in zip(*shapes, strict=True))
        warnings.warn(
            f"Slices of {len(larger)} of {count_phrase(len(names), 'scan')} are larger than "
            f"{canvas[0]} × {canvas[1]} pixels (up to {height} × {width}), so the training sees "
            "only their middle; validation, predictions and scores are of whole slices. To train "
            "on whole slices, leave the size out, or sample them more coarsely with --spacing.",
            ScanWarning,
            stacklevel=2,
        )
