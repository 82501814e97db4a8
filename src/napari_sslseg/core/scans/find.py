"""List the volumes in files and folders, by their headers alone."""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from napari_sslseg.core.common.errors import DataError, ScanWarning, SslsegError, VolumeError
from napari_sslseg.core.scans.formats.dispatch import is_dicom, open_image
from napari_sslseg.core.scans.formats.registry import scan_suffixes
from napari_sslseg.core.scans.matching.subjects import guess_subjects
from napari_sslseg.core.scans.names import scan_name, unique_by_name, volume_files
from napari_sslseg.core.scans.series import Series, Source


def list_series(paths: str | Path | Iterable[str | Path]) -> list[Series]:
    """List all volumes in files and folders by their headers, and why other files are unusable.

    Parameters
    ----------
    paths : path-like or several
        Scan files, DICOM files, DICOMDIR files, and folders. In a folder, volume files directly in
        it are listed, and DICOM files in it and in its subfolders.

    Returns
    -------
    list of Series
        Sorted by name. A file or DICOM series of several volumes, such as a time series, gives one
        item per volume. Items with a ``problem`` cannot be loaded.

    Raises
    ------
    DataError
        If a path does not exist, or a folder holds no scan at all.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    found: list[Series] = []
    dicom: list[Path] = []
    seen: set[str] = set()
    for path in map(Path, paths):
        any_file = False
        for file, as_dicom in _files(path):
            any_file = True
            # realpath, unlike resolve, takes a link that leads to itself.
            if (real := os.path.realpath(file)) in seen:
                continue
            seen.add(real)
            if as_dicom:
                dicom.append(file)
            else:
                found += _file_series(file)
        if not any_file:
            _refuse_empty(path)
    guess = guess_subjects(series.path for series in found)
    found = [
        replace(series, subject=subject, subject_guess=subject)
        for series, subject in zip(found, guess.subjects, strict=True)
    ]
    if dicom:
        # All at once: the files of one series may have been given one by one.
        found += _dicom_series(dicom)
    return found


def _dicom_series(files: list[Path]) -> list[Series]:
    try:
        from napari_sslseg.core.scans.formats.dicom.series import dicom_series
    except ModuleNotFoundError as error:
        raise VolumeError(
            f"{files[0]} is a DICOM file, and the package {error.name} for them is not installed; "
            'run: pip install "napari-sslseg[dicom]"'
        ) from error
    return dicom_series(files)


def _files(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield a file, or the volume files directly in a folder and DICOM files at any depth.

    Each file is paired with whether it is DICOM, which requires reading its first bytes.
    """
    if not path.exists():
        if path.is_symlink():
            raise DataError(f"{path} is a broken link; restore the file that it points to.")
        raise DataError(f"{path} does not exist; check the path.")
    if not path.is_dir():
        yield path, is_dicom(path)
        return
    for file in volume_files(path):
        yield file, is_dicom(file)
    walked: set[str] = set()
    for parent, folders, names in os.walk(path, followlinks=True):
        # A link to a parent folder would be followed for ever.
        here = {n: os.path.realpath(Path(parent, n)) for n in folders if n[0] != "."}
        folders[:] = sorted(name for name, real in here.items() if real not in walked)
        walked.update(here.values())
        for name in sorted(names):
            if not name.startswith(".") and is_dicom(file := Path(parent, name)):
                yield file, True


def _refuse_empty(folder: Path) -> None:
    if volume_files(folder / "images"):
        raise DataError(f"The folder {folder} holds no scans itself; use {folder / 'images'}.")
    if below := files_below(folder):
        raise DataError(
            f"The folder {folder} holds no scans itself, but its subfolders hold {len(below)} "
            f"volume files; choose a subfolder, such as {below[0].parent}."
        )
    raise DataError(
        f"The folder {folder} holds no scans; put DICOM files there, or files ending in "
        f"{', '.join(scan_suffixes())}."
    )


def files_below(folder: Path) -> list[Path]:
    """Return the volume files in subfolders, which :func:`list_series` does not list."""
    suffixes = scan_suffixes()
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if Path(parent) != folder and name.lower().endswith(suffixes) and name[0] != "."
    )


