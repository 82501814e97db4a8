"""List the volumes in files and folders, by their headers alone."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from napari_sslseg.core.common.errors import (
    PATH,
    DataError,
    ScanWarning,
    SslsegError,
    VolumeError,
    check_type,
)
from napari_sslseg.core.scans.formats.dispatch import is_dicom, open_image
from napari_sslseg.core.scans.formats.foreign import foreign_files
from napari_sslseg.core.scans.formats.registry import scan_suffixes
from napari_sslseg.core.scans.matching.label_names import has_label_name
from napari_sslseg.core.scans.matching.subjects import guess_subjects
from napari_sslseg.core.scans.names import (
    files_below,
    is_system_file,
    scan_name,
    volume_files,
)
from napari_sslseg.core.scans.series import Series, Source


def list_series(paths: str | Path | Iterable[str | Path], *, labels: bool = False) -> list[Series]:
    """List all volumes in files and folders by their headers, and why other files are unusable.

    Parameters
    ----------
    paths : path-like or several
        Scan files, DICOM files, DICOMDIR files, and folders. In a folder, volume files directly in
        it are listed, DICOM files in it and in its subfolders, and files directly in it that are
        not understood, other than text. If there are none, volume files
        in its subfolders are listed, without those that have names of labels. Scans of the same
        name in different folders are then named after their folders too.
    labels : bool
        Whether to list files in subfolders that have names of labels as well.

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
    paths = _listed(paths)
    found: list[Series] = []
    dicom: list[Path] = []
    seen: set[str] = set()
    given = list(map(Path, paths))
    for path in [path for path in given if not is_system_file(path)] or given:
        any_file, start = False, len(found)
        for file, as_dicom in _files(path, labels):
            any_file = True
            # realpath, unlike resolve, takes a link that leads to itself.
            if (real := os.path.realpath(file)) in seen:
                continue
            seen.add(real)
            if as_dicom:
                dicom.append(file)
            else:
                found += _file_series(file)
        found[start:] = _with_folder_names(found[start:], path)
        foreign = _foreign_series(path, seen) if path.is_dir() else []
        found += foreign
        if not any_file and not foreign:
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


def _listed(paths: object) -> list[Path]:
    """One path or several as a list."""
    write = "a folder or a file, or a list of them"
    check_type(paths, (*PATH, Iterable), "paths", write)
    several = [paths] if isinstance(paths, PATH) else list(paths)  # type: ignore[call-overload]
    for path in several:
        check_type(path, PATH, "A path", write)
    return [Path(path) for path in several]


def _dicom_series(files: list[Path]) -> list[Series]:
    try:
        from napari_sslseg.core.scans.formats.dicom.series import dicom_series
    except ModuleNotFoundError as error:
        raise VolumeError(
            f"{files[0]} is a DICOM file, and the package {error.name} for them is not installed; "
            'run: pip install "napari-sslseg[dicom]"'
        ) from error
    return dicom_series(files)


def _files(path: Path, labels: bool) -> Iterator[tuple[Path, bool]]:
    """Yield a file, or the volume files directly in a folder and DICOM files at any depth.

    If there are none, yield volume files in subfolders, with those that have names of labels or
    without.

    Each file is paired with whether it is DICOM, which requires reading its first bytes.
    """
    if not path.exists():
        if path.is_symlink():
            raise DataError(f"{path} is a broken link; restore the file that it points to.")
        raise DataError(f"{path} does not exist; check the path.")
    if not path.is_dir():
        yield path, is_dicom(path)
        return
    any_file = False
    for file in volume_files(path):
        any_file = True
        yield file, is_dicom(file)
    walked: set[str] = set()
    for parent, folders, names in os.walk(path, followlinks=True):
        # A link to a parent folder would be followed for ever.
        shown = (name for name in folders if not is_system_file(Path(name)))
        here = {name: os.path.realpath(Path(parent, name)) for name in shown}
        folders[:] = sorted(name for name, real in here.items() if real not in walked)
        walked.update(here.values())
        for name in sorted(names):
            if not is_system_file(file := Path(parent, name)) and is_dicom(file):
                any_file = True
                yield file, True
    if not any_file:
        for file in files_below(path):
            if labels or not has_label_name(file):
                yield file, False


