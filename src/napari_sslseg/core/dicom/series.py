"""DICOM files sorted into series."""

from collections.abc import Sequence
from pathlib import Path

from napari_sslseg.core.series import Series


def dicom_series(files: Sequence[Path]) -> list[Series]:
    """Series in these files."""
    raise NotImplementedError
