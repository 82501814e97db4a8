"""Check the values and the grid of labels that were read from a file."""

import warnings
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.common.text import count_phrase
from napari_sslseg.core.scans.formats.dispatch import is_dicom, open_image
from napari_sslseg.core.scans.formats.image_file import ImageFile
from napari_sslseg.core.scans.formats.registry import NRRD, format_of
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.matching.other_patient import Relation

# Labels that are stored as floats, or scaled by a rounded factor, are nearly whole.
ROUNDING = 1e-3
MOST_ROUNDING = 0.1
# Whole numbers below this are exact with 32 bits.
LARGEST_EXACT = 2**24


def are_whole(values: np.ndarray) -> bool:
    """Whether an array holds whole numbers, of any real type; not complex ones, or objects."""
    if values.dtype.kind == "f":
        return bool(np.isfinite(values).all()) and np.array_equal(values, np.round(values))
    return values.dtype.kind in "bui"


def read_label_values(image: ImageFile) -> np.ndarray:
    """Read the values of a label file so that large whole numbers are exact, where they can be."""
    data = image.values()
    if data.dtype == np.float32 and data.max() >= LARGEST_EXACT and hasattr(image, "exact_values"):
        exact: np.ndarray = image.exact_values()
        return exact
    return data


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

    if data.dtype != np.float64 and np.abs(data).max() >= LARGEST_EXACT:
        raise VolumeError(
            f"{path} contains labels of {LARGEST_EXACT} or more as decimal numbers of 32 bits, "
            "where such numbers become equal to others; save the labels as integers."
        )
    rounded = np.rint(data)
    off = np.abs(data - rounded)
    step = value_step(header) if isinstance(header, Nifti1Header) else 0.0
    # The stored integer next to a label is at most half a step away from it.
    tolerance = max(ROUNDING, min(0.5 * step * 1.001, MOST_ROUNDING))
    worst = np.unravel_index(off.argmax(), off.shape)
    scaled = f" after the scaling in its header (factor {step:.6g})" if step else ""
    digits = 12 if data.dtype == np.float64 else 7
    if off[worst] > tolerance:
        count = int(np.count_nonzero(off > tolerance))
        raise VolumeError(
            f"{path} contains {count} voxels that are not whole numbers, such as "
            f"{data[worst]:.{digits}g}{scaled}; labels are whole numbers from 0, so choose a label "
            "map, or save it without scaling."
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


def place_in_scan(
    data: np.ndarray,
    path: Path,
    image: ImageFile,
    scan: Geometry,
    relation: Relation | None = None,
) -> np.ndarray:
    """Put labels whose voxels are voxels of the scan into its display grid.

    Parameters
    ----------
    data : ndarray
        Values of the labels in their display grid.
    path, image : Path, ImageFile
        The label file.
    scan : Geometry
        Grid of the scan.
    relation : Relation, optional
        What the names of labels and scan say; None if the scan has no name.

    Raises
    ------
    GeometryError
        If their voxels do not coincide with those of the scan; it says what is different. Also if
        another size at the same corner and another name suggest the labels of another patient,
        since many programs give every scan the same place.

    Warns
    -----
    ScanWarning
        If labelled voxels are outside the scan, or the labels cover only a part of it and are not
        a segmentation of 3D Slicer, which stores no more than the structures need.
    """
    geometry = image.geometry
    turned = geometry.onto(data, scan)
    if turned is not None:
        return turned
    offset = geometry.offset_in(scan)
    slicer = is_slicer_segmentation(path)
    # Positions in a header without any place in the patient prove nothing.
    no_place = _is_plain(scan) and not scan.affine[:3, 3].any() and not slicer
    nowhere = no_place or not _gives_orientation(image)
    reordered = not slicer and _is_reordered(data.shape, scan.display_shape)
    if (
        offset is None
        or nowhere
        or reordered
        or not _fits(offset, data.shape, scan.display_shape, slicer)
    ):
        raise GeometryError(_mismatch(path, image, scan))
    corner = not slicer and _shares_corner(offset, data.shape, scan.display_shape)
    longer = [count > size for count, size in zip(data.shape, scan.display_shape, strict=True)]
    shorter = [count < size for count, size in zip(data.shape, scan.display_shape, strict=True)]
    if corner and any(longer) and any(shorter):  # Neither is a part of the other.
        raise GeometryError(_mismatch(path, image, scan))
    other = relation in ("other", "other number")
    if corner and other:
        raise GeometryError(
            f"The labels {path} begin or end where the scan does but have another size "
            f"({geometry.difference(scan)}), and their name is not that of the scan, so they are "
            "probably of another patient; choose the labels of this scan. If they were cropped "
            "from it, give them its name."
        )
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
            f"{path}: left out {count_phrase(outside, 'labelled voxel')} outside the scan; check "
            "that these are the labels of this scan.",
            ScanWarning,
            stacklevel=3,
        )
    partial = any(
        start > 0 or start + count < size
        for start, count, size in zip(offset, data.shape, scan.display_shape, strict=True)
    )
    doubt = _doubt(corner, relation)
    if not slicer and (partial or corner):
        covers = "only a part of" if partial else "more than"
        rest = "; the rest of the scan is background" if partial else ""
        warnings.warn(
            f"{path} covers {covers} the scan: {geometry.difference(scan)}{rest}.{doubt}",
            ScanWarning,
            stacklevel=3,
        )
    elif slicer and relation == "other number":
        warnings.warn(
            f"{path} is put into its place in the scan.{doubt}", ScanWarning, stacklevel=3
        )
    return out


