"""Open scans and label maps in napari: files, DICOM series and folders of them."""

import os
import time
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path

from napari_sslseg.core.common.errors import SslsegError, VolumeError
from napari_sslseg.core.scans.find import is_slice, list_series, whole_series
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.label_guess import LABEL_MODALITIES, looks_like_labels
from napari_sslseg.core.scans.names import DICOM_SUFFIXES, NIFTI_SUFFIXES, SUFFIXES, volume_files
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import load_volume
from napari_sslseg.gui.napari_io.dicom_labels import dicom_labels_layer, dicom_scans
from napari_sslseg.gui.viewer.layers import LayerData, labels_layer, volume_layer
from napari_sslseg.gui.viewer.window import QUIET_SECONDS, current_viewer, scan_warnings, tell

Layers = list[LayerData] | list[tuple[None]]

NOTHING: list[tuple[None]] = [(None,)]
"""What tells napari that all is done though there is no layer to add."""

# A series in time of thousands of volumes would bury the window in layers.
MAX_FRAMES = 20
MAX_SENTENCES = 5
# Files that a look into a folder opens before it is taken for one without scans.
MAX_LOOKS = 1000

# When a file was last refused: the other slices of its series, dropped along with it, follow at
# once and need not be sorted and refused again each.
_refused: dict[Path, float] = {}


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], Layers] | None:
    """Entry point of napari: the reader, or None if nothing here is a scan.

    Parameters
    ----------
    path : str or list of str
        A file or folder, or several to be opened together.
    """
    return read if any(_is_ours(item) for item in _paths(path)) else None


def read(path: str | list[str]) -> Layers:
    """Layers of all volumes in files and folders, one each.

    What cannot be opened is told in a notification, and the rest opens.

    Raises
    ------
    SslsegError
        If nothing can be opened and there is no window to tell it in.
    """
    paths = _paths(path)
    found, errors = _find(paths)
    layers: list[LayerData] = []
    # Labels after the scans that they belong to, and on top of them.
    for series in sorted(_without_long_ones(found), key=_is_dicom_labels):
        try:
            if _is_dicom_labels(series):
                layers.append(dicom_labels_layer(series, dicom_scans(_open_layers() + layers)))
            else:
                layers.append(_layer(series))
        except SslsegError as error:
            errors.append((error, series.is_scan or _is_dicom_labels(series)))
            # Not the file itself: it may come again at once, after what it lacked.
            _refused.update(dict.fromkeys(set(series.files).difference(paths), time.monotonic()))
    _tell_errors(errors, alone=not layers)
    return sorted(layers, key=lambda layer: layer[2] == "labels") or NOTHING


Errors = list[tuple[SslsegError, bool]]
"""What went wrong, and whether with a scan rather than with a localizer, a report or so."""


def _paths(path: str | list[str]) -> list[Path]:
    return [Path(item).absolute() for item in ([path] if isinstance(path, str) else path)]


def _find(paths: Iterable[Path]) -> tuple[list[Series], Errors]:
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
    except SslsegError as error:  # such as that the packages for DICOM are missing
        errors.append((error, True))
    return found, errors


def _with_header(path: Path) -> Path:
    """The header of a pair of files, whichever of the two was dropped."""
    for values, header in ((".img.gz", ".hdr.gz"), (".img", ".hdr")):
        if path.name.lower().endswith(values):
            other = path.with_name(path.name[: -len(values)] + header)
            return other if other.is_file() else path
    return path


def _series_of(slices: list[Path]) -> list[Series]:
    """Whole series that DICOM files belong to, but for those that were just seen."""
    now = time.monotonic()
    slices = [
        file
        for file in slices
        if now - _refused.get(file, -inf) > QUIET_SECONDS and not _is_open_already(file)
    ]
    return whole_series(slices)


def _is_open_already(file: Path) -> bool:
    """Whether a layer of the window holds the series of a file; if so, select that layer.

    napari hands over the files that were dropped together one by one, and the first of a series
    opens all of it.
    """
    viewer = current_viewer()
    for layer in viewer.layers if viewer is not None else ():
        if file in layer.metadata.get("files", ()):
            viewer.layers.selection.active = layer
            viewer.status = f"{layer.name} is open already"
            return True
    return False


def _open_layers() -> list[LayerData]:
    viewer = current_viewer()
    return [layer.as_layer_data_tuple() for layer in viewer.layers] if viewer is not None else []


def _is_dicom_labels(series: Series) -> bool:
    return series.modality in LABEL_MODALITIES


def _without_long_ones(found: list[Series]) -> list[Series]:
    kept = []
    for series in found:
        frames = 1 if series.image is None else series.image.frames
        if series.frame < MAX_FRAMES:
            kept.append(series)
        elif series.frame == MAX_FRAMES:
            tell(
                f"{series.path} holds {frames} volumes, of which the first {MAX_FRAMES} are shown; "
                "split the file to see the others.",
                "warning",
            )
    return kept


def _layer(series: Series) -> LayerData:
    if series.problem is None and series.modality not in (None, "MR", "CT"):
        raise VolumeError(
            f"{series.name} in {series.path} is neither MR nor CT but {series.modality}; open it "
            "in a viewer for such images."
        )
    with scan_warnings() as warned:
        volume = load_volume(series)
    for sentence in warned:
        tell(sentence, "warning")
    # A DICOM header tells what its images are; of other files only the values do.
    if series.modality is None and looks_like_labels(volume):
        return labels_layer(volume, files=series.files)
    if volume.geometry.is_oblique:
        tell(
            # A notification shows its beginning only, until it is unfolded.
            f"Oblique by {volume.geometry.obliquity:.2g} degrees and shown along its own axes: "
            f"{volume.name}; labels are saved where they belong in the patient.",
            "info",
        )
    return volume_layer(volume, series.files)


def _tell_errors(errors: Errors, *, alone: bool) -> None:
    """Name what could not be opened; what is no scan only if there was nothing else."""
    scans = [error for error, is_scan in errors if is_scan]
    told = scans or ([error for error, _ in errors] if alone else [])
    if alone and told and current_viewer() is None:
        raise told[0]
    for error in told[:MAX_SENTENCES]:
        tell(str(error), "error")
    if len(told) > MAX_SENTENCES:
        tell(f"{len(told) - MAX_SENTENCES} more could not be opened.", "error")


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return _holds_scans(path)
    return path.name.lower().endswith((*SUFFIXES, *NIFTI_SUFFIXES)) or is_dicom(path)


def _holds_scans(folder: Path) -> bool:
    """Whether a look into a folder finds a scan; quick, since napari asks for every folder."""
    if volume_files(folder) or volume_files(folder / "images"):
        return True
    looks = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names.sort()
        if any(name.lower().endswith(DICOM_SUFFIXES) for name in names):
            return True
        for name in names:
            # A suffix with letters, such as .png, names another kind of file.
            if name.startswith(".") or any(char.isalpha() for char in Path(name).suffix):
                continue
            looks += 1
            if looks > MAX_LOOKS:
                return False
            if is_dicom(Path(parent, name)):
                return True
    return False
