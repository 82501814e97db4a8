"""Which volumes lie in files and folders, told by their headers alone."""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from napari_sslseg.core.common.errors import DataError, ScanWarning, SslsegError, VolumeError
from napari_sslseg.core.scans.formats.dispatch import is_dicom, open_image
from napari_sslseg.core.scans.names import (
    SUFFIXES,
    guess_subject,
    scan_name,
    unique_by_name,
    volume_files,
)
from napari_sslseg.core.scans.series import Series, Source


def list_series(paths: str | Path | Iterable[str | Path]) -> list[Series]:
    """All volumes in files and folders, from their headers alone, and what is no volume and why.

    Parameters
    ----------
    paths : path-like or several
        Scan files, DICOM files, DICOMDIR files, and folders. Of a folder, the volume files
        directly in it count, and all DICOM files in it and below it.

    Returns
    -------
    list of Series
        In the order of names. A file that holds several volumes, such as a series in time, gives
        one each; so does a DICOM series. Those with a ``problem`` cannot be loaded.

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
    if dicom:
        # All together: the files of one series may have been named one by one.
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
    """The file itself; of a folder the volume files directly in it, and DICOM at any depth.

    Each comes with whether it is DICOM, which takes a look into the file.
    """
    if not path.exists():
        if path.is_symlink():
            raise DataError(f"{path} is a link that leads nowhere; fetch the file that it names.")
        raise DataError(f"{path} does not exist; check the path.")
    if not path.is_dir():
        yield path, is_dicom(path)
        return
    for file in volume_files(path):
        yield file, False
    walked: set[str] = set()
    for parent, folders, names in os.walk(path, followlinks=True):
        # A link may lead to a folder above it, and around for ever.
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
            f"The folder {folder} holds no scans itself, but {len(below)} volume files lie in its "
            f"sub-folders, such as {below[0].parent}; choose one of these."
        )
    raise DataError(
        f"The folder {folder} holds no scans; put files ending in {', '.join(SUFFIXES)}, or DICOM "
        "files, there."
    )


def files_below(folder: Path) -> list[Path]:
    """Volume files in the sub-folders of a folder, which do not count as its scans."""
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if Path(parent) != folder and name.lower().endswith(SUFFIXES) and name[0] != "."
    )


def _file_series(path: Path) -> list[Series]:
    """The volumes in one file; the error, if it cannot be opened, stands in their ``problem``."""
    name = scan_name(path)
    subject = guess_subject(name)
    try:
        image = open_image(path)
    except SslsegError as error:
        return [Series(name, subject, path, (path,), problem=str(error))]
    if image.frames == 1:
        return [Series(name, subject, path, (path,), image=image)]
    return [
        Series(f"{name}_{frame:03d}", subject, path, (path,), image=image, frame=frame)
        for frame in range(image.frames)
    ]


def is_slice(path: Path) -> bool:
    """Whether a DICOM file may be one of many of a series."""
    return is_dicom(path) and not path.name.upper().startswith("DICOMDIR")


def whole_series(paths: str | Path | Iterable[str | Path]) -> list[Series]:
    """As :func:`list_series`, but a DICOM file stands for the whole series that it belongs to.

    Parameters
    ----------
    paths : path-like or several
        Files and folders. The other files of the series are looked for beside a DICOM file.
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
        beside = [file for file in sorted(wanted | visible) if is_slice(file)]
        found += [series for series in list_series(beside) if wanted.intersection(series.files)]
    return found


def loadable_series(series: Iterable[Series], where: object) -> list[Series]:
    """Those that can be loaded; of DICOM, a warning names each that cannot.

    Raises
    ------
    VolumeError
        If a volume file cannot be used, or nothing is left.
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
        told = sorted(dropped, key=lambda item: not item.is_scan)
        raise VolumeError(str(told[0].problem))
    if not kept and not other:
        raise DataError(f"{where} holds no scans; put scan files or DICOM series there.")
    reasons = [str(item.problem) for item in dropped if item.is_scan]
    if kept:
        reasons += [f"{item.name} in {item.path} is neither MR nor CT." for item in other]
    for reason in reasons:
        warnings.warn(f"Left out: {reason}", ScanWarning, stacklevel=3)
    # A PET alone may be meant: loading it asks for the modality to use it as.
    return kept or other


def find_scans(paths: str | Path | Iterable[str | Path]) -> list[Series]:
    """Loadable scans in files and folders, each once, in order; see :func:`list_series`."""
    if isinstance(paths, str | Path):
        paths = [paths]
    paths = list(dict.fromkeys(Path(path) for path in paths))
    return loadable_series(list_series(paths), ", ".join(map(str, paths)) or "The list")


def as_series(source: Source | str) -> Series:
    """The one volume of a file or folder.

    Raises
    ------
    VolumeError
        If there is none, or a choice to be made between several.
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
    """A file, or those of a folder, by the name of their scan; each name once."""
    return unique_by_name(find_scans(path), lambda item: item.name, lambda item: item.path, path)
