"""Whether slices lie near enough to each other that a network gains by looking at those beside."""

import warnings
from collections.abc import Sequence

from napari_sslseg.core.errors import ScanWarning
from napari_sslseg.core.geometry import PLANE_AXIS, Geometry, Plane
from napari_sslseg.core.preprocess_config import Preprocessing
from napari_sslseg.core.printable import some_of

Spacing = tuple[float, float, float]

FAR = 3.0
"""Distance of slices, in sides of their pixels, from which one says little of the next."""


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
