"""NIfTI files: checks of the header, values, and label images in the same frame."""

import logging
import math
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from napari_sslseg.core.common.errors import GeometryError, VolumeError
from napari_sslseg.core.scans.formats.image_file import (
    check_finite,
    check_present,
    reraise_parser_errors,
    units_note,
)
from napari_sslseg.core.scans.formats.stored_values import (
    StoredValues,
    apply_scaling,
    first_bytes,
    is_gzip,
)
from napari_sslseg.core.scans.geometry import SAME_VOXEL, Geometry

HEADER_SIZE = {1: 348, 2: 540}
HEADERS = {
    (1, b"n+1\0"): nib.nifti1.Nifti1Header,
    (1, b"ni1\0"): nib.nifti1.Nifti1PairHeader,
    (2, b"n+2\0"): nib.nifti2.Nifti2Header,
    (2, b"ni2\0"): nib.nifti2.Nifti2PairHeader,
}
# Three bits give the unit of length. Other codes are mm or undefined, and are taken as mm.
UNIT_BITS = 0b111
UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
NO_ORIENTATION = (
    "its header gives no orientation, so its axes are assumed to point to the patient's left, "
    "front and head; left and right are unknown, so compare it with the images of the scanner."
)
# NIFTI_INTENT_RGB_VECTOR and NIFTI_INTENT_RGBA_VECTOR.
COLOUR_INTENTS = (2003, 2004)
LABEL_INTENT = 1002
"""NIFTI_INTENT_LABEL: each value is an index into a list of labels."""

# Exceptions of nibabel that derive directly from Exception.
HEADER_ERRORS = (HeaderDataError, WrapStructError)

