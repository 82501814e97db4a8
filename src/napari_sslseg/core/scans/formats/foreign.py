"""Recognise files of formats that are not read, to say what they are and what to do."""

import zlib
from dataclasses import dataclass
from pathlib import Path

from napari_sslseg.core.scans.formats.registry import NIFTI, format_of
from napari_sslseg.core.scans.formats.stored_values import first_bytes

_UNPACK = "unpack it first"
_CONVERT = "convert it to NIfTI or NRRD with its voxel size, such as with 3D Slicer or ITK-SNAP"
_PICTURE = "choose the scan itself, since pictures give neither voxel size nor position"
_START = 512


@dataclass(frozen=True)
class ForeignFormat:
    """A file format that is recognised but not read.

    Parameters
    ----------
    name : str
        What a file is, with its article.
    advice : str
        What to do with it.
    marks : tuple of (int, bytes)
        Bytes at an offset; any of them is sufficient.
    suffixes : tuple of str
        Suffixes in lower case, for formats without marks, or with those of a container.
    is_scan : bool
        Whether a file is probably a scan, so that leaving it out needs a warning.
    """

    name: str
    advice: str
    marks: tuple[tuple[int, bytes], ...] = ()
    suffixes: tuple[str, ...] = ()
    is_scan: bool = False


# Suffixes are compared first, since containers such as ZIP and HDF5 hold many formats.
FORMATS = (
    ForeignFormat(
        "a Philips PAR/REC scan",
        "convert it to NIfTI, such as with dcm2niix or parrec2nii of nibabel",
        ((0, b"# === DATA DESCRIPTION FILE"),),
        (".par", ".rec"),
        is_scan=True,
    ),
    ForeignFormat(
        "a MINC scan",
        "convert it to NIfTI, such as with mnc2nii",
        ((0, b"CDF\x01"), (0, b"CDF\x02")),
        (".mnc", ".mnc2"),
        is_scan=True,
    ),
    ForeignFormat(
        "an AFNI dataset",
        "convert it to NIfTI, such as with 3dAFNItoNIFTI",
        (),
        (".head", ".brik", ".brik.gz", ".brik.bz2"),
        is_scan=True,
    ),
    ForeignFormat(
        "a FreeSurfer volume (MGH)",
        "convert it to NIfTI, such as with mri_convert",
        (),
        (".mgz", ".mgh", ".mgh.gz"),
        is_scan=True,
    ),
    ForeignFormat(
        "an ECAT scan",
        "convert it to NIfTI, such as with 3D Slicer or nibabel",
        ((0, b"MATRIX7"),),
        is_scan=True,
    ),
    ForeignFormat(
        "an Interfile scan", _CONVERT, ((0, b"!INTERFILE"), (0, b"!interfile")), is_scan=True
    ),
    ForeignFormat(
        "an MRtrix scan",
        "convert it to NIfTI, such as with mrconvert",
        ((0, b"mrtrix image"),),
        (".mif", ".mif.gz", ".mih"),
        is_scan=True,
    ),
    ForeignFormat("a VTK file", _CONVERT, ((0, b"# vtk DataFile"),), (".vti", ".vtk"), True),
    ForeignFormat(
        "a NumPy file",
        "save it as NIfTI with its affine, such as with nibabel",
        ((0, b"\x93NUMPY"),),
        (".npy", ".npz"),
    ),
    ForeignFormat(
        "a MATLAB file",
        "save its scan as NIfTI with its voxel size, such as with niftiwrite",
        ((0, b"MATLAB 5.0 MAT-file"), (0, b"MATLAB 7.3 MAT-file")),
        (".mat",),
    ),
    ForeignFormat(
        "an office document",
        "choose a scan",
        ((0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),),
        (".docx", ".xlsx", ".pptx", ".odt", ".ods"),
    ),
    ForeignFormat(
        "a TIFF image",
        f"{_CONVERT} (TIFF gives no position in the patient)",
        ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
        is_scan=True,
    ),
    ForeignFormat("a PNG picture", _PICTURE, ((0, b"\x89PNG\r\n\x1a\n"),)),
    ForeignFormat("a JPEG picture", _PICTURE, ((0, b"\xff\xd8\xff"),)),
    ForeignFormat("a JPEG 2000 picture", _PICTURE, ((4, b"jP  \r\n"),)),
    ForeignFormat("a GIF picture", _PICTURE, ((0, b"GIF8"),)),
    ForeignFormat("a BMP picture", _PICTURE, (), (".bmp",)),
    ForeignFormat("a WebP picture", _PICTURE, ((8, b"WEBP"),)),
    ForeignFormat(
        "a Windows shortcut and not the file itself",
        "copy the file that it points to",
        ((0, b"L\0\0\0\x01\x14\x02\0"),),
    ),
    ForeignFormat("a PDF document", "choose a scan", ((0, b"%PDF-"),)),
    ForeignFormat("a ZIP archive", _UNPACK, ((0, b"PK\x03\x04"), (0, b"PK\x05\x06"))),
    ForeignFormat("a 7-Zip archive", _UNPACK, ((0, b"7z\xbc\xaf\x27\x1c"),)),
    ForeignFormat("a RAR archive", _UNPACK, ((0, b"Rar!\x1a\x07"),)),
    ForeignFormat("a DICOM file that gzip compressed", _UNPACK, ((128, b"DICM"),), is_scan=True),
    ForeignFormat("a tar archive", _UNPACK, ((257, b"ustar"),)),
    ForeignFormat("a file that bzip2 compressed", _UNPACK, ((0, b"BZh"),)),
    ForeignFormat("a file that xz compressed", _UNPACK, ((0, b"\xfd7zXZ\0"),)),
    ForeignFormat("a file that Zstandard compressed", _UNPACK, ((0, b"\x28\xb5\x2f\xfd"),)),
    ForeignFormat("an HDF5 file", _CONVERT, ((0, b"\x89HDF\r\n\x1a\n"),)),
    ForeignFormat(
        "a Git LFS pointer and not the file itself",
        "fetch the file with git lfs pull",
        ((0, b"version https://git-lfs"),),
    ),
    ForeignFormat(
        "a web page",
        "download the file again, since a site often answers so if a login is missing",
        ((0, b"<!DOCTYPE html"), (0, b"<!doctype html"), (0, b"<html")),
    ),
)
# Formats that are read, in a file with a suffix of another one.
RENAMED = (
    ForeignFormat(
        "a DICOM file",
        "give it the suffix .dcm, or none (unpack it if gzip compressed it)",
        ((128, b"DICM"),),
    ),
    ForeignFormat("an NRRD file", "give it the suffix .nrrd", ((0, b"NRRD000"),)),
    ForeignFormat(
        "a MetaImage file",
        "give it the suffix .mha or .mhd",
        ((0, b"ObjectType = Image"), (0, b"NDims = ")),
    ),
    ForeignFormat(
        "a NIfTI file",
        "give it the suffix .nii or, if it is compressed, .nii.gz",
        ((344, b"n+1\0"), (4, b"n+2\0\r\n")),
    ),
)

