"""Find the label files of a folder, and tell them from scans that lie beside them."""

import os
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path

from napari_sslseg.core.common.errors import DataError, ScanWarning
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.formats.registry import scan_suffixes
from napari_sslseg.core.scans.matching.label_guess import LABEL_MODALITIES, has_label_values
from napari_sslseg.core.scans.matching.label_names import is_named_as_labels
from napari_sslseg.core.scans.names import files_below, is_system_file, volume_files
from napari_sslseg.core.scans.series import Series


def find_label_files(path: Path, scans: Collection[Path] = ()) -> list[Path]:
    """Return the files that may be labels in a folder, whatever their names.

    These are volume files directly in the folder, or in its subfolders if it has none itself, and
    DICOM segmentations and structure sets at any depth. Other DICOM files are no labels.

    Parameters
    ----------
    path : Path
        A label file, or a folder.
    scans : collection of Path
        Absolute paths of files that are known to be scans, which are left out.

    Raises
    ------
    DataError
        If the path does not exist, or the folder has no volume file and no DICOM file.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path.")
    if not path.is_dir():
        return [path]
    suffixes = scan_suffixes()
    found, objects = volume_files(path) or files_below(path), _dicom_files(path)
    if not found and not objects:
        raise DataError(f"The folder {path} holds no labels; put label files there.")
    left = [file for file in found if file.absolute() not in scans]
    if found and not left:
        left = [file for file in files_below(path, suffixes) if file.absolute() not in scans]
    volumes = [file for file in left if not is_dicom(file)]
    objects = [file for file in objects if file.absolute() not in scans]
    return sorted({*volumes, *_label_objects(objects)})


def scans_among_labels(folder: Path) -> list[Series]:
    """Return the scans that lie among the labels of a folder.

    These are DICOM series, and volume files without a name of labels beside others that have one,
    if their values are not those of a label map.

    Parameters
    ----------
    folder : Path
        The folder; a file has none.
    """
    if not folder.is_dir():
        return []
    try:
        series = [item for item in list_series(folder) if item.is_scan and item.problem is None]
    except DataError:  # All files have names of labels.
        return []
    dicom = [item for item in series if is_dicom(item.files[0])]
    named = [item for item in series if is_named_as_labels(item.path, folder)]
    volumes = [item for item in series if item not in dicom and item not in named]
    files = find_label_files(folder, {file.absolute() for s in volumes for file in s.files})
    if not any(is_named_as_labels(file, folder) or is_dicom(file) for file in files):
        return dicom
    return [*dicom, *(item for item in volumes if not has_label_values(item.opened().values()))]


def _label_objects(files: Iterable[Path]) -> list[Path]:
    """Return the DICOM segmentations and structure sets among DICOM files."""
    from napari_sslseg.core.scans.formats.dicom.headers import read_header

    found, problems = [], []
    for file in files:
        header = read_header(file)
        if header.text("Modality") in LABEL_MODALITIES:
            found.append(file)
        elif header.problem and "SOPClassUID" not in header.dataset:
            problems.append(header.problem)
    if problems:
        warnings.warn(
            f"{len(problems)} DICOM files cannot be read, so that nobody knows whether they are "
            f"labels; they are left out: {problems[0]}",
            ScanWarning,
            stacklevel=4,
        )
    return found


def _dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files at any depth, by their first bytes, as some have no suffix."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_system_file(Path(parent, name))]
        files = (Path(parent, name) for name in names)
        found += [file for file in files if not is_system_file(file) and is_dicom(file)]
    return sorted(found)
