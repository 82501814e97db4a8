"""Files of the scans of a project: their paths, and whether they were changed."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

from napari_sslseg.core.common.errors import DataError, ScanWarning, SslsegError
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.record import ScanEntry
from napari_sslseg.core.samples.store import LoadedScan
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Volume, load_volume

_HEADERS = (".hdr", ".hdr.gz", ".mhd", ".nhdr")
"""Suffixes of headers whose voxels are in another file of the same name in the folder."""


def stored_paths(path: Path, project: Path) -> tuple[str, str]:
    """Path as a project stores it, and absolute path.

    Relative if the file is in the folder around the project, so that both can be moved together.
    """
    absolute = Path(os.path.abspath(path))
    if absolute.is_relative_to(project.parent):
        return Path(os.path.relpath(absolute, project)).as_posix(), absolute.as_posix()
    return absolute.as_posix(), absolute.as_posix()


def find_path(entry: ScanEntry, project: Path) -> Path:
    """Where a scan is now: relative to the project, or else at its absolute path."""
    here = Path(os.path.abspath(project / entry.path))
    there = Path(entry.absolute)
    # The functions of os accept any path of an untrusted file; those of pathlib may raise.
    return there if os.path.exists(there) and not os.path.exists(here) else here


def source_files(path: Path, files: Sequence[str]) -> list[Path]:
    """All files that a scan is read from.

    Parameters
    ----------
    path : Path
        The file, or the folder.
    files : sequence of str
        Files in the folder.
    """
    if files:
        return [path / file for file in files]
    if not path.name.lower().endswith(_HEADERS):
        return [path]
    stem = path.name.split(".")[0] + "."
    siblings = [file for file in path.parent.iterdir() if file.name.startswith(stem)]
    return sorted({path, *siblings})


def file_stamp(path: Path, files: Sequence[str]) -> str | None:
    """Hash of names, sizes and times of the files of a scan; None if one is missing.

    The files are not read, so that a project with many scans is checked quickly.
    """
    total = hashlib.blake2b(digest_size=16)
    try:
        for file in source_files(path, files):
            status = file.stat()
            if not S_ISREG(status.st_mode):
                return None
            numbers = f"\0{status.st_size}\0{status.st_mtime_ns}\0"
            total.update(os.fsencode(file.name) + numbers.encode())
    except (OSError, ValueError):  # ValueError: not a file name.
        return None
    return total.hexdigest()


def files_within(series: Series) -> tuple[str, ...]:
    """Files of a series, relative to its folder; empty if the series is one file."""
    if not series.path.is_dir():
        return ()
    folder = os.path.abspath(series.path)
    return tuple(Path(os.path.relpath(file, folder)).as_posix() for file in series.files)


def find_series(entry: ScanEntry, path: Path) -> Series:
    """The series of an entry at a path, with the name, subject and modality of the entry.

    Raises
    ------
    SslsegError
        If the series is missing or cannot be used.
    """
    found = [
        item
        for item in list_series(source_files(path, entry.files) if entry.files else [path])
        if item.frame == entry.frame
    ]
    if len(found) > 1:
        found = [item for item in found if item.name == entry.series]
    if len(found) != 1:
        raise DataError(
            f"{printable(path, 300)} no longer has the volume {printable(entry.series, 100)}; put "
            "the file back."
        )
    found[0].opened()
    return replace(
        found[0],
        name=entry.name,
        subject=entry.subject,
        subject_guess=None,
        modality=entry.modality,
    )


def read_scan(series: Series) -> tuple[Volume, list[str]]:
    """Load a scan; its warnings are returned as texts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = load_volume(series)
    notes = [str(item.message) for item in caught if issubclass(item.category, ScanWarning)]
    return volume, notes


def content_hash(volume: Volume) -> str:
    """Hash of values and geometry of a scan, as in the record of a run."""
    return LoadedScan(volume).digests()[0]


def describe_error(error: SslsegError | OSError) -> str:
    """Why a file cannot be read, in one sentence."""
    if isinstance(error, OSError):
        return f"{error.filename or 'It'} cannot be read: {error.strerror or error}."
    return str(error)
