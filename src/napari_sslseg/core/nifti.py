"""NIfTI files: what of them is a scan, their values, and label images in their frame."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from napari_sslseg.core.errors import GeometryError, VolumeError
from napari_sslseg.core.geometry import Geometry
from napari_sslseg.core.reading import check_present, finite, refusing


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


class NiftiFile:
    """An opened NIfTI-1, NIfTI-2 or Analyze-like pair (.hdr and .img); see ImageFile."""

    def __init__(self, path: Path) -> None:
        check_present(path)
        with refusing(path, "a NIfTI file"):
            # Not mapped: a scan must not change, or end the process, when its file does.
            image = nib.load(path, mmap=False)
        if not isinstance(image, nib.Nifti1Image | nib.Nifti1Pair):
            raise VolumeError(
                f"{path} is no NIfTI file but {type(image).__name__}; convert it first."
            )
        self.path = path
        self._image: Any = image
        self.header = image.header
        self.geometry, self.frames = self._grid()

    def _grid(self) -> tuple[Geometry, int]:
        path, shape = self.path, self._image.shape
        if self._image.get_data_dtype().names is not None:
            raise VolumeError(f"{path} is a colour (RGB) image; export it as grey values.")
        if self._image.get_data_dtype().kind == "c":
            raise VolumeError(f"{path} holds complex numbers; export their magnitude.")
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) > 4:
            raise VolumeError(
                f"{path} has {len(shape)} dimensions {self._image.shape}, such as a field of "
                "vectors has; choose a file with the grey values of a scan."
            )
        if len(shape) < 2 or min(shape) < 1:
            raise VolumeError(f"{path} has the shape {shape} and so holds no slice; check it.")
        first, second, third, frames = (*shape, 1, 1)[:4]
        try:
            return Geometry(self._image.affine, (first, second, third)), frames
        except GeometryError as error:
            raise GeometryError(f"{path}: {error}") from error

    def values(self, frame: int = 0) -> np.ndarray:
        """Values in the source grid, three axes, as the integer type of the file or float32."""
        image = self._image
        with refusing(
            self.path,
            "a NIfTI file",
            advice="the file is cut short or damaged, so copy or download it again",
        ):
            proxy: Any = image.dataobj
            unscaled = (proxy.slope, proxy.inter) == (1.0, 0.0)
            integer = image.get_data_dtype().kind in "iu" and unscaled
            data = (
                np.asanyarray(proxy)
                if integer
                else image.get_fdata(dtype=np.float32, caching="unchanged")
            )
        data = data.reshape((*self.geometry.shape, self.frames))[..., frame]
        return finite(data, self.path)


def write_nifti(source: np.ndarray, geometry: Geometry, header: object, path: Path) -> None:
    """Write labels of the source grid; in the frame of ``header`` where that is of NIfTI."""
    nib.save(image_like(source, geometry.affine, header), path)
