"""What the headers of NRRD and MetaImage files tell: where the values lie, and the voxels."""

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
        As headers give it.
    mm : float
        How many mm it is.
    """

    name: str
    mm: float


MM = Unit("mm", 1.0)


@dataclass(frozen=True)
class StoredGrid:
    """A grid of voxels and its values in a file.

    Parameters
    ----------
    stored : Stored
        Where the values lie.
    affine : ndarray, shape (4, 4)
        Voxel indices to RAS+ mm.
    planar : bool
        Whether the file is a plane without a third axis.
    unit : Unit
        In which the header gives lengths.
    notes : tuple of str
        What the header leaves open about the orientation and the size.
    """

    stored: StoredValues
    affine: np.ndarray
    planar: bool = False
    unit: Unit = MM
    notes: tuple[str, ...] = ()


def volume_shape(path: Path, sizes: list[int]) -> tuple[int, int, int]:
    """Shape of the volume, one slice for two axes."""
    if len(sizes) not in (2, 3):
        raise VolumeError(
            f"{path} has {len(sizes)} dimension(s) in space and so is no scan; choose an image of "
            "two or three axes."
        )
    first, second, third = (*sizes, 1)[:3]
    return first, second, third


def make_affine(steps: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """RAS+ affine of the steps from voxel to voxel, one column each, and an origin in LPS.

    A third axis that is missing gets a step of 1 mm along the normal of the plane.
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
    """The file of the values that a header names, beside the header.

    Raises
    ------
    VolumeError
        If the values lie in several files, or the file is missing.
    """
    if name.split(" ")[0] == "LIST" or "%" in name:
        raise VolumeError(
            f"{path} keeps its values in several files; open it in the program that wrote it and "
            "save it as one file."
        )
    found = path.parent / name
    if not found.is_file():
        raise VolumeError(
            f"{path} keeps its values in {name!r}, which is missing beside it; copy that file too."
        )
    return found