def _doubt(corner: bool, relation: Relation | None) -> str:
    """Say why labels of a part may be of another patient; empty if nothing says so."""
    if relation in ("other", "other number"):
        why = "Their name is not that of the scan"
    elif corner:
        why = "They begin or end where the scan does, as labels of another patient may"
    else:
        return ""
    return f" {why}; check that they are of the same patient."


def may_be_of_other_patient(path: Path, scan: Geometry, relation: Relation) -> bool:
    """Whether labels that fit into a scan may be of another patient, by their name or place.

    Parameters
    ----------
    path : Path
        The label file, of which the header is read.
    scan : Geometry
        Grid of the scan.
    relation : Relation
        What the names of labels and scan say.
    """
    if relation == "other number":
        return True
    if is_dicom(path) or is_slicer_segmentation(path):
        return False
    geometry = open_image(path).geometry
    offset = None if geometry.has_voxels_of(scan) else geometry.offset_in(scan)
    return offset is not None and (
        relation == "other" or _shares_corner(offset, geometry.display_shape, scan.display_shape)
    )


def _shares_corner(offset: tuple[int, ...], shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a box begins or ends with the scan along every axis."""
    return all(
        start == 0 or start + count == size
        for start, count, size in zip(offset, shape, whole, strict=True)
    )


def _fits(
    offset: tuple[int, ...], shape: tuple[int, ...], whole: tuple[int, ...], slicer: bool
) -> bool:
    """Whether labels are a box in the scan, or the scan is one in the labels.

    Labels that begin and end elsewhere were probably drawn on another scan, and labels that are
    shorter along a single axis lack slices. 3D Slicer chooses the box itself, so any box that
    shares a voxel with the scan is right.
    """
    axes = list(zip(offset, shape, whole, strict=True))
    if slicer:
        return all(start < size and start + count > 0 for start, count, size in axes)
    covering = [start <= 0 and size <= start + count for start, count, size in axes]
    within = [start >= 0 and start + count <= size for start, count, size in axes]
    return all(covering) or (sum(covering) < 2 and all(map(max, covering, within)))


def _is_reordered(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether labels have the numbers of voxels of the scan, but along other axes."""
    return shape != whole and sorted(shape) == sorted(whole)


def is_slicer_segmentation(path: Path) -> bool:
    """Whether 3D Slicer wrote a file as a segmentation, by the structures in its header."""
    if format_of(path) is not NRRD:
        return False
    from napari_sslseg.core.scans.formats.nrrd import count_layers

    return count_layers(path) > 0


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
    if _is_reordered(geometry.display_shape, scan.display_shape):
        different += (
            ". The numbers of voxels are those of the scan along other axes, so a program has "
            "probably exchanged axes of the labels without those of the header"
        )
    notes = "".join(f" Note on the labels: {note}" for note in image.notes)
    return f"{different}; choose the labels of this scan, or resample them onto it.{notes}"
