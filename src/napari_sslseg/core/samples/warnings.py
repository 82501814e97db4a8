"""What scans of one training should have alike: how near their slices lie, and how large they are.

One network sees as many neighbouring slices in all scans, on a canvas that holds the largest slice.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np

from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.common.text import some_of
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.settings.preprocessing import Preprocessing

Spacing = tuple[float, float, float]

FAR = 3.0
"""Distance of slices, in sides of their pixels, from which one says little of the next."""

LARGE = 4.0
"""Area of the canvas, in areas of the usual slice, from which a note tells whose sake it is for."""


def usual_neighbours(spacing: Spacing, plane: Plane) -> int:
    """How many slices on each side are worth a look: one where slices lie near each other, or none.

    Near is below ``FAR`` sides of a pixel.

    Parameters
    ----------
    spacing : tuple of float
        Voxel size in mm along the display axes.
    plane : {"axial", "coronal", "sagittal"}
        In which slices are cut.
    """
    axis = PLANE_AXIS[plane]
    side = min(size for number, size in enumerate(spacing) if number != axis)
    return int(spacing[axis] < FAR * side)


def warn_of_far_slices(
    names: Sequence[str], geometries: Sequence[Geometry], settings: Preprocessing
) -> None:
    """Name the scans in which neighbouring slices show another anatomy than in the others.

    One network sees as many neighbours in all scans. Where slices lie far apart in every scan, that
    was somebody's choice, and nothing is said.
    """
    if not settings.neighbours:
        return
    far = [
        name
        for name, geometry in zip(names, geometries, strict=True)
        if not usual_neighbours(geometry.spacing, settings.plane)
    ]
    if 0 < len(far) < len(geometries):
        warnings.warn(
            f"In {len(far)} of {len(geometries)} scans ({some_of(far)}) slices lie far from each "
            "other, unlike in the rest, so that the neighbouring slices, which the network sees "
            "too, help less there; set neighbouring slices to 0 if most of your scans are so.",
            ScanWarning,
            stacklevel=2,
        )


def warn_of_large_slices(
    names: Sequence[str], shapes: Sequence[tuple[int, ...]], size: tuple[int, int]
) -> None:
    """Name the scans for whose sake all other slices are padded to several times their size.

    Parameters
    ----------
    names : sequence of str
        Of the scans.
    shapes : sequence of tuple of int
        Height and width of their slices, resampled.
    size : tuple of int
        Height and width of the canvas of all.
    """
    areas = np.array([math.prod(shape) for shape in shapes])
    usual = np.median(areas)
    if math.prod(size) < LARGE * usual:
        return
    large = [name for name, area in zip(names, areas, strict=True) if area > LARGE / 2 * usual]
    if large:
        height, width = shapes[int(np.argmin(np.abs(areas - usual)))]
        warnings.warn(
            f"All slices are padded to {size[0]} × {size[1]} pixels, since those of "
            f"{some_of(large)} are much larger than the {height} × {width} of others, which makes "
            "the training slow; leave such scans out if they show something else.",
            ScanWarning,
            stacklevel=2,
        )
