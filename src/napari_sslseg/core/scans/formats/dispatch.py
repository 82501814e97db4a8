"""Open a file with the reader of its format, and recognise DICOM by content."""

from pathlib import Path

from napari_sslseg.core.scans.formats.image_file import ImageFile
from napari_sslseg.core.scans.formats.registry import DICOM, NIFTI, format_of


def open_image(path: Path) -> ImageFile:
    """Open a file that contains a whole scan by its suffix, or as NIfTI for an unknown suffix."""
    found = format_of(path)
    return (NIFTI if found is None or found.reader is None else found).open(path)


def is_dicom(path: Path) -> bool:
    """Whether to read a file as DICOM, judged by its suffix, its magic bytes or its first element.

    Files of old scanners lack the magic bytes ``DICM``. They have no suffix and begin with a short
    element of group 8 or 2.
    """
    found = format_of(path)
    if found not in (None, DICOM) or not path.is_file():
        return False
    if found is DICOM:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    group, length = start[:4], start[4:8]
    old = group[:2] in (b"\x08\x00", b"\x02\x00") and group[3:] == b"\x00" and "." not in path.name
    short = length[2:] == b"\x00\x00" or (length[:2].isalpha() and length[:2].isupper())
    return start[128:] == b"DICM" or (old and len(length) == 4 and short)
