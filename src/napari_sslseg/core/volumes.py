"""Load scans and label maps into the display grid; save label maps back to the source grid."""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import nibabel as nib
import numpy as np

from napari_sslseg.core.atomic import atomic_path
from napari_sslseg.core.errors import DataError, GeometryError, VolumeError
from napari_sslseg.core.geometry import Geometry

Modality = Literal["MR", "CT"]

SUFFIXES = (".nii.gz", ".nii")

# Air is −1000 HU and no MR magnitude is that negative: a scan that reaches far below zero in a
# good share of its voxels, and stays within what CT can measure, is taken for CT.
CT_AIR = -500.0
CT_RANGE = (-4096.0, 32767.0)

# Suffixes that name an acquisition or a channel of a subject, not another subject.
_ACQUISITION = re.compile(
    r"(?:(?<=\d)_\d{4}|[_-](?:ED|ES|T1w?|T2w?|T1c|FLAIR|PD|DWI|ADC|CT|MR|venous|arterial))$",
    re.IGNORECASE,
)


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


def scan_name(path: str | Path) -> str:
    """File name without the volume suffix: ``liver_01.nii.gz`` is ``liver_01``."""
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def guess_subject(name: str) -> str:
    """Patient that a scan of this name belongs to.

    A BIDS ``sub-…`` entity wins; else suffixes for a phase, contrast or channel are dropped, so
    that ``SC-HYP-01_ED`` and ``SC-HYP-01_ES`` are one patient.
    """
    bids = re.match(r"(sub-[A-Za-z0-9]+)(?:_|$)", name)
    if bids:
        return bids.group(1)
    while (shorter := _ACQUISITION.sub("", name)) != name and shorter:
        name = shorter
    return name


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


def find_volumes(folder: str | Path) -> list[Path]:
    """All volume files directly in ``folder``, sorted by name; hidden files are left out.

    Raises
    ------
    DataError
        If the folder is missing or holds no volume.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"The folder {folder} does not exist; check the path.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, but a folder of scans is needed.")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
    )
    if not paths:
        raise DataError(
            f"The folder {folder} holds no scans; put files ending in {' or '.join(SUFFIXES)} there."
        )
    return paths


def expand_paths(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are, folders as the volumes in them; each file once, in order."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found.update(dict.fromkeys(find_volumes(path)))
        elif path.exists():
            found[path] = None
        else:
            raise DataError(f"{path} does not exist; check the path.")
    return list(found)


def read_geometry(path: str | Path) -> Geometry:
    """Geometry of a volume file from its header alone."""
    image = _open(Path(path))
    return _geometry(image, Path(path))


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
    image = _open(path)
    geometry = _geometry(image, path)
    data = _read(image, path)
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
    image = _open(path)
    geometry = _geometry(image, path)
    data = _read(image, path)
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
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise VolumeError(
            f"The labels for {path} are not whole numbers; take the class, not a score."
        )
    low, high = int(labels.min()), int(labels.max())
    kind = np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))
    # Viewers disagree on unusual integer types, so only the three common ones are written.
    kind = np.dtype(np.uint8 if kind == np.uint8 else np.int16 if high < 2**15 else np.int32)
    source = np.ascontiguousarray(like.geometry.to_source(labels).astype(kind))
    image = _image_like(source, like)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def _image_like(source: np.ndarray, like: Volume) -> nib.Nifti1Image:
    """A NIfTI image of ``source`` with the affine and the frame codes of ``like``."""
    header = like.header
    second = isinstance(header, nib.Nifti2Header)
    image = (nib.Nifti2Image if second else nib.Nifti1Image)(source, like.geometry.affine)
    if isinstance(header, nib.Nifti1Header):
        image.header.set_xyzt_units(*header.get_xyzt_units())
        qform, qcode = header.get_qform(coded=True)
        sform, scode = header.get_sform(coded=True)
        # The source's own matrices, also where its qform and sform differ from each other.
        if qcode:
            image.header.set_qform(qform, int(qcode), strip_shears=True)
        else:
            image.header["qform_code"] = 0
        if scode:
            image.header.set_sform(sform, int(scode))
        elif qcode:
            image.header["sform_code"] = 0
    return image


def _open(path: Path) -> nib.Nifti1Image:
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check the path.")
    if path.stat().st_size == 0:
        raise VolumeError(f"{path} is empty (zero bytes); copy or download it again.")
    try:
        image = nib.load(path)
    except (nib.filebasedimages.ImageFileError, EOFError, zlib.error, ValueError, OSError) as error:
        raise VolumeError(
            f"{path} cannot be read as a NIfTI file ({_reason(path, error)}); "
            "export or download it again."
        ) from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti2Image):
        raise VolumeError(f"{path} is no NIfTI file but {type(image).__name__}; convert it first.")
    return image


def _reason(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if start and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start):
        return "it is a text file"
    return str(error).split("\n")[0].rstrip(".")


def _geometry(image: nib.Nifti1Image, path: Path) -> Geometry:
    shape = image.shape
    if image.get_data_dtype().names is not None:
        raise VolumeError(f"{path} is a colour (RGB) image; export it as grey values.")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise VolumeError(
            f"{path} has {len(shape)} dimensions {image.shape}; split it into 3D scans, one file "
            "each, and choose the ones to use."
        )
    if len(shape) < 2 or 0 in shape:
        raise VolumeError(f"{path} has the shape {image.shape} and so holds no slice; check it.")
    shape = (*shape, *(1,) * (3 - len(shape)))
    try:
        return Geometry(image.affine, shape)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


def _read(image: nib.Nifti1Image, path: Path) -> np.ndarray:
    """Values in the source grid with exactly three axes: an integer type or float32."""
    try:
        slope, inter = image.dataobj.slope, image.dataobj.inter
        integer = image.get_data_dtype().kind in "iu" and (slope, inter) == (1.0, 0.0)
        data = (
            np.asanyarray(image.dataobj)
            if integer
            else image.get_fdata(dtype=np.float32, caching="unchanged")
        )
    except (EOFError, zlib.error, ValueError, OSError) as error:
        raise VolumeError(
            f"The values of {path} cannot be read ({str(error).splitlines()[0]}); the file is cut "
            "short or damaged, so copy or download it again."
        ) from error
    data = data.reshape(_geometry(image, path).shape)
    if data.dtype.kind == "f":
        bad = data.size - int(np.isfinite(data).sum())
        if bad:
            raise VolumeError(
                f"{path} holds {bad} values that are NaN or infinite; set them to a number, such "
                "as the value of the background."
            )
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def with_data(volume: Volume, data: np.ndarray) -> Volume:
    """The same scan with other values, such as a label map drawn on it."""
    return replace(volume, data=data)


__all__: Sequence[str] = [
    "HasLabels",
    "Modality",
    "Volume",
    "expand_paths",
    "find_volumes",
    "guess_modality",
    "guess_subject",
    "load_labels",
    "load_volume",
    "load_volumes",
    "read_geometry",
    "save_labels",
    "scan_name",
    "with_data",
]