UNKNOWN = ForeignFormat(
    "of an unknown format", "convert it to NIfTI or NRRD if it is a scan, or move it elsewhere"
)
LONE_VALUES = ForeignFormat(
    "a file of values whose header (.hdr) is missing", "copy the .hdr file too", is_scan=True
)
UNREADABLE = ForeignFormat(
    "a file that cannot be read", "check its permissions and the disk", is_scan=True
)
_HEADERS = (".par", ".head", ".mhd", ".nhdr")
"""Suffixes of headers whose values are in other files, usually of the same name."""
_VALUES = (".raw", ".zraw", ".raw.gz", ".raw.bz2")


def recognise(path: Path, formats: tuple[ForeignFormat, ...] = FORMATS) -> ForeignFormat | None:
    """Return the format of a file by its suffix or first bytes, also of bytes compressed by gzip.

    Parameters
    ----------
    path : Path
        The file.
    formats : tuple of ForeignFormat
        Formats to compare with.

    Returns
    -------
    ForeignFormat or None
        None if the file is of none of the formats, or cannot be read.
    """
    name = path.name.lower()
    for found in formats:
        if found.suffixes and name.endswith(found.suffixes):
            return found
    try:
        with path.open("rb") as file:
            start = file.read(_START)
        starts = [start]
        if start[:2] == b"\x1f\x8b":
            starts.append(first_bytes(path, _START))
    except (OSError, EOFError, zlib.error):
        return None
    for found in formats:
        for offset, mark in found.marks:
            if any(bytes_[offset : offset + len(mark)] == mark for bytes_ in starts):
                return found
    return None


def is_text(path: Path) -> bool:
    """Whether a file begins as text; notes and tables beside scans do."""
    with path.open("rb") as file:
        start = file.read(_START)
    return not any(byte < 9 or 13 < byte < 27 for byte in start)


def foreign_files(folder: Path) -> list[tuple[Path, ForeignFormat]]:
    """Find files directly in a folder that are of no format that is read, other than text.

    Files of values (.img), of which only the header is a scan, are found if the header is missing.

    Parameters
    ----------
    folder : Path
        The folder; hidden files are ignored.

    Returns
    -------
    list of (Path, ForeignFormat)
        Sorted by name, without the second file of a pair.
    """
    files = [f for f in sorted(folder.iterdir()) if format_of(f) is None or _is_values(f)]
    names = {file.name.lower() for file in folder.iterdir()}
    stems = {_stem(file) for file in folder.iterdir() if file.name.lower().endswith(_HEADERS)}
    found = []
    for file in files:
        name = file.name.lower()
        if file.name.startswith(".") or not file.is_file() or not file.stat().st_size:
            continue
        if not name.endswith(_HEADERS) and (
            _stem(file) in stems or (stems and name.endswith(_VALUES))
        ):
            continue
        kind = recognise(file)
        if kind is None and _is_values(file):
            header = name.removesuffix(".gz").removesuffix(".img") + ".hdr"
            kind = None if names & {header, f"{header}.gz"} else LONE_VALUES
        elif kind is None:
            try:
                kind = None if is_text(file) else UNKNOWN
            except OSError:
                kind = UNREADABLE
        if kind is not None:
            found.append((file, kind))
    return found


def _is_values(path: Path) -> bool:
    """Whether a file has a suffix of the values of a NIfTI pair."""
    return path.name.lower().endswith(NIFTI.companions)


def _stem(path: Path) -> str:
    """Return the part of a name that the files of a pair share."""
    return path.name.lower().partition(".")[0]
