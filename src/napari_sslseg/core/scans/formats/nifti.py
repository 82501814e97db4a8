"""NIfTI files: what of them is a scan, their values, and label images in their frame."""

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
from napari_sslseg.core.scans.geometry import Geometry

HEADER_SIZE = {1: 348, 2: 540}
HEADERS = {
    (1, b"n+1\0"): nib.nifti1.Nifti1Header,
    (1, b"ni1\0"): nib.nifti1.Nifti1PairHeader,
    (2, b"n+2\0"): nib.nifti2.Nifti2Header,
    (2, b"ni2\0"): nib.nifti2.Nifti2PairHeader,
}
# The unit of lengths stands in three bits. All but these are mm or undefined, and count as mm.
UNIT_BITS = 0b111
UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
NO_ORIENTATION = (
    "its header gives no orientation, so its axes are taken to run to the patient's left, front "
    "and head, and left and right cannot be known; check them against the scanner's images."
)
# Of nibabel's own, which derive from Exception alone.
HEADER_ERRORS = (HeaderDataError, WrapStructError)

# What nibabel mends in a header, and what it refuses, would else be printed besides.
_QUIET = logging.getLogger("napari_sslseg.nifti")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class NiftiFile:
    """An opened NIfTI-1 or NIfTI-2 file, or pair of .hdr and .img; see ImageFile.

    nibabel reads the header. The values are read past it, because it stops at the last voxel of a
    compressed file and so never compares the checksum that follows.
    """

    def __init__(self, path: Path) -> None:
        check_present(path)
        self.path = path
        header_path, values_path = _pair(path)
        self.header = header = _read_header(path, header_path)
        with reraise_parser_errors(path, "a NIfTI file", errors=HEADER_ERRORS):
            whole = header.get_data_shape()
            dtype = header.get_data_dtype()
            affine = _affine_mm(header)
            # Of a single file 0 stands for right after the header.
            start = header.get_data_offset()
        shape, self.frames = _shape(path, tuple(int(n) for n in whole))
        _check_type(path, dtype)
        self._scaling = _scaling(path, header)
        if header.is_single:
            values_path = header_path
        elif values_path == header_path:
            raise VolumeError(
                f"{path} is only the header of a pair; use the .hdr file beside its .img file."
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
        self.notes = _notes(header)

    def values(self, frame: int = 0) -> np.ndarray:
        """Values in the source grid, three axes, as the integer type of the file or float32."""
        return check_finite(apply_scaling(self._stored.read(frame), *self._scaling), self.path)


def _pair(path: Path) -> tuple[Path, Path]:
    """The files of the header and of the values: one and the same but for .hdr and .img."""
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
                f"{path} is one file of a pair whose {stem}{other} is missing; put it beside it."
            )
    return path, path


def _read_header(path: Path, header_path: Path) -> nib.Nifti1Header:
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
            header.check_fix(logger=_QUIET)
            offset = float(header["vox_offset"])
    if kind is None:
        raise VolumeError(
            f"{path} is an Analyze 7.5 file, which does not tell left from right; convert it to "
            "NIfTI with a program that knows how it was made."
        )
    if not 0 <= offset < 2**53:
        raise VolumeError(
            f"{path} says that its values start at byte {offset:g}; export or download it again."
        )
    return header


def _shape(path: Path, whole: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    """Shape of one volume, and how many there are along the fourth axis."""
    shape = whole
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 2 or min(shape) < 1:
        raise VolumeError(f"{path} has the shape {whole} and so holds no slice; check it.")
    if len(shape) > 4:
        raise VolumeError(
            f"{path} has {len(whole)} dimensions {whole}, such as a field of vectors has; choose "
            "a file with the grey values of a scan."
        )
    first, second, third, frames = (*shape, 1, 1)[:4]
    return (first, second, third), frames


def _check_type(path: Path, dtype: np.dtype) -> None:
    if dtype.names is not None:
        raise VolumeError(f"{path} is a colour (RGB) image; export it as grey values.")
    if dtype.kind == "c":
        raise VolumeError(f"{path} holds complex numbers; export their magnitude.")
    if dtype.kind not in "iuf":
        raise VolumeError(f"{path} holds values of no numeric type; export it as grey values.")


def _scaling(path: Path, header: nib.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means none by the standard, and so does NaN for both."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or (math.isnan(slope) and math.isnan(intercept)):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise VolumeError(
            f"{path} scales its values by {slope:g} and {intercept:g}, which are no numbers to "
            "scale by; export or download it again."
        )
    return slope, intercept


def gives_orientation(header: nib.Nifti1Header) -> bool:
    """Whether a header says how its axes lie in the patient.

    Where it does not, nibabel takes them to run to the left, front and head around the middle of
    the image, and other programs take them otherwise.
    """
    return bool(header["qform_code"] or header["sform_code"])


def _unit(header: nib.Nifti1Header) -> tuple[str, float]:
    """Name of the unit of lengths, and how many mm it is."""
    return UNITS.get(int(header["xyzt_units"]) & UNIT_BITS, ("mm", 1.0))


def _affine_mm(header: nib.Nifti1Header) -> np.ndarray:
    affine = header.get_best_affine()
    affine[:3] *= _unit(header)[1]
    return affine


def _notes(header: nib.Nifti1Header) -> tuple[str, ...]:
    notes = [] if gives_orientation(header) else [NO_ORIENTATION]
    name, mm = _unit(header)
    if mm != 1:
        notes.append(units_note(name))
    return tuple(notes)


def image_like(source: np.ndarray, affine: np.ndarray, header: object) -> nib.Nifti1Image:
    """Make a NIfTI image of ``source`` in the frame (codes, units) of a source header.

    Parameters
    ----------
    source : ndarray
        Values in the source grid.
    affine : ndarray, shape (4, 4)
        Source voxel indices to RAS+ mm.
    header : object
        Header of the source. Unless it is of NIfTI, the affine becomes the sform, with the code of
        scanner coordinates, and the qform too where that can hold it, in mm.
    """
    if isinstance(header, nib.Nifti1Header):
        shape = header.get_data_shape()
        # A file of two axes, or with a fourth of length 1, gets labels of the same shape.
        if tuple(n for n in shape if n != 1) == tuple(n for n in source.shape if n != 1):
            source = source.reshape(shape)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    if isinstance(header, nib.Nifti1Header):
        own_unit = np.array(affine, dtype=np.float64)
        own_unit[:3] /= _unit(header)[1]
        image = kind(source, own_unit)
        image.header["xyzt_units"] = header["xyzt_units"]
        # The source's own matrices, also where its qform and sform differ from each other; but
        # not those of another grid, such as the one before resampling.
        if np.allclose(_affine_mm(header), affine, rtol=0, atol=1e-4):
            _copy_frame(header, image.header)
    else:
        image = kind(source, affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, 1)
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        # A quaternion cannot hold a shear.
        rigid = np.allclose(axes.T @ axes, np.eye(3), rtol=0, atol=1e-6)
        image.set_qform(affine, int(rigid))
    return image


def _copy_frame(source: nib.Nifti1Header, target: nib.Nifti1Header) -> None:
    """Copy qform, sform, their codes and the voxel size as they are stored, without rounding."""
    quaternion = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    for name in ("qform_code", "sform_code", *quaternion, "srow_x", "srow_y", "srow_z"):
        target[name] = source[name]
    target["pixdim"][:4] = source["pixdim"][:4]


def write_nifti(source: np.ndarray, geometry: Geometry, header: object, path: Path) -> None:
    """Write labels of the source grid; in the frame of ``header`` where that is of NIfTI."""
    nib.save(image_like(source, geometry.affine, header), path)