def _with_folder_names(found: list[Series], folder: Path) -> list[Series]:
    """Name scans of the same name in different subfolders after their subfolders: s0000_ct."""
    places: dict[str, set[Path]] = defaultdict(set)
    for item in found:
        if not has_label_name(item.path):  # Labels often have the names of their scans.
            places[item.name].add(item.path.parent)
    short = Counter(f"{item.path.parent.name}_{item.name}" for item in found)
    named = []
    for item in found:
        name = item.name
        if len(places[name]) > 1:
            name = f"{item.path.parent.name}_{item.name}"
            if short[name] > 1:
                name = "_".join((*item.path.parent.relative_to(folder).parts, item.name))
        named.append(replace(item, name=name))
    return named


def _refuse_empty(folder: Path) -> None:
    folder = folder if folder.name else folder.absolute()  # The folder "." has no name.
    if below := files_below(folder):
        raise DataError(
            f"The folder {folder} holds no scans itself, and the {len(below)} volume files in its "
            f"subfolders have names of labels, such as {below[0]}; choose the folder of the scans."
        )
    raise DataError(
        f"The folder {folder} holds no scans; put DICOM files there, or files ending in "
        f"{', '.join(scan_suffixes())}."
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
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror or error}); check its permissions."
        return [Series(name, name, path, (path,), problem=problem)]
    if image.frames == 1:
        return [Series(name, name, path, (path,), image=image)]
    return [
        Series(f"{name}_{frame:03d}", name, path, (path,), image=image, frame=frame)
        for frame in range(image.frames)
    ]


def _foreign_series(folder: Path, seen: set[str]) -> list[Series]:
    """Return the files directly in a folder that are not understood, each with its problem."""
    return [
        Series(
            scan_name(file),
            scan_name(file),
            file,
            (file,),
            problem=f"{file} is {kind.name}; {kind.advice}.",
            is_scan=kind.is_scan,
        )
        for file, kind in foreign_files(folder)
        if os.path.realpath(file) not in seen and not is_system_file(file)
    ]


def is_slice(path: Path) -> bool:
    """Return whether a file may be one of the many files of a DICOM series."""
    return is_dicom(path) and not path.name.upper().startswith("DICOMDIR")


def whole_series(paths: str | Path | Iterable[str | Path], *, labels: bool = False) -> list[Series]:
    """List volumes like :func:`list_series`, completing the series of each DICOM file.

    Parameters
    ----------
    paths : path-like or several
        Files and folders. The other files of a DICOM series are searched in the same folder.
    labels : bool
        As in :func:`list_series`.
    """
    paths = _listed(paths)
    slices: dict[Path, set[Path]] = {}
    found: list[Series] = []
    for path in map(Path, paths):
        if is_slice(path):
            slices.setdefault(path.parent, set()).add(path)
        else:
            found += list_series(path, labels=labels)
    for folder, wanted in slices.items():
        visible = {file for file in folder.iterdir() if not is_system_file(file)}
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
        elif (
            item.path.name.lower().endswith(scan_suffixes())
            and not is_dicom(item.path)
            and not item.path.is_dir()
        ):
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
    paths = list(dict.fromkeys(_listed(paths)))
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
    one = "one scan: a file, a folder, a Series or a Volume, each by itself"
    check_type(source, PATH, "A scan", one)
    found = list_series([source])
    scans = [item for item in found if item.is_scan] or found
    if len(scans) > 1:
        names = ", ".join(item.name for item in scans[:4]) + (", …" if len(scans) > 4 else "")
        raise VolumeError(
            f"{source} holds {len(scans)} volumes ({names}); choose one of core.list_series(…), "
            "or load all with core.load_volumes(…)."
        )
    return scans[0]
