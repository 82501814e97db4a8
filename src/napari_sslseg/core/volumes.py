"""Load scans and label maps into the display grid; save label maps back to the source grid."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import nibabel as nib
import numpy as np

from napari_sslseg.core.atomic import atomic_path
from napari_sslseg.core.errors import GeometryError, VolumeError
from napari_sslseg.core.geometry import Geometry
from napari_sslseg.core.nifti import image_like, nifti_geometry, open_nifti, read_values
from napari_sslseg.core.scan_files import SUFFIXES, expand_paths, guess_subject, scan_name

Modality = Literal["MR", "CT"]

# Air is −1000 HU and no MR magnitude is that negative: a scan that reaches far below zero in a
# good share of its voxels, and stays within what CT can measure, is taken for CT.
CT_AIR = -500.0
CT_RANGE = (-4096.0, 32767.0)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D scan, or a label map, in the display grid.

    Parameters
    ----------
    data : ndarray, shape (inferior, posterior, left)
        Values in the display grid: float32, or the integer type of the file where it has no
        scaling. HU for CT.
    geometry : Geometry
        Where the voxels lie, and the way back to the source grid.
    modality : {"MR", "CT"}
        Guessed from the values unless given.
    subject : str
        The patient that the scan belongs to; splits never cut through a subject.
    name : str
        Name of the scan, from the file name.
    path : Path or None
        The file that it came from.
    header : object or None
        Header of the source file, for writing labels into the same frame.
    """

    data: np.ndarray = field(repr=False)
    geometry: Geometry
    modality: Modality = "MR"
    subject: str = "unknown"
    name: str = "scan"
    path: Path | None = None
    header: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.data.shape != self.geometry.display_shape:
            raise GeometryError(
                f"{self.name} has data of shape {self.data.shape} but a display grid of "
                f"{self.geometry.display_shape}; pass the data through geometry.to_display first."
            )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along the display axes."""
        return self.geometry.spacing


class HasLabels(Protocol):
    """Anything that carries labels in the display grid, such as a prediction."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def volume(self) -> Volume: ...


def guess_modality(data: np.ndarray) -> Modality:
    """CT if a notable share of voxels is as dense as air in HU, else MR.

    Parameters
    ----------
    data : ndarray
        Values of a scan in any grid.
    """
    sample = data.reshape(-1)[:: max(1, data.size // 200_000)]
    low, high = float(sample.min()), float(sample.max())
    looks_like_hu = (
        CT_RANGE[0] <= low < 0
        and high <= CT_RANGE[1]
        and (float(np.mean(sample < CT_AIR)) > 0.01 or low <= -1000)
    )
    return "CT" if looks_like_hu else "MR"


def read_geometry(path: str | Path) -> Geometry:
    """Geometry of a volume file from its header alone."""
    image = open_nifti(Path(path))
    return nifti_geometry(image, Path(path))


def load_volume(
    path: str | Path, *, modality: Modality | None = None, subject: str | None = None
) -> Volume:
    """Load a scan from a NIfTI file (.nii, .nii.gz).

    Parameters
    ----------
    path : path-like
        The file.
    modality : {"MR", "CT"}, optional
        Overrides the guess from the values.
    subject : str, optional
        Overrides the guess from the file name.

    Returns
    -------
    Volume
        Data in the display grid, float32 or the integer type of the file.

    Raises
    ------
    VolumeError
        If the file is missing, is no NIfTI file, is 4D or RGB, is empty, or holds NaN or
        infinite values.
    """
    path = Path(path)
    image = open_nifti(path)
    geometry = nifti_geometry(image, path)
    data = read_values(image, path)
    name = scan_name(path)
    return Volume(
        data=geometry.to_display(data),
        geometry=geometry,
        modality=modality or guess_modality(data),
        subject=subject or guess_subject(name),
        name=name,
        path=path,
        header=image.header,
    )


def load_volumes(
    paths: str | Path | Iterable[str | Path], *, modality: Modality | None = None
) -> list[Volume]:
    """Load every scan in a folder, or each of several files and folders, in the order of names."""
    if isinstance(paths, str | Path):
        paths = [paths]
    return [load_volume(path, modality=modality) for path in expand_paths(paths)]


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
    image = open_nifti(path)
    geometry = nifti_geometry(image, path)
    data = read_values(image, path)
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
    if not path.name.lower().endswith(SUFFIXES):
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
    image = image_like(source, like.geometry.affine, like.header)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path
