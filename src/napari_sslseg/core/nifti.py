"""NIfTI files: what of them is a scan, their values, and label images in their frame."""

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from napari_sslseg.core.errors import GeometryError, VolumeError
from napari_sslseg.core.geometry import Geometry


def image_like(source: np.ndarray, affine: np.ndarray, header: object) -> nib.Nifti1Image:
    """Make a NIfTI image of ``source`` in the frame (codes, units) of a source header."""
    if isinstance(header, nib.Nifti1Header):
        shape = header.get_data_shape()
        # A file of two axes, or with a fourth of length 1, gets labels of the same shape.
        if tuple(n for n in shape if n != 1) == tuple(n for n in source.shape if n != 1):
            source = source.reshape(shape)
    second = isinstance(header, nib.Nifti2Header)
    image = (nib.Nifti2Image if second else nib.Nifti1Image)(source, affine)
    if isinstance(header, nib.Nifti1Header):
        image.header.set_xyzt_units(*header.get_xyzt_units())
        # The source's own matrices, also where its qform and sform differ from each other; but
        # not those of another grid, such as the one before resampling.
        if np.allclose(header.get_best_affine(), affine, rtol=0, atol=1e-4):
            _copy_frame(header, image.header)
    return image


def _copy_frame(source: nib.Nifti1Header, target: nib.Nifti1Header) -> None:
    """Copy qform, sform, their codes and the voxel size as they are stored, without rounding."""
    quaternion = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    for name in ("qform_code", "sform_code", *quaternion, "srow_x", "srow_y", "srow_z"):
        target[name] = source[name]
    target["pixdim"][:4] = source["pixdim"][:4]


def open_nifti(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI file lazily, or say in one sentence why it cannot be."""
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check the path.")
    if path.is_dir():
        raise VolumeError(f"{path} is a folder; choose a scan file in it.")
    if path.stat().st_size == 0:
        raise VolumeError(f"{path} is empty (zero bytes); copy or download it again.")
    try:
        # Not mapped: a scan must not change, or end the process, when its file does.
        image = nib.load(path, mmap=False)
    except (ImageFileError, HeaderDataError, EOFError, zlib.error, ValueError, OSError) as error:
        raise VolumeError(
            f"{path} cannot be read as a NIfTI file ({_reason(path, error)}); "
            "export or download it again."
        ) from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti2Image):
        raise VolumeError(f"{path} is no NIfTI file but {type(image).__name__}; convert it first.")
    return image


def _reason(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as unreadable:
        return unreadable.strerror or "it cannot be opened"
    if start and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start):
        return "it is a text file"
    return str(error).split("\n")[0].rstrip(".")


def nifti_geometry(image: nib.Nifti1Image, path: Path) -> Geometry:
    """Geometry of an opened file, refused where it is no single 3D (or 2D) grey image."""
    shape = image.shape
    if image.get_data_dtype().names is not None:
        raise VolumeError(f"{path} is a colour (RGB) image; export it as grey values.")
    if image.get_data_dtype().kind == "c":
        raise VolumeError(f"{path} holds complex numbers; export their magnitude.")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise VolumeError(
            f"{path} has {len(shape)} dimensions {image.shape}; split it into 3D scans, one file "
            "each, and choose the ones to use."
        )
    if len(shape) < 2 or min(shape) < 1:
        raise VolumeError(f"{path} has the shape {image.shape} and so holds no slice; check it.")
    first, second, third = (*shape, 1)[:3]
    try:
        return Geometry(image.affine, (first, second, third))
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


def read_values(image: nib.Nifti1Image, path: Path) -> np.ndarray:
    """Values in the source grid, three axes, as the integer type of the file or float32."""
    try:
        proxy: Any = image.dataobj
        unscaled = (proxy.slope, proxy.inter) == (1.0, 0.0)
        integer = image.get_data_dtype().kind in "iu" and unscaled
        data = (
            np.asanyarray(proxy)
            if integer
            else image.get_fdata(dtype=np.float32, caching="unchanged")
        )
    except (EOFError, zlib.error, ValueError, OSError) as error:
        raise VolumeError(
            f"The values of {path} cannot be read ({str(error).splitlines()[0]}); the file is cut "
            "short or damaged, so copy or download it again."
        ) from error
    except MemoryError as error:
        raise VolumeError(
            f"{path} has the shape {image.shape}, which does not fit into memory; crop it or use "
            "a machine with more memory."
        ) from error
    data = data.reshape(nifti_geometry(image, path).shape)
    if data.dtype.kind == "f":
        bad = data.size - int(np.isfinite(data).sum())
        if bad:
            raise VolumeError(
                f"{path} holds {bad} values that are NaN or infinite; set them to a number, such "
                "as the value of the background."
            )
    return data.astype(data.dtype.newbyteorder("="), copy=False)
