"""Siemens mosaics: the slices of a volume as tiles of one image."""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, sqrt

import numpy as np
from pydicom.dataset import Dataset

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane


def is_mosaic(dataset: Dataset) -> bool:
    """Return whether the image type is a mosaic."""
    return "MOSAIC" in [str(part).upper() for part in dataset.get("ImageType") or []]


def mosaic_tiles(plane: ImagePlane, dataset: Dataset) -> Iterator[ImagePlane]:
    """Yield the planes of a mosaic from the plane of the whole image.

    The header gives the position of the whole mosaic as if it were one large slice with the same
    centre. The number of slices and their normal are in the vendor's CSA header.

    Raises
    ------
    VolumeError
        If the CSA header is missing.
    """
    from nibabel.nicom import csareader

    csa = csareader.get_csa_header(dataset, "image")
    count = None if csa is None else csareader.get_n_mosaic(csa)
    normal = None if csa is None else csareader.get_slice_normal(csa)
    if not count:
        raise VolumeError(
            f"{plane.path} is a mosaic without the number of its slices (the vendor's header is "
            "missing, as after anonymisation); export it as single slices."
        )
    side = ceil(sqrt(count))
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    along_row, along_column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    if normal is None:
        normal = np.cross(along_row, along_column)
    gap = plane.distance or plane.thickness
    if not gap:
        raise VolumeError(f"{plane.path} is a mosaic without a slice distance; export it again.")
    if plane.shape != (rows * side, columns * side) or not rows or not columns:
        raise VolumeError(
            f"{plane.path} is a mosaic whose {plane.shape[0]} × {plane.shape[1]} pixels cannot be "
            f"cut into {count} tiles; export it from the scanner again."
        )
    corner = (
        np.array(plane.position)
        + along_row * plane.spacing[1] * (plane.shape[1] - columns) / 2
        + along_column * plane.spacing[0] * (plane.shape[0] - rows) / 2
    )
    for number in range(count):
        yield replace(
            plane,
            tile=(number // side * rows, number % side * columns),
            shape=(rows, columns),
            position=tuple((corner + normal * gap * number).tolist()),
        )
