"""Which reader and which writer a file belongs to."""

from pathlib import Path

import numpy as np

from napari_sslseg.core.scans.formats.image_file import ImageFile
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.names import DICOM_SUFFIXES, ITK_SUFFIXES, NIFTI_SUFFIXES, SUFFIXES

LABEL_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Suffixes of label files; DICOM SEG (.dcm) needs a DICOM series under the labels."""


def open_image(path: Path) -> ImageFile:
    """Open a file that holds a whole scan; by its suffix, and NIfTI where that says nothing."""
    if path.name.lower().endswith(ITK_SUFFIXES):
        from napari_sslseg.core.scans.formats.itk import ItkFile

        return ItkFile(path)
    from napari_sslseg.core.scans.formats.nifti import NiftiFile

    return NiftiFile(path)


def is_dicom(path: Path) -> bool:
    """Whether to read a file as DICOM: by its mark, its suffix, or how an old file begins."""
    name = path.name.lower()
    if name.endswith((*SUFFIXES, *NIFTI_SUFFIXES)) or not path.is_file():
        return False
    if name.endswith(DICOM_SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    # Files of old scanners lack the mark, and begin with a short element of group 8 or 2.
    group, length = start[:4], start[4:8]
    old = group[:2] in (b"\x08\x00", b"\x02\x00") and group[3:] == b"\x00" and "." not in name
    short = length[2:] == b"\x00\x00" or (length[:2].isalpha() and length[:2].isupper())
    return start[128:] == b"DICM" or (old and len(length) == 4 and short)


def write_labels(source: np.ndarray, geometry: Geometry, header: object, path: Path) -> None:
    """Write labels of the source grid in the format of the suffix."""
    if path.name.lower().endswith(ITK_SUFFIXES):
        from napari_sslseg.core.scans.formats.itk import write_itk

        write_itk(source, geometry, header, path)
    else:
        from napari_sslseg.core.scans.formats.nifti import write_nifti

        write_nifti(source, geometry, header, path)
