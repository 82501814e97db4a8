"""Load scans into the display grid."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.scans.find import as_series, find_scans
from napari_sslseg.core.scans.formats.registry import has_dicom_name
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.series import Series, Source

Modality = Literal["MR", "CT"]

# Air is −1000 HU, and MR magnitudes are not negative: a scan is taken for CT if enough voxels are
# far below zero and all are within the range of CT.
CT_AIR = -500.0
CT_RANGE = (-4096.0, 32767.0)
BELOW_AIR = -1100.0
MOST_BELOW_AIR = 0.05


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D scan, or a label map, in the display grid.

    Parameters
    ----------
    data : ndarray, shape (inferior, posterior, left)
        Values in the display grid: float32, or the integer type of the file where it has no
        scaling. HU for CT.
    geometry : Geometry
        Place of the voxels in the patient, and the conversion to the source grid.
    modality : {"MR", "CT"}
        Guessed from the values unless given.
    subject : str
        The patient; splits never divide the scans of a subject.
    name : str
        Name of the scan, from the file name.
    path : Path or None
        The file of the scan.
    header : object or None
        Header of the source file, for writing labels in the same frame.
    notes : tuple of str
        Changes that made the grid of the source regular, such as resampling.
    subject_guess : str or None
        The subject as guessed from names, as in
        :class:`~napari_sslseg.core.scans.series.Series`.
    is_labels : bool
        Whether it was read as a label map.
    """

    data: np.ndarray = field(repr=False)
    geometry: Geometry
    modality: Modality = "MR"
    subject: str = "unknown"
    name: str = "scan"
    path: Path | None = None
    header: Any = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    subject_guess: str | None = None
    is_labels: bool = False

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
    """An object with labels in the display grid, such as a prediction."""

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def volume(self) -> Volume: ...


def guess_modality(data: np.ndarray) -> Modality:
    """Guess the modality: CT if enough voxels have the HU of air, else MR.

    Parameters
    ----------
    data : ndarray
        Values of a scan in any grid.
    """
    sample = subsample(data)
    low, high = float(sample.min()), float(sample.max())
    looks_like_hu = (
        CT_RANGE[0] <= low < 0
        and high <= CT_RANGE[1]
        and (float(np.mean(sample < CT_AIR)) > 0.01 or low <= -1000)
        and _share_below_air(sample) < MOST_BELOW_AIR
    )
    return "CT" if looks_like_hu else "MR"


def _share_below_air(sample: np.ndarray) -> float:
    """Share of values that no HU has; one value, as outside of the field of view, is left out."""
    below = sample[sample < BELOW_AIR]
    if not below.size:
        return 0.0
    _, counts = np.unique(below, return_counts=True)
    return float((below.size - counts.max()) / sample.size)


def reason_of_modality(series: Series) -> str:
    """Say why the modality of a scan is taken, and how to correct a guess."""
    if series.modality is None:
        return (
            f"guessed from the values of {series.name}; if that is wrong, give --modality (in "
            "Python modality=)"
        )
    if has_dicom_name(series.files[0] if series.files else series.path):
        return f"by the header of {series.name}"
    # A project keeps the modality that was guessed, or that the user chose.
    return f"as the project has it; the file of {series.name} does not name it"


def guess_modality_of(series: Series) -> Modality | None:
    """Guess the modality of a scan from its values; None if its header gives it.

    Raises
    ------
    SslsegError
        If the values cannot be read.
    """
    if series.modality is not None:
        return None
    return guess_modality(series.opened().values(series.frame))


def subsample(data: np.ndarray) -> np.ndarray:
    """Return at most about 400,000 evenly spaced values, without copying the scan."""
    return data.ravel(order="K")[:: max(1, data.size // 200_000)]


def take_slices(data: np.ndarray, numbers: int | np.ndarray, axis: int) -> np.ndarray:
    """Take one or more slices along an axis, as ``np.take`` does.

    ``np.take`` copies the whole array first if its axes are flipped, as those of most scans are in
    the display grid.
    """
    return np.array(data[(slice(None),) * axis + (numbers,)])


def read_geometry(source: Source | str) -> Geometry:
    """Read the geometry of a scan from its headers alone."""
    return as_series(source).opened().geometry


def load_volume(
    source: Source | str, *, modality: Modality | None = None, subject: str | None = None
) -> Volume:
    """Load one scan.

    Parameters
    ----------
    source : path-like or Series
        A file (NIfTI, NRRD, MetaImage, DICOM), a folder with one DICOM series, or a series of
        :func:`~napari_sslseg.core.scans.find.list_series`. A single file of a DICOM series is
        loaded as one slice.
    modality : {"MR", "CT"}, optional
        Overrides the header (DICOM) or the guess from the values.
    subject : str, optional
        Overrides the guess from the file name, or the pseudonym of a DICOM patient.

    Returns
    -------
    Volume
        Data in the display grid, float32 or the integer type of the file; HU for CT.

    Raises
    ------
    VolumeError
        If the scan cannot be read, is not a 3D grey-value image, holds several volumes, or contains
        NaN or infinite values.
    """
    series = as_series(source)
    image = series.opened()
    try:
        data = image.values(series.frame)
    except MemoryError as error:
        raise VolumeError(
            f"{series.path} does not fit into memory as {image.geometry.shape} voxels; crop it or "
            "use a machine with more memory."
        ) from error
    for note in series.notes:
        warnings.warn(f"{series.path}: {note}", ScanWarning, stacklevel=2)
    return Volume(
        data=image.geometry.to_display(data),
        geometry=image.geometry,
        modality=modality or _modality(series, data),
        subject=subject or series.subject,
        name=series.name,
        path=series.path,
        header=image.header,
        notes=series.notes,
        subject_guess=series.subject_guess,
    )


def load_volumes(
    paths: str | Path | Iterable[str | Path], *, modality: Modality | None = None
) -> list[Volume]:
    """Load all scans in files and folders, sorted by name, one volume per DICOM series.

    See :func:`~napari_sslseg.core.scans.find.list_series` for the files that are read. Unusable
    DICOM series are skipped with a warning each.
    """
    return [load_volume(series, modality=modality) for series in find_scans(paths)]


def _modality(series: Series, data: np.ndarray) -> Modality:
    if series.modality is None:
        return guess_modality(data)
    if series.modality != "MR" and series.modality != "CT":
        raise VolumeError(
            f"{series.path} is a {series.modality} series; choose MR or CT scans, or pass "
            "modality= to use it as if it were one."
        )
    return "CT" if series.modality == "CT" else "MR"
