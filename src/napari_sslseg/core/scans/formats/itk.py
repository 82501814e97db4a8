"""NRRD and MetaImage files: own readers with checks, and label images written by SimpleITK.

SimpleITK is not used for reading. It accepts truncated data silently, does not verify the checksums
of compressed MetaImages, cannot decompress bzip2, ignores the mirroring of a
right-anterior-superior space with time, and a manipulated header can make it allocate any amount
of memory.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from napari_sslseg.core.common.errors import GeometryError, ScanWarning
from napari_sslseg.core.common.safe_files import utf8_path
from napari_sslseg.core.scans.formats.image_file import check_finite, check_present
from napari_sslseg.core.scans.formats.itk_header import MM, Unit
from napari_sslseg.core.scans.formats.metaimage import read_fields, read_metaimage
from napari_sslseg.core.scans.formats.nifti import gives_orientation
from napari_sslseg.core.scans.formats.nrrd import SEGMENT, read_nrrd, read_pairs
from napari_sslseg.core.scans.formats.stored_values import apply_scaling
from napari_sslseg.core.scans.geometry import LPS_TO_RAS, Geometry

MARK = "napari_sslseg_content"
"""Key in the header of label files that this program writes; neither format has a field for it."""

LABELS = "labels"


@dataclass(frozen=True)
class ItkHeader:
    """Properties of the scan's header, besides its grid, that labels keep.

    Parameters
    ----------
    planar : bool
        Whether the scan has only two axes.
    unit : Unit
        Unit of length in the file; only NRRD supports units other than mm.
    """

    planar: bool = False
    unit: Unit = MM


class ItkFile:
    """An opened NRRD or MetaImage file; see ImageFile."""

    def __init__(self, path: Path) -> None:
        check_present(path)
        nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
        layout = read_nrrd(path) if nrrd else read_metaimage(path)
        layout.stored.check()
        self.path = path
        self.frames = layout.stored.frames
        self.header = ItkHeader(layout.planar, layout.unit)
        self._stored = layout.stored
        self.notes = layout.notes
        try:
            self.geometry = Geometry(layout.affine, layout.stored.shape)
        except GeometryError as error:
            raise GeometryError(f"{path}: {error}") from error

    def values(self, frame: int = 0) -> np.ndarray:
        """Read a volume in the source grid, with three axes: the file's integer type or float32."""
        return check_finite(apply_scaling(self._stored.read(frame)), self.path)

    def exact_values(self) -> np.ndarray:
        """Read the first volume with floats of 64 bits, if they are not stored with 32."""
        return check_finite(apply_scaling(self._stored.read(0), kind=np.float64), self.path)


def write_itk(
    source: np.ndarray,
    geometry: Geometry,
    header: object,
    path: Path,
    *,
    pairs: Mapping[str, str] | None = None,
) -> None:
    """Write labels on the source grid as compressed NRRD or MetaImage.

    Both formats store any affine, including shears, in full precision. Labels of a file with two
    axes have two axes, and NRRD labels of an NRRD scan use the unit of the scan. ``pairs`` are
    key/value pairs for the header of an NRRD file; :data:`MARK` is added.

    Warns
    -----
    ScanWarning
        If the scan is a NIfTI file without orientation, whose place depends on the program.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import SimpleITK as sitk  # noqa: N813

    affine = LPS_TO_RAS @ geometry.affine
    own = header if isinstance(header, ItkHeader) else ItkHeader()
    nrrd = path.name.lower().endswith(".nrrd")
    unit = own.unit if nrrd else MM
    affine[:3] /= unit.mm
    planar = own.planar and source.shape[2] == 1
    axes = 2 if planar else 3
    steps = affine[:axes, :axes]
    spacing = np.linalg.norm(steps, axis=0)
    image = sitk.GetImageFromArray((source[:, :, 0] if planar else source).T)
    image.SetOrigin(affine[:axes, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((steps / spacing).ravel().tolist())
    for key, text in {**(pairs or {}), MARK: LABELS}.items():
        image.SetMetaData(key, text)
    try:
        # SimpleITK ends the process at a name that is not UTF-8.
        with utf8_path(path) as writable:
            sitk.WriteImage(image, str(writable), useCompression=True)
    except RuntimeError as error:
        raise OSError(f"SimpleITK cannot write the {path.suffix} file") from error
    if unit != MM:
        _add_unit(path, unit, axes)
    if isinstance(header, nib.Nifti1Header) and not gives_orientation(header):
        warnings.warn(
            "The NIfTI header of the scan gives no orientation, so other programs may show the "
            "scan in another place than these labels; save them as .nii.gz to keep both together.",
            ScanWarning,
            # Where the labels are saved; segmentations have one function more on the way.
            stacklevel=4 if pairs is None else 5,
        )


def is_marked_itk(path: Path) -> bool:
    """Return whether an NRRD or MetaImage file says that it is a label map.

    Segmentations of 3D Slicer do, and the label files of this program.

    Raises
    ------
    VolumeError
        If the header is damaged.
    """
    if path.name.lower().endswith((".nrrd", ".nhdr")):
        pairs = read_pairs(path)
        return pairs.get(MARK) == LABELS or any(SEGMENT.match(key) for key in pairs)
    return read_fields(path).get(MARK) == LABELS


def _add_unit(path: Path, unit: Unit, axes: int) -> None:
    """Add the unit to the header of an NRRD file, which SimpleITK cannot do."""
    units = " ".join([f'"{unit.name}"'] * axes)
    head, line, rest = path.read_bytes().partition(b"\nspace directions:")
    path.write_bytes(head + f"\nspace units: {units}".encode() + line + rest)
