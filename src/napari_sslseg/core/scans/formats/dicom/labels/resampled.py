"""Labels of a resampled scan: from its regular grid to the images as acquired, and back.

Slices of the grid and image planes are paired, see
:class:`~napari_sslseg.core.scans.formats.dicom.regular_grid.StackLayout`. Labels are copied from
the partner and never interpolated, so labels that were drawn on the images come back unchanged.
"""

import warnings

import numpy as np

from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.scans.formats.dicom.volume import DicomVolume


def labels_to_planes(labels: np.ndarray, stack: DicomVolume) -> np.ndarray:
    """Map labels on the source grid to the image planes.

    A plane gets the labels of its own slice. The grid may have more slices than there are planes;
    a label value of such a slice is added to the nearest plane only if the plane lacks it.
    Otherwise every structure would grow by the slices between.

    Parameters
    ----------
    labels : ndarray, shape (columns, rows, slices)
        Labels in the source grid.
    stack : DicomVolume
        The series.

    Returns
    -------
    ndarray, shape (planes, rows, columns)

    Warns
    -----
    ScanWarning
        If labelled voxels are outside the images, or labelled slices are between them.
    """
    layout, slices = stack.layout, labels.transpose(2, 1, 0)
    if not layout.resampled:
        return slices
    shape = stack.planes[0].shape
    out = np.empty((len(stack.planes), *shape), labels.dtype)
    for plane, number in enumerate(layout.slice_of_plane):
        out[plane] = slices[number][layout.window(plane, shape)]
    outside, added, between = 0, 0, 0
    for number, plane in enumerate(layout.plane_of_slice):
        part = slices[number][layout.window(plane, shape)]
        outside += int(np.count_nonzero(slices[number])) - int(np.count_nonzero(part))
        if layout.slice_of_plane[plane] != number and part.any():
            changed = _add_missing(out[plane], part)
            added += changed
            between += not changed and not np.array_equal(out[plane], part)
    if outside:
        warnings.warn(
            f"{outside} labelled voxels are outside the images of {stack.path}, in the margin of a "
            "scan with a tilted gantry; they were not saved.",
            ScanWarning,
            stacklevel=5,  # where the labels are saved
        )
    if added or between:
        warnings.warn(
            f"{added + between} labelled slices are between the images of {stack.path}, whose "
            f"spacing is uneven: {added} were saved on the nearest image, which lacked their "
            f"structures; {between} were not saved, since the nearest image shows the same "
            "structures by its own labels.",
            ScanWarning,
            stacklevel=5,
        )
    return out


def labels_to_grid(labels: np.ndarray, stack: DicomVolume) -> np.ndarray:
    """Map labels on the image planes to the source grid: each slice from its nearest plane.

    Parameters
    ----------
    labels : ndarray, shape (columns, rows, planes)
        Labels on the planes.
    stack : DicomVolume
        The series.

    Returns
    -------
    ndarray, shape (columns, rows, slices)
        Labels in the source grid.

    Warns
    -----
    ScanWarning
        If the labels of a plane are replaced by those of a neighbour, because images are so close
        that they share a slice.
    """
    layout, planes = stack.layout, labels.transpose(2, 1, 0)
    out = np.zeros(stack.geometry.shape[::-1], labels.dtype)
    for number, plane in enumerate(layout.plane_of_slice):
        out[number][layout.window(plane, planes.shape[1:])] = planes[plane]
    lost = 0
    for plane, number in enumerate(layout.slice_of_plane):
        if layout.plane_of_slice[number] != plane and planes[plane].any():
            part = out[number][layout.window(plane, planes.shape[1:])]
            lost += not _add_missing(part, planes[plane]) and not np.array_equal(
                part, planes[plane]
            )
    if lost:
        warnings.warn(
            f"The labels of {lost} images of {stack.path} are not shown, because other images are "
            "closer to the slices of the resampled scan.",
            ScanWarning,
            stacklevel=6,
        )
    return out.transpose(2, 1, 0)


def _add_missing(target: np.ndarray, source: np.ndarray) -> bool:
    """Add the label values of a slice that another slice lacks, in its background, in place.

    Returns
    -------
    bool
        Whether all missing values were added; False if there were none.
    """
    missing = np.setdiff1d(source, target)
    missing = missing[missing != 0]
    new = np.isin(source, missing) & (target == 0)
    target[new] = source[new]
    return bool(missing.size) and not np.setdiff1d(missing, target).size
