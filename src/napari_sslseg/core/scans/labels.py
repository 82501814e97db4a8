"""Load label maps into the display grid; save them back to the source grid."""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from napari_sslseg.core.common.atomic import atomic_path
from napari_sslseg.core.common.errors import ConfigError, GeometryError, VolumeError
from napari_sslseg.core.scans.class_codes import Algorithm, SegmentClass
from napari_sslseg.core.scans.formats.dispatch import (
    LABEL_SUFFIXES,
    is_dicom,
    open_image,
    write_labels,
)
from napari_sslseg.core.scans.formats.image_file import check_present
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.names import guess_subject, scan_name
from napari_sslseg.core.scans.volume import HasLabels, Volume

DICOM_SUFFIX = ".dcm"
"""Suffix of a DICOM segmentation."""


def load_labels(path: str | Path, *, like: Volume | Geometry | None = None) -> Volume:
    """Load a label map as integers in the display grid.

    Parameters
    ----------
    path : path-like
        Image file of whole, non-negative numbers; 0 is background. Float files with whole
        numbers are taken. Or a DICOM segmentation, whose segment numbers are the label values
        (unless this package wrote it: then they are what they were), or a DICOM structure set,
        whose structures get the values 1, 2, … in the order of their numbers;
        :func:`read_segment_names` tells their names.
    like : Volume or Geometry, optional
        The scan that the labels must lie on. DICOM segmentations are placed on its slices, and
        contours of a structure set are filled on them, so that one needs it.

    Raises
    ------
    VolumeError
        If the file cannot be read or its values are not labels.
    GeometryError
        If the labels lie on another grid than ``like``.
    """
    path = Path(path)
    check_present(path)
    name = scan_name(path)
    if is_dicom(path):
        from napari_sslseg.core.scans.formats.dicom.labels.read import read_label_file

        grid, header = (like.geometry, like.header) if isinstance(like, Volume) else (like, None)
        data, geometry = read_label_file(path, grid, header)
        return Volume(
            data=geometry.to_display(data),
            geometry=geometry,
            subject=guess_subject(name),
            name=name,
            path=path,
            header=header,
        )
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
                f"{other.orientation}); choose the labels of this scan, or "
                "resample them onto it."
            )
    kind = np.min_scalar_type(int(high))
    return Volume(
        data=geometry.to_display(data).astype(kind, copy=False),
        geometry=geometry,
        subject=guess_subject(name),
        name=name,
        path=path,
        header=image.header,
    )


def read_segment_names(path: str | Path) -> dict[int, str]:
    """Names of the label values in a DICOM segmentation or structure set.

    Parameters
    ----------
    path : path-like
        Any file of labels; other formats carry no names.

    Returns
    -------
    dict of int to str
        Name of each label value that :func:`load_labels` may give, without the background.
    """
    path = Path(path)
    check_present(path)
    if not is_dicom(path):
        return {}
    from napari_sslseg.core.scans.formats.dicom.labels.read import read_names

    return read_names(path)


def save_labels(
    labels: np.ndarray | HasLabels,
    path: str | Path,
    *,
    like: Volume | None = None,
    classes: Mapping[int, str | SegmentClass] | None = None,
    algorithm: Algorithm | None = None,
) -> Path:
    """Write labels into the source grid of a scan.

    Parameters
    ----------
    labels : ndarray or Prediction
        Whole numbers in the display grid, or anything with ``labels`` and ``volume``.
    path : path-like
        Where to write, ending in .nii.gz, .nii, .nrrd, .mha, or .dcm for a DICOM segmentation,
        which needs labels on a DICOM series.
    like : Volume, optional
        The scan that the labels were drawn on; not needed for a prediction.
    classes : mapping of int to str or SegmentClass, optional
        What the label values stand for, which a DICOM segmentation carries and other formats do
        not. All of them get a segment, also those that do not occur; a value without a name is
        called "class N".
    algorithm : {"MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"}, optional
        How the labels came about, which a DICOM segmentation tells: drawn by a person, drawn with
        help of a method or corrected after it, or by a method alone. Without it a prediction is
        automatic, and an array is taken to be drawn by a person, so that no method is named which
        had no part in it. A class that tells its own algorithm keeps that.

    Returns
    -------
    Path
        The file, with the shape, affine and frame of the scan's file. It is written whole or not
        at all.
    """
    path = Path(path)
    if not path.name.lower().endswith((*LABEL_SUFFIXES, DICOM_SUFFIX)):
        raise VolumeError(
            f"Labels cannot be written as {path.name}; use a name ending in "
            f"{', '.join(LABEL_SUFFIXES)} or {DICOM_SUFFIX}."
        )
    if algorithm is not None and algorithm not in get_args(Algorithm):
        raise ConfigError(
            f"There is no way {algorithm} for labels to come about; choose "
            f"{', '.join(get_args(Algorithm))}."
        )
    if not isinstance(labels, np.ndarray):
        like = like or labels.volume
        labels, algorithm = labels.labels, algorithm or "AUTOMATIC"
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
    # All formats store the first axis fastest; so the copy is read in the order that it has.
    source = np.asfortranarray(like.geometry.to_source(labels.astype(kind, copy=False)))
    if path.name.lower().endswith(DICOM_SUFFIX):
        from napari_sslseg.core.scans.formats.dicom.labels.write_seg import write_segmentation

        with atomic_path(path) as temporary:
            write_segmentation(
                source,
                like.geometry,
                like.header,
                temporary,
                classes=classes,
                algorithm=algorithm or "MANUAL",
            )
        return path
    with atomic_path(path) as temporary:
        write_labels(source, like.geometry, like.header, temporary)
    return path
