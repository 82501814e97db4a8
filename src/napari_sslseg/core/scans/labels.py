"""Load label maps into the display grid; save them back to the source grid."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from napari_sslseg.core.common.atomic import atomic_path
from napari_sslseg.core.common.errors import ConfigError, GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.scans.class_codes import Algorithm, SegmentClass
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.structure_files import merge_structures
from napari_sslseg.core.scans.formats.dispatch import is_dicom, open_image
from napari_sslseg.core.scans.formats.image_file import ImageFile, check_present
from napari_sslseg.core.scans.formats.registry import (
    DICOM,
    NRRD,
    format_of,
    label_format_of,
    label_suffixes,
)
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.matching.subjects import guess_subject
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import HasLabels, Volume

DICOM_SUFFIX = DICOM.written_suffixes[0]
"""Suffix of a DICOM segmentation."""

# Labels that are stored as floats, or scaled by a rounded factor, are nearly whole.
ROUNDING = 1e-3
MOST_ROUNDING = 0.1


def load_labels(
    path: str | Path | Sequence[str | Path], *, like: Volume | Series | Geometry | None = None
) -> Volume:
    """Load a label map as integers in the display grid.

    Parameters
    ----------
    path : path-like
        Image file of whole, non-negative numbers, also stored as floats; 0 is background. Or a
        DICOM segmentation, whose segment numbers are the label values (the original label values
        if this package wrote the file), or a DICOM structure set, whose structures get the values
        1, 2, … in the order of their numbers; see :func:`read_segment_names` for their names.
        Several files are one structure each, with the values 1, 2, … in their order, see
        :func:`~napari_sslseg.core.scans.classes.structure_files.merge_structures`.
    like : Volume, Series or Geometry, optional
        The scan of the labels, whose voxels they must have. Labels of a part of the scan, such as
        segmentations that 3D Slicer has cropped, are put in their place. DICOM segmentations are
        placed on the slices of the scan, and contours of a structure set are filled on them; a
        structure set needs it. A geometry alone does not say where the images of an unevenly
        spaced scan are.

    Raises
    ------
    VolumeError
        If the file cannot be read, or its values are not labels.
    GeometryError
        If the voxels of the labels are not voxels of ``like``.
    """
    if not isinstance(path, str | Path):
        return merge_structures(load_labels(file, like=like) for file in path)
    path = Path(path)
    check_present(path)
    name = scan_name(path)
    if is_dicom(path):
        from napari_sslseg.core.scans.formats.dicom.labels.read import read_label_file

        grid, scan_header = _grid(like)
        data, geometry = read_label_file(path, grid, scan_header)
        return Volume(
            data=geometry.to_display(data),
            geometry=geometry,
            subject=guess_subject(name),
            name=name,
            path=path,
            header=scan_header,
        )
    image = _open_labels(path)
    geometry = image.geometry
    if image.frames > 1:
        raise VolumeError(
            f"{path} holds {image.frames} volumes along its fourth axis, but labels have three "
            "axes; split it."
        )
    data = geometry.to_display(check_label_values(image.values(), path, image.header))
    header: object = image.header
    if like is not None:
        scan_geometry, scan_header = _grid(like)
        assert scan_geometry is not None
        if not geometry.matches(scan_geometry):
            data = _into_scan(data, path, image, scan_geometry)
            geometry, header = scan_geometry, scan_header
    return Volume(
        data=data,
        geometry=geometry,
        subject=guess_subject(name),
        name=name,
        path=path,
        header=header,
    )


def _grid(like: Volume | Series | Geometry | None) -> tuple[Geometry | None, object]:
    """Return the geometry and the header of a scan."""
    if isinstance(like, Volume):
        return like.geometry, like.header
    if isinstance(like, Series):
        image = like.opened()
        return image.geometry, image.header
    return like, None


def _open_labels(path: Path) -> ImageFile:
    try:
        return open_image(path)
    except VolumeError:
        if format_of(path) is not NRRD:
            raise
        from napari_sslseg.core.scans.formats.slicer_segments import SlicerLayers, has_layers

        if not has_layers(path):
            raise
        return SlicerLayers(path)


def _into_scan(data: np.ndarray, path: Path, image: ImageFile, scan: Geometry) -> np.ndarray:
    """Put labels whose voxels are voxels of the scan into its display grid.

    Raises
    ------
    GeometryError
        If their voxels do not coincide with those of the scan; it says what is different.

    Warns
    -----
    ScanWarning
        If labelled voxels are outside the scan, or the labels cover only a part of it and are not
        a segmentation of 3D Slicer, which stores no more than the structures need.
    """
    geometry = image.geometry
    offset = geometry.offset_in(scan)
    slicer = path.name.lower().endswith(".seg.nrrd")
    # Positions in a header without any place in the patient prove nothing.
    no_place = _is_plain(scan) and not scan.affine[:3, 3].any() and not slicer
    nowhere = no_place or not _gives_orientation(image)
    if (
        offset is None
        or nowhere
        or not all(map(_lies_in, offset, data.shape, scan.display_shape, (slicer,) * 3))
    ):
        raise GeometryError(_mismatch(path, image, scan))
    out = np.zeros(scan.display_shape, data.dtype)
    target = tuple(
        slice(max(start, 0), start + n) for start, n in zip(offset, data.shape, strict=True)
    )
    inside = tuple(
        slice(max(-start, 0), size - start)
        for start, size in zip(offset, scan.display_shape, strict=True)
    )
    out[target] = data[inside]
    outside = int(np.count_nonzero(data)) - int(np.count_nonzero(out))
    if outside:
        warnings.warn(
            f"{path}: {outside} labelled voxels are outside the scan and were left out; check that "
            "these are the labels of this scan.",
            ScanWarning,
            stacklevel=3,
        )
    if not slicer and any(
        start > 0 or start + count < size
        for start, count, size in zip(offset, data.shape, scan.display_shape, strict=True)
    ):
        warnings.warn(
            f"{path} covers only a part of the scan: {geometry.difference(scan)}; the rest of the "
            "scan is background.",
            ScanWarning,
            stacklevel=3,
        )
    return out


def _lies_in(start: int, count: int, size: int, partly: bool) -> bool:
    """Whether labels are a part of the scan along an axis, or the scan is a part of them.

    Labels that begin and end elsewhere were probably drawn on another scan. ``partly`` allows them
    if they share a slice with the scan: 3D Slicer chooses the box itself.
    """
    part = start >= 0 and start + count <= size
    whole = start <= 0 and size <= start + count
    return part or whole or (partly and start < size and start + count > 0)


def _is_plain(geometry: Geometry) -> bool:
    """Whether the voxels have 1 mm along the axes of the patient, as if there were no header."""
    return np.allclose(np.abs(geometry.affine[:3, :3]), np.eye(3), rtol=0, atol=1e-6)


def _gives_orientation(image: ImageFile) -> bool:
    """Whether the header gives an orientation, which NIfTI headers may lack."""
    from nibabel import Nifti1Header

    from napari_sslseg.core.scans.formats.nifti import gives_orientation

    return not isinstance(image.header, Nifti1Header) or gives_orientation(image.header)


def _mismatch(path: Path, image: ImageFile, scan: Geometry) -> str:
    """Say why the grid of labels is not that of the scan, and what to do."""
    geometry = image.geometry
    different = f"The labels {path} have another grid than their scan: "
    different += geometry.difference(scan) or "voxels between those of the scan"
    nameless = not _gives_orientation(image)
    plain = _is_plain(geometry) and not _is_plain(scan)
    if geometry.shape == scan.shape and (nameless or plain):
        missing = "no orientation" if nameless else "voxels of 1 mm along the axes of the patient"
        return (
            f"{different}. Their header gives {missing}, so a program has probably lost the "
            "header; if they were drawn on this scan, give them its header (in Python: "
            "nibabel.Nifti1Image(labels, scan.affine)) and check left and right."
        )
    notes = "".join(f" Note on the labels: {note}" for note in image.notes)
    return f"{different}; choose the labels of this scan, or resample them onto it.{notes}"


def check_label_values(data: np.ndarray, path: Path, header: object = None) -> np.ndarray:
    """Return label values as the smallest unsigned integers.

    Parameters
    ----------
    data : ndarray
        Values of a label file.
    path : Path
        The file, for messages.
    header : object
        Its header. NIfTI headers may scale stored integers by a factor that is rounded, so that
        labels are only nearly whole; these are rounded.

    Raises
    ------
    VolumeError
        If a value is negative, not whole, or too large to be exact.

    Warns
    -----
    ScanWarning
        If values are rounded by more than a thousandth.
    """
    if data.dtype.kind == "f":
        data = _whole(data, path, header)
    low, high = data.min(), data.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        bad = low if low < 0 else high
        count = int(np.count_nonzero(data < 0 if low < 0 else data > np.iinfo(np.int32).max))
        raise VolumeError(
            f"{path} contains {count} voxels that are no labels, such as {bad}; labels are "
            f"whole numbers from 0 to {np.iinfo(np.int32).max}."
        )
    return data.astype(np.min_scalar_type(int(high)), copy=False)


def _whole(data: np.ndarray, path: Path, header: object) -> np.ndarray:
    """Round values that are whole up to the precision of the file."""
    from nibabel import Nifti1Header

    from napari_sslseg.core.scans.formats.nifti import value_step

    if data.max() >= 2**24 or data.min() <= -(2**24):
        raise VolumeError(
            f"{path} contains labels of {2**24} or more as decimal numbers, which cannot be told "
            "from their neighbours; save the labels as integers."
        )
    rounded = np.rint(data)
    off = np.abs(data - rounded)
    step = value_step(header) if isinstance(header, Nifti1Header) else 0.0
    # The stored integer next to a label is at most half a step away from it.
    tolerance = max(ROUNDING, min(0.5 * step * 1.001, MOST_ROUNDING))
    worst = np.unravel_index(off.argmax(), off.shape)
    scaled = f" after the scaling in its header (factor {step:.6g})" if step else ""
    if off[worst] > tolerance:
        count = int(np.count_nonzero(off > tolerance))
        raise VolumeError(
            f"{path} contains {count} voxels that are not whole numbers, such as "
            f"{data[worst]:.7g}{scaled}; labels are whole numbers from 0, so choose a label map, "
            "or save it without scaling."
        )
    if off[worst] > ROUNDING:
        if len(np.unique(data)) > len(np.unique(rounded)):
            raise VolumeError(
                f"{path} contains several values next to {rounded[worst]:g}, such as "
                f"{data[worst]:.7g}{scaled}; labels are whole numbers from 0, so choose a label "
                "map and not a scan."
            )
        warnings.warn(
            f"{path}: labels such as {data[worst]:.6g}{scaled} were rounded to whole numbers.",
            ScanWarning,
            stacklevel=4,
        )
    return rounded


def read_segment_names(path: str | Path | Sequence[str | Path]) -> dict[int, str]:
    """Read the names of the label values of a file.

    Parameters
    ----------
    path : path-like
        A label file, see :func:`~napari_sslseg.core.scans.classes.read.read_segments`.

    Returns
    -------
    dict of int to str
        Names by label value as in :func:`load_labels`, without the background; empty if nothing
        names them.
    """
    return {item.value: item.name or f"class {item.value}" for item in read_segments(path)}


def save_labels(
    labels: np.ndarray | HasLabels,
    path: str | Path,
    *,
    like: Volume | None = None,
    classes: Mapping[int, str | SegmentClass] | None = None,
    algorithm: Algorithm | None = None,
) -> Path:
    """Write labels on the source grid of a scan.

    Parameters
    ----------
    labels : ndarray or Prediction
        Whole numbers in the display grid, or an object with ``labels`` and ``volume``.
    path : path-like
        File to write, ending in .nii.gz, .nii, .nrrd, .mha, the suffix of a registered format, or
        .dcm for a DICOM segmentation, which requires labels on a DICOM series.
    like : Volume, optional
        The scan that the labels were drawn on; not needed for a prediction.
    classes : mapping of int to str or SegmentClass, optional
        Names of the label values, which only a DICOM segmentation stores; those of a prediction
        by default. Every class gets a
        segment, even if it does not occur; a value without a name is called "class N".
    algorithm : {"MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"}, optional
        How the labels were created, which only a DICOM segmentation stores: by a person, by a
        person with the help of a method, or by a method alone. Default: automatic for a prediction,
        manual for an array, so that no method is named without reason. A class with its own
        ``algorithm`` keeps it.

    Returns
    -------
    Path
        The file, with the shape, affine and frame of the scan's file. It is written completely or
        not at all.
    """
    path = Path(path)
    file_format = label_format_of(path)
    if file_format is None:
        raise VolumeError(
            f"Labels cannot be written as {path.name}; use a name ending in one of "
            f"{', '.join(label_suffixes())}."
        )
    if algorithm is not None and algorithm not in get_args(Algorithm):
        raise ConfigError(
            f"There is no algorithm type {algorithm}; choose one of "
            f"{', '.join(get_args(Algorithm))}."
        )
    if not isinstance(labels, np.ndarray):
        like = like or labels.volume
        classes = getattr(labels, "class_names", None) if classes is None else classes
        labels, algorithm = labels.labels, algorithm or "AUTOMATIC"
    if like is None:
        raise GeometryError(f"To write {path}, pass like=, the scan that the labels belong to.")
    if labels.ndim != 3:
        raise GeometryError(
            f"The labels for {path} have shape {labels.shape}, but a label map has three axes."
        )
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise VolumeError(f"The labels for {path} are not whole numbers; use classes, not scores.")
    low, high = labels.min(), labels.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise VolumeError(
            f"The labels for {path} range from {low:g} to {high:g}; labels are whole numbers from "
            f"0 to {np.iinfo(np.int32).max}."
        )
    # Viewers differ in their support of integer types, so only three common ones are written.
    kind = np.uint8 if high < 2**8 else np.int16 if high < 2**15 else np.int32
    # All formats store the first axis fastest, so this copy is read in memory order.
    source = np.asfortranarray(like.geometry.to_source(labels.astype(kind, copy=False)))
    class_options: dict[str, Any] = {}
    if file_format.writes_classes:
        class_options = {"classes": classes, "algorithm": algorithm or "MANUAL"}
    with atomic_path(path) as temporary:
        file_format.write(source, like.geometry, like.header, temporary, **class_options)
    return path
