"""Contents of NRRD and MetaImage headers: the place of the values and the grid of voxels."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.stored_values import StoredValues
from napari_sslseg.core.scans.geometry import LPS_TO_RAS


@dataclass(frozen=True)
class Unit:
    """A unit of length.

    Parameters
    ----------
    name : str
        Name in headers.
    mm : float
        Length in mm.
    """

    name: str
    mm: float


MM = Unit("mm", 1.0)


@dataclass(frozen=True)
class StoredGrid:
    """A grid of voxels and the place of its values in a file.

    Parameters
    ----------
    stored : Stored
        Place and type of the values.
    affine : ndarray, shape (4, 4)
        Voxel indices to RAS+ mm.
    planar : bool
        Whether the file has only two axes.
    unit : Unit
        Unit of length in the header.
    notes : tuple of str
        Ambiguities of the header about orientation and size.
    """

    stored: StoredValues
    affine: np.ndarray
    planar: bool = False
    unit: Unit = MM
    notes: tuple[str, ...] = ()


def volume_shape(path: Path, sizes: list[int]) -> tuple[int, int, int]:
    """Return the shape of a volume; two axes are one slice."""
    if len(sizes) not in (2, 3):
        raise VolumeError(
            f"{path} has {len(sizes)} dimension(s) in space, so it is not a scan; choose an image "
            "of two or three axes."
        )
    first, second, third = (*sizes, 1)[:3]
    return first, second, third


def make_affine(steps: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Make a RAS+ affine of steps and an origin in LPS.

    Parameters
    ----------
    steps : ndarray, shape (2 or 3, 2 or 3)
        Steps from voxel to voxel in mm, one column per axis. A missing third axis gets a step of
        1 mm along the normal of the plane.
    origin : ndarray
        Centre of the first voxel in mm.
    """
    space, axes = steps.shape
    whole = np.zeros((3, 3))
    whole[:space, :axes] = steps
    if axes == 2:
        normal = np.cross(whole[:, 0], whole[:, 1])
        length = np.linalg.norm(normal)
        whole[:, 2] = normal / length if length else 0
    affine = np.eye(4)
    affine[:3, :3] = whole
    affine[:space, 3] = origin
    return LPS_TO_RAS @ affine


def data_path(path: Path, name: str) -> Path:
    """Return the data file that a header names, in the folder of the header.

    Raises
    ------
    VolumeError
        If the values are in several files, or the file is missing or elsewhere.
    """
    if name.split(" ")[0] == "LIST" or "%" in name:
        raise VolumeError(
            f"{path} stores its values in several files; open it in the program that wrote it and "
            "save it as one file."
        )
    found = path.parent / name
    # Otherwise a header from a stranger could show any file of this machine as a scan.
    if not os.path.abspath(found).startswith(os.path.join(os.path.abspath(path.parent), "")):
        raise VolumeError(
            f"{path} stores its values in {name!r}, which is not in its folder; copy that file "
            "beside the header and correct the name in it."
        )
    if not found.is_file():
        raise VolumeError(
            f"{path} stores its values in {name!r}, which is missing in its folder; copy that file "
            "too."
        )
    return found
