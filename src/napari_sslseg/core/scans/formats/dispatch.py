"""Open a file with the reader of its format, and recognise DICOM by content."""

from pathlib import Path

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.foreign import RENAMED, ForeignFormat, recognise
from napari_sslseg.core.scans.formats.image_file import ImageFile
from napari_sslseg.core.scans.formats.registry import DICOM, NIFTI, FileFormat, format_of

# Instance UID of the image (0008,0018); a file begins with it or an earlier element.
_LAST_EARLY_ELEMENT = 0x18


def open_image(path: Path) -> ImageFile:
    """Open a file that contains a whole scan by its suffix, or as NIfTI for an unknown suffix.

    Raises
    ------
    VolumeError
        If the file cannot be read; if its content is of another format, it says of which.
    """
    found = format_of(path)
    if found is None or found.reader is None:
        found = NIFTI
    try:
        return found.open(path)
    except VolumeError as error:
        if not path.is_file() or (other := recognise(path) or _renamed(path, found)) is None:
            raise
        raise VolumeError(f"{path} is {other.name}; {other.advice}.") from error


def _renamed(path: Path, read_as: FileFormat) -> ForeignFormat | None:
    """Return the format of a file that is read, but has the suffix of another format."""
    other = recognise(path, RENAMED)
    return other if other is not None and f" {read_as.name} " not in other.name else None


def is_dicom(path: Path) -> bool:
    """Whether to read a file as DICOM, judged by its content, or by a suffix of DICOM.

    The magic bytes ``DICM`` decide, whatever the suffix: some scanners export ``.img`` files. Files
    of old scanners lack them; such files have no suffix, or end in a number, as those named by a
    UID, and begin with a short element of group 8 or 2.
    """
    if not path.is_file():
        return False
    found = format_of(path)
    if found is DICOM:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    if start[128:] == b"DICM":
        return True
    group, length = start[:4], start[4:8]
    name = path.suffix[1:]
    old = group[:2] in (b"\x08\x00", b"\x02\x00") and group[3:] == b"\x00"
    old = old and ("." not in path.name or (name.isdecimal() and group[2] <= _LAST_EARLY_ELEMENT))
    short = length[2:] == b"\x00\x00" or (length[:2].isalpha() and length[:2].isupper())
    return found is None and old and len(length) == 4 and short
