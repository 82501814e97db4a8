"""The table of file formats: one entry each, from which everything else about formats is derived.

Suffixes, the choice of a reader and of a writer, file dialogs and messages all come from the table.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.implementation import Implementation, resolve

if TYPE_CHECKING:
    from napari_sslseg.core.scans.classes.segment import Segment
    from napari_sslseg.core.scans.formats.image_file import ImageFile

_FORMATS = "napari_sslseg.core.scans.formats"


@dataclass(frozen=True)
class FileFormat:
    """A file format of scans and label maps.

    Parameters
    ----------
    name : str
        Name of the format in messages and dialogs.
    suffixes : tuple of str
        Suffixes of the files that hold a scan, in lower case, with the dot. Of a pair of files,
        that of the header.
    reader : callable or str, optional
        Opens a file: takes a path and returns an
        :class:`~napari_sslseg.core.scans.formats.image_file.ImageFile`. A string
        ``"module:name"`` is imported on first use. Without a reader, files of this format are
        series of many files, as in DICOM.
    writer : callable or str, optional
        Writes labels: takes an integer array in the source grid, its
        :class:`~napari_sslseg.core.scans.geometry.Geometry`, the header of the scan and a path.
        Without a writer, the format is read only.
    label_suffixes : tuple of str, optional
        Suffixes of label files, the preferred one first; all suffixes if not given.
    companions : tuple of str, optional
        Suffixes of files that belong to a header, such as ``.img``.
    label_name : str, optional
        Name of the format of label files; ``name`` if not given.
    segments : callable or str, optional
        Reads the structures of a label file: takes a path and returns a list of
        :class:`~napari_sslseg.core.scans.classes.segment.Segment`, empty if it names none.
    mark : callable or str, optional
        Returns whether a file says of itself that it is a label map: takes a path. Such a file may
        be replaced by labels whatever its values look like.
    writes_classes : bool
        Whether the writer also takes ``classes`` and ``algorithm``, see
        :func:`~napari_sslseg.core.scans.labels.save_labels`, and stores the names of the classes.
        For other formats they are written to ``classes.json``.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: Implementation | None = None
    writer: Implementation | None = None
    label_suffixes: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    label_name: str = ""
    segments: Implementation | None = None
    mark: Implementation | None = None
    writes_classes: bool = False

    def __post_init__(self) -> None:
        every = (*self.suffixes, *self.companions, *self.label_suffixes)
        if not self.suffixes or any(s[:1] != "." or s != s.lower() for s in every):
            raise ConfigError(
                f"The file format {self.name} has the suffixes {', '.join(every) or 'none'}; give "
                "at least one, in lower case and with its dot."
            )

    @property
    def written_suffixes(self) -> tuple[str, ...]:
        """Suffixes of label files that can be written; empty without a writer."""
        return () if self.writer is None else self.label_suffixes or self.suffixes

    def open(self, path: Path) -> "ImageFile":
        """Open a scan or label map: read its header, not yet its values."""
        assert self.reader is not None, "files of this format are read as series"
        opened: ImageFile = resolve(self.reader)(path)
        return opened

    def read_segments(self, path: Path) -> "list[Segment]":
        """Read the structures of a label file, see ``segments``."""
        found: list[Segment] = [] if self.segments is None else resolve(self.segments)(path)
        return found

    def is_marked(self, path: Path) -> bool:
        """Return whether a file says that it is a label map, see ``mark``."""
        return self.mark is not None and bool(resolve(self.mark)(path))

    def write(self, *args: Any, **kwargs: Any) -> None:
        """Write labels, see ``writer``."""
        assert self.writer is not None, "this format is read only"
        resolve(self.writer)(*args, **kwargs)