def _file_series(path: Path) -> list[Series]:
    """Return the volumes in one file; an error on opening is stored as ``problem``.

    The subjects are set later, from the names of all files.
    """
    name = scan_name(path)
    try:
        image = open_image(path)
    except SslsegError as error:
        return [Series(name, name, path, (path,), problem=str(error))]
    if image.frames == 1:
        return [Series(name, name, path, (path,), image=image)]
    return [
        Series(f"{name}_{frame:03d}", name, path, (path,), image=image, frame=frame)
        for frame in range(image.frames)
    ]


def is_slice(path: Path) -> bool:
    """Return whether a file may be one of the many files of a DICOM series."""
    return is_dicom(path) and not path.name.upper().startswith("DICOMDIR")


def whole_series(paths: str | Path | Iterable[str | Path]) -> list[Series]:
    """List volumes like :func:`list_series`, completing the series of each DICOM file.

    Parameters
    ----------
    paths : path-like or several
        Files and folders. The other files of a DICOM series are searched in the same folder.
    """
    paths = [paths] if isinstance(paths, str | Path) else paths
    slices: dict[Path, set[Path]] = {}
    found: list[Series] = []
    for path in map(Path, paths):
        if is_slice(path):
            slices.setdefault(path.parent, set()).add(path)
        else:
            found += list_series(path)
    for folder, wanted in slices.items():
        visible = {file for file in folder.iterdir() if not file.name.startswith(".")}
        siblings = [file for file in sorted(wanted | visible) if is_slice(file)]
        found += [series for series in list_series(siblings) if wanted.intersection(series.files)]
    return found


def loadable_series(series: Iterable[Series], where: object) -> list[Series]:
    """Return the series that can be loaded; warn about each DICOM series that cannot.

    Parameters
    ----------
    series : iterable of Series
        Series to choose from.
    where : object
        Where they were found, for messages.

    Raises
    ------
    VolumeError
        If a volume file is unusable, or no series is left.
    DataError
        If there is no series at all.
    """
    kept: list[Series] = []
    other: list[Series] = []
    dropped: list[Series] = []
    for item in series:
        if item.problem is None:
            (kept if item.modality in (None, "MR", "CT") else other).append(item)
        elif not is_dicom(item.path) and not item.path.is_dir():
            raise VolumeError(item.problem)
        else:
            dropped.append(item)
    if not kept and not other and dropped:
        first = min(dropped, key=lambda item: not item.is_scan)
        raise VolumeError(str(first.problem))
    if not kept and not other:
        raise DataError(f"{where} holds no scans; put scan files or DICOM series there.")
    reasons = [str(item.problem) for item in dropped if item.is_scan]
    if kept:
        reasons += [f"{item.name} in {item.path} is neither MR nor CT." for item in other]
    for reason in reasons:
        warnings.warn(f"Skipped: {reason}", ScanWarning, stacklevel=3)
    # A single PET scan may be intended: loading it requires an explicit modality.
    return kept or other


def find_scans(paths: str | Path | Iterable[str | Path]) -> list[Series]:
    """Return the loadable scans in files and folders, see :func:`list_series`; each path once."""
    if isinstance(paths, str | Path):
        paths = [paths]
    paths = list(dict.fromkeys(Path(path) for path in paths))
    return loadable_series(list_series(paths), ", ".join(map(str, paths)) or "The list")


def as_series(source: Source | str) -> Series:
    """Return the only volume of a file or folder.

    Raises
    ------
    VolumeError
        If there is none, or more than one.
    """
    if isinstance(source, Series):
        return source
    found = list_series([source])
    scans = [item for item in found if item.is_scan] or found
    if len(scans) > 1:
        names = ", ".join(item.name for item in scans[:4]) + (", …" if len(scans) > 4 else "")
        raise VolumeError(
            f"{source} holds {len(scans)} volumes ({names}); choose one of list_series(…), or "
            "load all with load_volumes(…)."
        )
    return scans[0]


def series_by_name(path: str | Path) -> dict[str, Series]:
    """Return the scans of a file or folder by name; names must be unique."""
    return unique_by_name(find_scans(path), lambda item: item.name, lambda item: item.path, path)