# nibabel logs what it repairs or rejects in a header; this would be printed in addition.
_QUIET = logging.getLogger("napari_sslseg.nifti")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class NiftiFile:
    """An opened NIfTI-1 or NIfTI-2 file, or pair of .hdr and .img; see ImageFile.

    nibabel reads the header, but not the values: it stops at the last voxel of a compressed file
    and so never verifies the checksum that follows.
    """

    def __init__(self, path: Path) -> None:
        check_present(path)
        self.path = path
        header_path, values_path = _pair(path)
        header, unsized = _read_header(path, header_path)
        self.header = header
        with reraise_parser_errors(path, "a NIfTI file", errors=HEADER_ERRORS):
            whole = header.get_data_shape()
            dtype = header.get_data_dtype()
            affine = _affine_mm(header)
            # In a single file, 0 means directly after the header.
            start = header.get_data_offset()
        shape, self.frames = _shape(path, tuple(int(n) for n in whole))
        _check_type(path, dtype)
        self._scaling = _scaling(path, header)
        if _are_colours(header, dtype, self.frames, self._scaling):
            raise VolumeError(
                f"{path} holds {self.frames} volumes along its fourth axis, as the red, green and "
                "blue of a colour image; export it as grey values, or, if they are separate "
                "scans, save each as a file."
            )
        if header.is_single:
            values_path = header_path
        elif values_path == header_path:
            raise VolumeError(
                f"{path} is only the header of a pair; use it together with its .img file."
            )
        packed = is_gzip(values_path)
        self._stored = StoredValues(
            values_path,
            dtype,
            shape,
            self.frames,
            start=0 if packed else start,
            packing="gzip" if packed else "raw",
            skip=start if packed else 0,
        )
        self._stored.check()
        try:
            self.geometry = Geometry(affine, shape)
        except GeometryError as error:
            raise GeometryError(f"{path}: {error}") from error
        self.notes = _notes(header, unsized)

    def values(self, frame: int = 0) -> np.ndarray:
        """Read a volume in the source grid, with three axes: the file's integer type or float32."""
        return check_finite(apply_scaling(self._stored.read(frame), *self._scaling), self.path)

    def exact_values(self) -> np.ndarray:
        """Read the first volume with floats of 64 bits, if they are not stored with 32."""
        return check_finite(
            apply_scaling(self._stored.read(0), *self._scaling, np.float64), self.path
        )


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the files of the header and of the values: the same except for .hdr and .img."""
    name = path.name.lower()
    for own, other in ((".hdr", ".img"), (".img", ".hdr")):
        for packed, unlike in (("", ".gz"), (".gz", "")):
            if not name.endswith(own + packed):
                continue
            stem = path.name[: -len(own + packed)]
            for suffix in (other + packed, other + unlike):
                for spelled in (suffix, suffix.upper()):
                    partner = path.with_name(stem + spelled)
                    if partner.is_file():
                        check_present(partner)
                        return (path, partner) if own == ".hdr" else (partner, path)
            raise VolumeError(
                f"{path} is one file of a pair whose {stem}{other} is missing; copy it too."
            )
    return path, path


def _read_header(path: Path, header_path: Path) -> tuple[nib.Nifti1Header, list[int]]:
    """Read a header, and which axes, from 1, have the voxel size 0, which nibabel sets to 1."""
    with reraise_parser_errors(path, "a NIfTI file", errors=HEADER_ERRORS):
        block = first_bytes(header_path, HEADER_SIZE[2])
        said = {int.from_bytes(block[:4], order) for order in ("little", "big")}
        version = 2 if HEADER_SIZE[2] in said else 1
        magic = block[4:8] if version == 2 else block[344:348]
        kind = HEADERS.get((version, magic))
        if kind is None and HEADER_SIZE[1] not in said:
            raise ValueError("it has no NIfTI header")
        if kind is not None:
            header = kind(block[: HEADER_SIZE[version]], check=False)
            count = min(max(int(header["dim"][0]), 0), 3)
            unsized = [axis for axis in range(1, count + 1) if header["pixdim"][axis] == 0]
            header.check_fix(logger=_QUIET)
            offset = float(header["vox_offset"])
    if kind is None:
        raise VolumeError(
            f"{path} is an Analyze 7.5 file, which does not define left and right; convert it to "
            "NIfTI with a program that knows how it was created."
        )
    if not 0 <= offset < 2**53:
        raise VolumeError(
            f"{path} has values that start at byte {offset:g}; export or download it again."
        )
    return header, unsized


def _shape(path: Path, whole: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    """Return the shape of one volume, and the number of volumes along the fourth axis."""
    shape = whole
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 2 or min(shape) < 1:
        raise VolumeError(f"{path} has the shape {whole}, so it contains no slice; check it.")
    if len(shape) > 4:
        raise VolumeError(
            f"{path} has {len(whole)} dimensions {whole}, like a vector field; choose a file with "
            "the grey values of a scan."
        )
    first, second, third, frames = (*shape, 1, 1)[:4]
    return (first, second, third), frames


def _check_type(path: Path, dtype: np.dtype) -> None:
    if dtype.names is not None:
        raise VolumeError(f"{path} is a colour (RGB) image; export it as grey values.")
    if dtype.kind == "c":
        raise VolumeError(f"{path} holds complex numbers; export their magnitude.")
    if dtype.kind not in "iuf":
        raise VolumeError(f"{path} holds values that are not numbers; export it as grey values.")


def _are_colours(
    header: nib.Nifti1Header, dtype: np.dtype, frames: int, scaling: tuple[float, float]
) -> bool:
    """Whether the fourth axis holds colours, with opacity only if the header says so."""
    plain = frames == 3 and dtype == np.uint8 and scaling == (1.0, 0.0)
    return plain or (frames in (3, 4) and int(header["intent_code"]) in COLOUR_INTENTS)


def _scaling(path: Path, header: nib.Nifti1Header) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0 (by the standard) or two NaN mean no scaling."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or (math.isnan(slope) and math.isnan(intercept)):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise VolumeError(
            f"{path} has the intensity scaling {slope:g} and {intercept:g}, which is not finite; "
            "export or download it again."
        )
    return slope, intercept


def value_step(header: nib.Nifti1Header) -> float:
    """Return the distance between neighbouring values that a scaled integer file can store.

    Returns
    -------
    float
        0 for values that are not scaled, and for floats.
    """
    slope = float(header["scl_slope"])
    if header.get_data_dtype().kind not in "iu" or not math.isfinite(slope) or slope in (0, 1):
        return 0.0
    return abs(slope)


def gives_orientation(header: nib.Nifti1Header) -> bool:
    """Return whether a header gives the orientation of its axes in the patient.

    Without it, nibabel assumes axes to the left, front and head with the origin in the middle of
    the image; other programs make other assumptions.
    """
    return bool(header["qform_code"] or header["sform_code"])


def _unit(header: nib.Nifti1Header) -> tuple[str, float]:
    """Return the name of the unit of length, and its length in mm."""
    return UNITS.get(int(header["xyzt_units"]) & UNIT_BITS, ("mm", 1.0))


def _affine_mm(header: nib.Nifti1Header) -> np.ndarray:
    affine = header.get_best_affine()
    affine[:3] *= _unit(header)[1]
    return affine


def _notes(header: nib.Nifti1Header, unsized: list[int]) -> tuple[str, ...]:
    """Return ambiguities of a header.

    Parameters
    ----------
    header : Nifti1Header
        The header.
    unsized : list of int
        Axes, from 1, for which it gives no voxel size.
    """
    notes = [] if gives_orientation(header) else [NO_ORIENTATION]
    name, mm = _unit(header)
    if mm != 1:
        notes.append(units_note(name))
    if unsized:
        axes = " and ".join(map(str, unsized))
        taken = "the size in its sform is used" if header["sform_code"] else "1 is assumed"
        notes.append(
            f"its header gives the voxel size 0 along axis {axes}; {taken}, but other programs may "
            "use another size, so check the proportions."
        )
    if not unsized or header["qform_code"]:
        notes += _disagreement(header, mm)
    return tuple(notes)


def _disagreement(header: nib.Nifti1Header, mm: float) -> list[str]:
    """Return a note if the header places the voxels twice, and differently."""
    shape = (*header.get_data_shape(), 1, 1)[:3]
    sform, qform = (int(header[f"{form}_code"]) for form in ("sform", "qform"))
    if not sform:
        return []
    try:
        mine = Geometry(header.get_sform(), shape)
        # A program that takes only the sizes from elsewhere takes them from pixdim.
        sizes = np.diag([*np.abs(header["pixdim"][1:4]), 1.0])
        other = Geometry(header.get_qform() if qform else sizes, shape)
    except (GeometryError, HeaderDataError, ValueError):  # an invalid quaternion is not used
        return []
    if not qform:
        if (np.abs(_sizes(mine) - _sizes(other)) * shape <= SAME_VOXEL * _sizes(mine)).all():
            return []
        return [
            f"its header gives voxels of {_times(_sizes(mine) * mm)} mm (sform) and of "
            f"{_times(_sizes(other) * mm)} mm (pixdim); the sform is used, but other programs, "
            "such as ITK-SNAP and 3D Slicer, may use the latter."
        ]
    corners = np.array([*np.meshgrid(*[(0, n - 1) for n in shape]), np.ones((2, 2, 2))])
    apart = np.linalg.norm(
        ((mine.affine - other.affine) @ corners.reshape(4, -1))[:3], axis=0
    ).max()
    if apart <= SAME_VOXEL * _sizes(mine).min():
        return []
    axes = mine.orientation, other.orientation
    directions = f", and their axes point to {axes[0]} and {axes[1]}" if axes[0] != axes[1] else ""
    return [
        f"its header places the voxels twice, and differently: by its sform (code {sform}) and its "
        f"qform (code {qform}) they are up to {apart * mm:.3g} mm apart{directions}; the sform is "
        "used, but other programs, such as ITK-SNAP and 3D Slicer, may use the qform, so check "
        "position and sides."
    ]


def _sizes(geometry: Geometry) -> np.ndarray:
    return np.linalg.norm(geometry.affine[:3, :3], axis=0)


def _times(numbers: np.ndarray) -> str:
    return " × ".join(f"{number:.4g}" for number in numbers)


def image_like(source: np.ndarray, affine: np.ndarray, header: object) -> nib.Nifti1Image:
    """Create a NIfTI image in the frame (codes, units) of a source header.

    Parameters
    ----------
    source : ndarray
        Values in the source grid.
    affine : ndarray, shape (4, 4)
        Source voxel indices to RAS+ mm.
    header : object
        Header of the source. If it is not a NIfTI header, the affine is stored in mm as sform with
        the code of scanner coordinates, and as qform if a qform can represent it.
    """
    if isinstance(header, nib.Nifti1Header):
        shape = header.get_data_shape()
        # Labels keep the two axes, or the fourth axis of length 1, of their scan.
        if tuple(n for n in shape if n != 1) == tuple(n for n in source.shape if n != 1):
            source = source.reshape(shape)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    if isinstance(header, nib.Nifti1Header):
        own_unit = np.array(affine, dtype=np.float64)
        own_unit[:3] /= _unit(header)[1]
        image = kind(source, own_unit)
        image.header["xyzt_units"] = header["xyzt_units"]
        # Keep the matrices of the source, even if its qform and sform differ, unless they are of
        # another grid, such as the grid before resampling.
        if np.allclose(_affine_mm(header), affine, rtol=0, atol=1e-4):
            _copy_frame(header, image.header)
    else:
        image = kind(source, affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, 1)
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        # A quaternion cannot represent a shear.
        rigid = np.allclose(axes.T @ axes, np.eye(3), rtol=0, atol=1e-6)
        image.set_qform(affine, int(rigid))
    return image


def _copy_frame(source: nib.Nifti1Header, target: nib.Nifti1Header) -> None:
    """Copy the stored qform, sform, their codes and the voxel size, without rounding."""
    quaternion = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    for name in ("qform_code", "sform_code", *quaternion, "srow_x", "srow_y", "srow_z"):
        target[name] = source[name]
    target["pixdim"][:4] = source["pixdim"][:4]


def write_nifti(source: np.ndarray, geometry: Geometry, header: object, path: Path) -> None:
    """Write labels on the source grid, in the frame of ``header`` if it is a NIfTI header.

    The intent of the file is that of labels.
    """
    image = image_like(source, geometry.affine, header)
    image.header["intent_code"] = LABEL_INTENT
    nib.save(image, path)