NIFTI = FileFormat(
    "NIfTI",
    (".nii.gz", ".nii", ".hdr.gz", ".hdr"),
    reader=f"{_FORMATS}.nifti:NiftiFile",
    writer=f"{_FORMATS}.nifti:write_nifti",
    label_suffixes=(".nii.gz", ".nii"),
    companions=(".img.gz", ".img"),
    segments=f"{_FORMATS}.nifti_labels:read_nifti_segments",
    mark=f"{_FORMATS}.nifti_labels:is_marked_nifti",
)
NRRD = FileFormat(
    "NRRD",
    (".nrrd", ".nhdr"),
    reader=f"{_FORMATS}.itk:ItkFile",
    writer=f"{_FORMATS}.slicer_segments:write_slicer_segments",
    label_suffixes=(".nrrd",),
    segments=f"{_FORMATS}.slicer_segments:read_slicer_segments",
    mark=f"{_FORMATS}.itk:is_marked_itk",
    writes_classes=True,
)
METAIMAGE = FileFormat(
    "MetaImage",
    (".mha", ".mhd"),
    reader=f"{_FORMATS}.itk:ItkFile",
    writer=f"{_FORMATS}.itk:write_itk",
    label_suffixes=(".mha",),
    mark=f"{_FORMATS}.itk:is_marked_itk",
)
# DICOM has no reader of single files: it is recognised by content and read as series.
DICOM = FileFormat(
    "DICOM",
    (".dcm", ".dicom", ".ima", ".seg"),
    writer=f"{_FORMATS}.dicom.labels.write_seg:write_segmentation",
    label_suffixes=(".dcm",),
    label_name="DICOM segmentation",
    segments=f"{_FORMATS}.dicom.labels.segments:read_dicom_segments",
    writes_classes=True,
)

_formats = [NIFTI, NRRD, METAIMAGE, DICOM]


def register_format(file_format: FileFormat) -> None:
    """Add a file format; from then on its files are found, read and written like all others.

    Parameters
    ----------
    file_format : FileFormat
        The format.

    Raises
    ------
    ConfigError
        If its name or one of its suffixes is taken.
    """
    for other in _formats:
        if other.name == file_format.name:
            raise ConfigError(f"There is a file format {other.name} already; choose another name.")
        taken = set(_all_suffixes(other)).intersection(_all_suffixes(file_format))
        if taken:
            raise ConfigError(
                f"Files ending in {min(taken)} belong to {other.name} already; choose another "
                f"suffix for {file_format.name}."
            )
    _formats.append(file_format)


def unregister_format(name: str) -> None:
    """Remove a file format that :func:`register_format` added.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    for number, file_format in enumerate(_formats):
        if file_format.name == name:
            del _formats[number]
            return
    raise ConfigError(f"There is no file format {name}.")


def format_of(path: Path | str) -> FileFormat | None:
    """Format of a file by its suffix; None if no format has it."""
    name = Path(path).name.lower()
    return next((f for f in _formats if name.endswith(_all_suffixes(f))), None)


def has_dicom_name(path: Path | str) -> bool:
    """Whether a scan of this name is DICOM: only then a header names the modality and patient."""
    return format_of(path) in (None, DICOM)


def label_format_of(path: Path | str) -> FileFormat | None:
    """Format in which a label file of this name is written; None if no format writes it."""
    name = Path(path).name.lower()
    return next((f for f in _formats if name.endswith(f.written_suffixes)), None)


def stores_classes(path: Path | str) -> bool:
    """Return whether a label file of this name stores the names of its classes."""
    found = label_format_of(path)
    return found is not None and found.writes_classes


def scan_suffixes() -> tuple[str, ...]:
    """Suffixes of files that contain a whole scan; DICOM is recognised by its content."""
    return tuple(suffix for f in _formats if f.reader is not None for suffix in f.suffixes)


def all_suffixes() -> tuple[str, ...]:
    """Suffixes of all files of all formats, with the companions of headers."""
    return tuple(suffix for f in _formats for suffix in _all_suffixes(f))


def label_suffixes() -> tuple[str, ...]:
    """Suffixes of label files that can be written."""
    return tuple(suffix for f in _formats for suffix in f.written_suffixes)


def label_formats() -> dict[str, str]:
    """Name of each format of label files, by its preferred suffix."""
    return {f.written_suffixes[0]: f.label_name or f.name for f in _formats if f.written_suffixes}


def dialog_filter(title: str) -> str:
    """Filter of a file dialog of Qt for scans and label maps, then for all files."""
    patterns = " ".join(f"*{suffix}" for suffix in all_suffixes())
    return f"{title} ({patterns});;All files (*)"


def _all_suffixes(file_format: FileFormat) -> tuple[str, ...]:
    return (*file_format.suffixes, *file_format.companions)
