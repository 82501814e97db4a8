"""Open scans and label maps in napari: files, DICOM series and folders of them."""

import os
import time
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path

from napari_sslseg.core.common.errors import SslsegError, VolumeError
from napari_sslseg.core.scans.find import is_slice, list_series, whole_series
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.formats.registry import DICOM, format_of
from napari_sslseg.core.scans.labels import read_segment_names
from napari_sslseg.core.scans.matching.label_guess import LABEL_MODALITIES, looks_like_labels
from napari_sslseg.core.scans.names import volume_files
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import load_volume
from napari_sslseg.gui.napari_io.dicom_labels import dicom_labels_layer, dicom_scans
from napari_sslseg.gui.viewer.layers import LayerData, labels_layer, volume_layer
from napari_sslseg.gui.viewer.napari_window import (
    REPEAT_SECONDS,
    collected_scan_warnings,
    current_viewer,
    notify,
)

Layers = list[LayerData] | list[tuple[None]]

NOTHING: list[tuple[None]] = [(None,)]
"""Tells napari that reading succeeded although there is no layer to add."""

# A time series may have thousands of volumes, too many layers for the window.
MAX_FRAMES = 20
MAX_SENTENCES = 5
# Number of files to open before a folder is considered to have no scans.
MAX_OPENED = 1000

# Time at which a file was last refused. The other slices of its series, dropped together with it,
# follow at once and need not be sorted and refused again.
_refused: dict[Path, float] = {}


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], Layers] | None:
    """Entry point of napari: return the reader, or None if no path is a scan.

    Parameters
    ----------
    path : str or list of str
        A file or folder, or several to open together.
    """
    return read if any(_is_ours(item) for item in _paths(path)) else None


def read(path: str | list[str]) -> Layers:
    """Return a layer for each volume in files and folders.

    Files that cannot be opened are reported in a notification; the others are opened.

    Raises
    ------
    SslsegError
        If nothing can be opened and there is no window for notifications.
    """
    paths = _paths(path)
    found, errors = _find_series(paths)
    layers: list[LayerData] = []
    # Labels come after their scans, and on top of them.
    for series in sorted(_limit_frames(found), key=_is_dicom_labels):
        try:
            if _is_dicom_labels(series):
                layers.append(dicom_labels_layer(series, dicom_scans(_open_layers() + layers)))
            else:
                layers.append(_layer(series))
        except SslsegError as error:
            errors.append((error, series.is_scan or _is_dicom_labels(series)))
            # Not the file itself: it may be opened again at once, after its scan.
            _refused.update(dict.fromkeys(set(series.files).difference(paths), time.monotonic()))
    _report_errors(errors, alone=not layers)
    return sorted(layers, key=lambda layer: layer[2] == "labels") or NOTHING


Errors = list[tuple[SslsegError, bool]]
"""Errors, each with whether it is about a scan, and not about a localizer or a report."""


def _paths(path: str | list[str]) -> list[Path]:
    return [Path(item).absolute() for item in ([path] if isinstance(path, str) else path)]


def _find_series(paths: Iterable[Path]) -> tuple[list[Series], Errors]:
    found: list[Series] = []
    errors: Errors = []
    slices: list[Path] = []
    for path in paths:
        if is_slice(path):
            slices.append(path)
            continue
        try:
            found += list_series([_with_header(path)])
        except SslsegError as error:
            errors.append((error, True))
    try:
        found += _series_of(slices)
    except SslsegError as error:  # for example if the packages for DICOM are missing
        errors.append((error, True))
    return found, errors


def _with_header(path: Path) -> Path:
    """Return the header of a pair of header and image, whichever was dropped."""
    for values, header in ((".img.gz", ".hdr.gz"), (".img", ".hdr")):
        if path.name.lower().endswith(values):
            other = path.with_name(path.name[: -len(values)] + header)
            return other if other.is_file() else path
    return path


