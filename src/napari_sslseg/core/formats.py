"""Which reader and which writer a file belongs to."""

from pathlib import Path

import numpy as np

from napari_sslseg.core.geometry import Geometry
from napari_sslseg.core.nifti import NiftiFile, write_nifti
from napari_sslseg.core.reading import ImageFile
from napari_sslseg.core.scan_files import DICOM_SUFFIXES, ITK_SUFFIXES, NIFTI_SUFFIXES, SUFFIXES

LABEL_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Suffixes of label files; DICOM SEG (.dcm) needs a DICOM series under the labels."""


def open_image(path: Path) -> ImageFile:
    """Open a file that holds a whole scan; by its suffix, and NIfTI where that says nothing."""
    if path.name.lower().endswith(ITK_SUFFIXES):
        from napari_sslseg.core.itk import ItkFile

        return ItkFile(path)
    return NiftiFile(path)


def is_dicom(path: Path) -> bool:
    """Whether to read a file as DICOM: by its mark, or else by its suffix."""
    name = path.name.lower()
    if name.endswith((*SUFFIXES, *NIFTI_SUFFIXES)) or not path.is_file():
        return False
    if name.endswith(DICOM_SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def write_labels(source: np.ndarray, geometry: Geometry, header: object, path: Path) -> None:
    """Write labels of the source grid in the format of the suffix."""
    if path.name.lower().endswith(ITK_SUFFIXES):
        from napari_sslseg.core.itk import write_itk

        write_itk(source, geometry, header, path)
    else:
        write_nifti(source, geometry, header, path)
