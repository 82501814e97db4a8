"""Protect scans from labels that are written with the same name."""

from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import SslsegError, StorageError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.formats.registry import format_of
from napari_sslseg.core.scans.matching.label_guess import (
    LABEL_MODALITIES,
    MAX_LABELS,
    looks_like_labels,
)
from napari_sslseg.core.scans.volume import Volume, load_volume


def refuse_to_replace_scan(path: Path) -> None:
    """Refuse to replace a scan by labels; a label map may be replaced.

    Parameters
    ----------
    path : Path
        The file to write. If it exists, its values are read, or of a DICOM file the header.

    Raises
    ------
    StorageError
        If it is a scan, or its values cannot be read, so that it may be one.
    """
    if path.exists() and may_be_scan(path.resolve()):
        raise StorageError(
            f"{path} is a scan, or its values cannot be read, and it is not replaced by labels; "
            "choose another name."
        )


def may_be_scan(path: Path) -> bool:
    """Whether a file is a scan, or may be one since its values cannot be read."""
    try:
        found = list_series([path])
        if is_dicom(path):  # Also a single slice that is no volume.
            return any(series.modality not in LABEL_MODALITIES for series in found)
        file_format = format_of(path)
        if not found or any(series.problem is not None for series in found):
            # Such as overlapping structures on a fourth axis.
            return file_format is None or not file_format.read_segments(path)
        marked = file_format is not None and file_format.is_marked(path)
        return any(_has_values_of_scan(load_volume(series), marked=marked) for series in found)
    except SslsegError:
        return True  # Such as a scan with NaN, or a damaged file.


def _has_values_of_scan(volume: Volume, *, marked: bool) -> bool:
    """Whether a volume is no label map.

    The labels of a poor network look like a noisy scan of few values, so that only the mark of a
    label file tells them apart. A scan may have the mark too if it was saved with the header of
    labels.
    """
    if looks_like_labels(volume):
        return False
    values = np.unique(volume.data)
    whole = values[0] >= 0 and bool((values == np.round(values)).all())
    return not (marked and whole and len(values) <= MAX_LABELS)
