"""Load label maps into the display grid; save them back to the source grid."""

from pathlib import Path

import numpy as np

from napari_sslseg.core.atomic import atomic_path
from napari_sslseg.core.errors import GeometryError, VolumeError
from napari_sslseg.core.formats import LABEL_SUFFIXES, open_image, write_labels
from napari_sslseg.core.geometry import Geometry
from napari_sslseg.core.reading import check_present
from napari_sslseg.core.scan_files import guess_subject, scan_name
from napari_sslseg.core.volumes import HasLabels, Volume


def load_labels(path: str | Path, *, like: Volume | Geometry | None = None) -> Volume:
    """Load a label map as integers in the display grid.

    Parameters
    ----------
    path : path-like
        NIfTI file of whole, non-negative numbers; 0 is background. Float files with whole
        numbers are taken.
    like : Volume or Geometry, optional
        The scan that the labels must lie on.

    Raises
    ------
    VolumeError
        If the file cannot be read or its values are not labels.
    GeometryError
        If the labels lie on another grid than ``like``.
    """
    path = Path(path)
    check_present(path)
    image = open_image(path)
    geometry = image.geometry
    if image.frames > 1:
        raise VolumeError(
            f"{path} holds {image.frames} volumes along its fourth axis, but labels have three "
            "axes; split it."
        )
    data = image.values()
    low, high = data.min(), data.max()
    if low < 0 or high > np.iinfo(np.int32).max or not np.array_equal(data, np.round(data)):
        raise VolumeError(
            f"{path} holds values such as {low:g} or {high:g} that are no labels; "
            "labels are whole numbers from 0."
        )
    if like is not None:
        other = like.geometry if isinstance(like, Volume) else like
        if not geometry.matches(other):
            raise GeometryError(
                f"The labels {path} lie on another grid (shape {geometry.shape}, orientation "
                f"{geometry.orientation}) than their scan (shape {other.shape}, orientation "
                f"{other.orientation}); resample them onto the scan first."
            )
    kind = np.min_scalar_type(int(high))
    name = scan_name(path)
    return Volume(
        data=geometry.to_display(data).astype(kind, copy=False),
        geometry=geometry,
        subject=guess_subject(name),
        name=name,
        path=path,
        header=image.header,
    )


def save_labels(
    labels: np.ndarray | HasLabels, path: str | Path, *, like: Volume | None = None
) -> Path:
    """Write labels into the source grid of a scan.

    Parameters
    ----------
    labels : ndarray or Prediction
        Whole numbers in the display grid, or anything with ``labels`` and ``volume``.
    path : path-like
        Where to write, ending in .nii or .nii.gz.
    like : Volume, optional
        The scan that the labels were drawn on; not needed for a prediction.

    Returns
    -------
    Path
        The file, with the shape, affine and frame of the scan's file. It is written whole or not
        at all.
    """
    path = Path(path)
    if not path.name.lower().endswith(LABEL_SUFFIXES):
        raise VolumeError(
            f"Labels cannot be written as {path.name}; use a name ending in .nii.gz or .nii."
        )
    if not isinstance(labels, np.ndarray):
        like = like or labels.volume
        labels = labels.labels
    if like is None:
        raise GeometryError(f"To write {path}, pass like=, the scan that the labels belong to.")
    if labels.ndim != 3:
        raise GeometryError(
            f"The labels for {path} have shape {labels.shape}, but a label map has three axes."
        )
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise VolumeError(
            f"The labels for {path} are not whole numbers; take the class, not a score."
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise VolumeError(
            f"The labels for {path} reach from {low:g} to {high:g}; labels are whole numbers from "
            f"0 to {np.iinfo(np.int32).max}."
        )
    # Viewers disagree on unusual integer types, so only the three common ones are written.
    kind = np.uint8 if high < 2**8 else np.int16 if high < 2**15 else np.int32
    source = np.ascontiguousarray(like.geometry.to_source(labels).astype(kind))
    with atomic_path(path) as temporary:
        write_labels(source, like.geometry, like.header, temporary)
    return path
