"""Open a file with the reader of its format, and recognise DICOM by content."""

from pathlib import Path

from napari_sslseg.core.scans.formats.image_file import ImageFile
from napari_sslseg.core.scans.formats.registry import DICOM, NIFTI, format_of


def open_image(path: Path) -> ImageFile:
    """Open a file that contains a whole scan by its suffix, or as NIfTI for an unknown suffix."""
    found = format_of(path)
    return (NIFTI if found is None or found.reader is None else found).open(path)


def is_dicom(path: Path) -> bool:
    """Whether to read a file as DICOM, judged by its content, or by a suffix of DICOM.

    The magic bytes ``DICM`` decide, whatever the suffix: some scanners export ``.img`` files. Files
    of old scanners lack them; such files have no suffix and begin with a short element of group 8
    or 2.
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
    old = group[:2] in (b"\x08\x00", b"\x02\x00") and group[3:] == b"\x00" and "." not in path.name
    short = length[2:] == b"\x00\x00" or (length[:2].isalpha() and length[:2].isupper())
    return found is None and old and len(length) == 4 and short
