"""Save labels layers from napari, on the grid of their scan."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.project.record import UNKNOWN_NAME, UNKNOWN_VALUE
from napari_sslseg.core.scans.formats.registry import label_suffixes
from napari_sslseg.core.scans.labels import save_labels
from napari_sslseg.core.scans.replacement import refuse_to_replace_scan
from napari_sslseg.gui.napari_io.scan_matching import find_scan_of, scan_files
from napari_sslseg.gui.viewer.napari_window import collected_scan_warnings, current_viewer, notify

DICOM_SEG = ".dcm"


def write_nifti(path: str, data: np.ndarray, settings: Mapping[str, Any]) -> list[str]:
    """Write a labels layer as NIfTI."""
    return _write(path, data, settings, ".nii.gz")


def write_nrrd(path: str, data: np.ndarray, settings: Mapping[str, Any]) -> list[str]:
    """Write a labels layer as NRRD."""
    return _write(path, data, settings, ".nrrd")


def write_metaimage(path: str, data: np.ndarray, settings: Mapping[str, Any]) -> list[str]:
    """Write a labels layer as MetaImage."""
    return _write(path, data, settings, ".mha")


def write_dicom_seg(path: str, data: np.ndarray, settings: Mapping[str, Any]) -> list[str]:
    """Write a labels layer as DICOM SEG that refers to the series of its scan."""
    return _write(path, data, settings, DICOM_SEG)


def class_names(settings: Mapping[str, Any]) -> dict[int, str]:
    """Return the names of the labels from the features table of a layer, if it has one."""
    features = settings.get("features")
    if features is None or "index" not in features or "class" not in features:
        return {}
    pairs = zip(features["index"], features["class"], strict=True)
    return {
        int(index): str(name).strip()
        for index, name in pairs
        # Empty cells of the table are NaN.
        if index == index
        and name == name
        and int(index) > 0
        and str(name).strip()
        # In the labels of a project, which is no structure.
        and (int(index), str(name)) != (UNKNOWN_VALUE, UNKNOWN_NAME)
    }


def _write(path: str, data: np.ndarray, settings: Mapping[str, Any], suffix: str) -> list[str]:
    """Write a layer in the format of the file name, or else of the chosen writer."""
    typed = Path(path).absolute()
    target = typed
    if not typed.name.lower().endswith(label_suffixes()):
        target = typed.with_name(typed.name + suffix)
        if target.exists():  # the save dialog asked only about the typed name
            raise StorageError(
                f"{target} already exists; choose another name, or type the full name to replace "
                "the file."
            )
    viewer = current_viewer()
    layers = list(viewer.layers) if viewer is not None else []
    as_seg = target.name.lower().endswith(DICOM_SEG)
    scan = find_scan_of(data, settings, layers, one_series=as_seg)
    _refuse_to_replace_scan(target, scan_files(layers))
    names = class_names(settings)
    if as_seg and UNKNOWN_VALUE not in names and (count := np.count_nonzero(data == UNKNOWN_VALUE)):
        data = np.where(data == UNKNOWN_VALUE, 0, data)
        notify(
            f"{count:,} voxels with the value {UNKNOWN_VALUE}, which marks unknown voxels, are "
            f"background in {target.name}, since DICOM has no value for them; save the labels as "
            "NIfTI to keep them, or give the value a name.",
            "warning",
        )
    with collected_scan_warnings() as warned:
        # A layer that a user can edit counts as drawn by hand.
        # napari has asked whether to replace the file.
        written = save_labels(
            data, target, like=scan, classes=names, algorithm="MANUAL", overwrite=True
        )
    for sentence in warned:
        notify(sentence, "warning")
    return [str(written)]


def _refuse_to_replace_scan(target: Path, open_scans: list[Path]) -> None:
    """Raise StorageError if the target is a scan, open or not. A label map may be replaced."""
    if target.exists() and any(target.resolve() == file.resolve() for file in open_scans):
        raise StorageError(
            f"{target} is a scan and must not be replaced by labels; choose another name."
        )
    refuse_to_replace_scan(target)