def _series_of(slices: list[Path]) -> list[Series]:
    """Return the whole series of DICOM files, without files that were just opened or refused."""
    now = time.monotonic()
    slices = [
        file
        for file in slices
        if now - _refused.get(file, -inf) > REPEAT_SECONDS and not _is_open_already(file)
    ]
    return whole_series(slices)


def _is_open_already(file: Path) -> bool:
    """Whether a layer already shows the series of a file; if so, select that layer.

    napari passes files that are dropped together one by one, and the first file of a series opens
    the whole series.
    """
    viewer = current_viewer()
    for layer in viewer.layers if viewer is not None else ():
        if file in layer.metadata.get("files", ()):
            viewer.layers.selection.active = layer
            viewer.status = f"{layer.name} is already open"
            return True
    return False


def _open_layers() -> list[LayerData]:
    viewer = current_viewer()
    return [layer.as_layer_data_tuple() for layer in viewer.layers] if viewer is not None else []


def _is_dicom_labels(series: Series) -> bool:
    return series.modality in LABEL_MODALITIES


def _limit_frames(found: list[Series]) -> list[Series]:
    kept = []
    for series in found:
        frames = 1 if series.image is None else series.image.frames
        if series.frame < MAX_FRAMES:
            kept.append(series)
        elif series.frame == MAX_FRAMES:
            notify(
                f"{series.path} contains {frames} volumes; only the first {MAX_FRAMES} are shown. "
                "Split the file to see the others.",
                "warning",
            )
    return kept


def _class_names(series: Series) -> dict[int, str]:
    """Names of the structures; without them if a list beside the labels is damaged."""
    try:
        return read_segment_names(series.path)
    except SslsegError as error:
        notify(str(error), "warning")
        return {}


def _layer(series: Series) -> LayerData:
    if series.problem is None and series.modality not in (None, "MR", "CT"):
        raise VolumeError(
            f"{series.name} in {series.path} is {series.modality}, neither MR nor CT; open it in "
            "another viewer."
        )
    with collected_scan_warnings() as warned:
        volume = load_volume(series)
    for sentence in warned:
        notify(sentence, "warning")
    # A DICOM header contains the modality; other formats are judged by their values.
    if series.modality is None and looks_like_labels(volume):
        return labels_layer(volume, _class_names(series), files=series.files)
    if volume.geometry.is_oblique:
        notify(
            # A notification shows only its beginning until it is expanded.
            f"Oblique by {volume.geometry.obliquity:.2g} degrees and shown along its own axes: "
            f"{volume.name}; labels are saved at the right position in the patient.",
            "info",
        )
    return volume_layer(volume, series.files)


def _report_errors(errors: Errors, *, alone: bool) -> None:
    """Report errors; those of files that are no scans only if nothing else was opened."""
    scans = [error for error, is_scan in errors if is_scan]
    shown = scans or ([error for error, _ in errors] if alone else [])
    if alone and shown and current_viewer() is None:
        raise shown[0]
    for error in shown[:MAX_SENTENCES]:
        notify(str(error), "error")
    if len(shown) > MAX_SENTENCES:
        notify(f"{len(shown) - MAX_SENTENCES} more could not be opened.", "error")


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return _contains_scans(path)
    return format_of(path) not in (None, DICOM) or is_dicom(path)


def _contains_scans(folder: Path) -> bool:
    """Whether a folder contains a scan; quick, because napari asks for every folder."""
    if volume_files(folder) or volume_files(folder / "images"):
        return True
    opened = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names.sort()
        if any(name.lower().endswith(DICOM.suffixes) for name in names):
            return True
        for name in names:
            # A suffix with letters, such as .png, belongs to another file type.
            if name.startswith(".") or any(char.isalpha() for char in Path(name).suffix):
                continue
            opened += 1
            if opened > MAX_OPENED:
                return False
            if is_dicom(Path(parent, name)):
                return True
    return False
