"""Labels to compare: opened, on one grid, and with the values of their classes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

import numpy as np

from napari_sslseg.core.common.errors import DataError, GeometryError, check_type
from napari_sslseg.core.common.sizes import format_size
from napari_sslseg.core.scans.classes.renumber import renumber_array
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.formats.labels.checks import are_whole
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.matching.other_patient import warn_about_other_patient
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import HasLabels, Volume

Labels = Volume | HasLabels | np.ndarray | str | Path | tuple[Path, ...]
"""Labels to compare: a label volume, a prediction, an array, a file, or files of one structure."""


def are_files(labels: Labels) -> TypeGuard[str | Path | tuple[Path, ...]]:
    """Whether labels are not loaded yet."""
    return isinstance(labels, str | Path | tuple)


def open_both(
    prediction: Labels, truth: Labels, scan: Series | None = None
) -> tuple[Labels, Labels]:
    """Load labels that are files, and turn the truth onto the grid of the prediction.

    Parameters
    ----------
    prediction, truth : Volume, Prediction, ndarray or path-like
        The labels.
    scan : Series, optional
        Their scan. Without it, labels are loaded on the grid of the other ones.

    Raises
    ------
    GeometryError
        If they have different grids.
    """
    loaded: dict[str, Labels] = {}
    both = {"prediction": prediction, "truth": truth}
    # DICOM labels have no grid of their own, so the other one is loaded first.
    for role in sorted(both, key=lambda role: _is_dicom(both[role])):
        labels = both[role]
        if are_files(labels):
            refuse_folder(labels, role)
            other = next(iter(loaded.values()), None)
            grid = other if isinstance(other, Volume) else getattr(other, "volume", None)
            labels = load_labels(labels, like=scan or grid)
        loaded[role] = labels
    return loaded["prediction"], _on_grid(loaded["truth"], loaded["prediction"])


def warn_about_truth_of_other(prediction: Labels, truth: Labels) -> None:
    """Warn if the names of a prediction and its truth are of different patients."""
    if isinstance(prediction, Path | str):
        path: Path | None = Path(prediction)
        assert path is not None
        name = subject = scan_name(path)
    elif isinstance(prediction, tuple | np.ndarray):
        return
    else:
        scan = prediction if isinstance(prediction, Volume) else prediction.volume
        name, subject, path = scan.name, scan.subject, scan.path
    files = getattr(truth, "path", truth)
    if isinstance(files, str | Path):
        files = (Path(files),)
    if isinstance(files, tuple):
        warn_about_other_patient(files, name, path, subject)


def refuse_folder(labels: Labels, role: str) -> None:
    """Refuse a folder of label files where those of one scan are compared."""
    if isinstance(labels, str | Path) and Path(labels).is_dir() and not is_dicom(Path(labels)):
        raise DataError(
            f"The {role} {labels} is a folder; choose a label file in it, or compare all files of "
            "two folders with core.evaluate_folders(predictions, truth)."
        )


def _on_grid(truth: Labels, prediction: Labels) -> Labels:
    predicted, prediction_scan = label_values(prediction, "prediction")
    true, truth_scan = label_values(truth, "truth")
    moved: np.ndarray | None = true
    if prediction_scan and truth_scan:
        moved = truth_scan.geometry.onto(true, prediction_scan.geometry)
        if moved is not None:
            truth = replace(truth_scan, data=moved, geometry=prediction_scan.geometry)
    if predicted.shape != (true if moved is None else moved).shape:
        raise GeometryError(
            f"The prediction has shape {format_size(predicted.shape)} but the truth "
            f"{format_size(true.shape)}, both in the "
            "display grid; compare labels of the same scan, or resample one onto the other."
        )
    if moved is None:
        assert prediction_scan is not None
        assert truth_scan is not None
        raise GeometryError(
            f"The prediction {prediction_scan.name} has another grid than the truth "
            f"{truth_scan.name}: "
            f"{prediction_scan.geometry.difference(truth_scan.geometry)}; compare labels of the "
            "same scan, or resample one onto the other."
        )
    return truth


def _is_dicom(labels: Labels) -> bool:
    return isinstance(labels, str | Path) and is_dicom(Path(labels))


def label_values(labels: Labels, role: str) -> tuple[np.ndarray, Volume | None]:
    """Return the values of loaded labels, and the volume that gives their grid, if any.

    Raises
    ------
    DataError
        If the values are not whole numbers.
    """
    assert not isinstance(labels, str | Path | tuple)
    if isinstance(labels, Volume):
        values, scan = labels.data, labels
    elif isinstance(labels, np.ndarray):
        values, scan = labels, None
    else:
        if not (hasattr(labels, "labels") and hasattr(labels, "volume")):
            check_type(
                labels, (), f"The {role}", "a label file, an array, a Volume or a Prediction"
            )
        values, scan = labels.labels, labels.volume
    if not are_whole(values):
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
