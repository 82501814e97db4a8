"""Labels to compare: opened, on one grid, and with the values of their classes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.scans.classes.renumber import renumber_array
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.volume import HasLabels, Volume

Labels = Volume | HasLabels | np.ndarray | str | Path
"""Labels to compare: a label volume, a prediction, an array, or a file."""


def open_both(prediction: Labels, truth: Labels) -> tuple[Labels, Labels]:
    """Load labels that are files, each on the grid of the other one."""
    loaded: dict[str, Labels] = {}
    both = {"prediction": prediction, "truth": truth}
    # DICOM labels have no grid of their own, so the other one is loaded first.
    for role in sorted(both, key=lambda role: _is_dicom(both[role])):
        labels = both[role]
        if isinstance(labels, str | Path):
            other = next(iter(loaded.values()), None)
            scan = other if isinstance(other, Volume) else getattr(other, "volume", None)
            labels = load_labels(labels, like=scan)
        loaded[role] = labels
    return loaded["prediction"], loaded["truth"]


def _is_dicom(labels: Labels) -> bool:
    return isinstance(labels, str | Path) and is_dicom(Path(labels))


def label_values(labels: Labels, role: str) -> tuple[np.ndarray, Volume | None]:
    """Return the values of loaded labels, and the volume that gives their grid, if any.

    Raises
    ------
    DataError
        If the values are not whole numbers.
    """
    assert not isinstance(labels, str | Path)
    if isinstance(labels, Volume):
        values, scan = labels.data, labels
    elif isinstance(labels, np.ndarray):
        values, scan = labels, None
    else:
        values, scan = labels.labels, labels.volume
    # NaN is refused here as well, since it is not equal to itself.
    if values.dtype.kind not in "biu" and not np.array_equal(values, np.round(values)):
        raise DataError(
            f"The {role}{f' {scan.name}' if scan else ''} contains values that are not whole "
            "numbers; pass labels, not a scan or probabilities."
        )
    return values, scan


def renumbered(labels: Labels, values: Mapping[int, int] | None, role: str) -> Labels:
    """Labels with the values of their classes."""
    if values is None:
        return labels
    data, scan = label_values(labels, role)
    data = renumber_array(data, values, f"the {role}{f' {scan.name}' if scan else ''}")
    return data if scan is None else replace(scan, data=data)
