"""Where the scans of a project lie, whether they are there, and whether they are the same still."""

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
"""Of files whose values lie in another one beside them, of the same name."""


def stored_paths(path: Path, project: Path) -> tuple[str, str]:
    """Path as a project keeps it, and absolute.

    Relative if it lies in the project or beside it, so that both can move together.
    """
    absolute = Path(os.path.abspath(path))
    if absolute.is_relative_to(project.parent):
        return Path(os.path.relpath(absolute, project)).as_posix(), absolute.as_posix()
    return absolute.as_posix(), absolute.as_posix()


def found_path(entry: ScanEntry, project: Path) -> Path:
    """Where a scan lies now: as seen from the project, or else where it was."""
    here = Path(os.path.abspath(project / entry.path))
    there = Path(entry.absolute)
    # Those of os take a path from a stranger, whatever it is; those of pathlib may raise.
    return there if os.path.exists(there) and not os.path.exists(here) else here


def source_files(path: Path, files: Sequence[str]) -> list[Path]:
    """All files that a scan is read from.

    Parameters
    ----------
    path : Path
        The file, or the folder.
    files : sequence of str
        Those in the folder.
    """
    if files:
        return [path / file for file in files]
    if not path.name.lower().endswith(_HEADERS):
        return [path]
    stem = path.name.split(".")[0] + "."
    beside = [file for file in path.parent.iterdir() if file.name.startswith(stem)]
    return sorted({path, *beside})


def stamp(path: Path, files: Sequence[str]) -> str | None:
    """Hash of names, sizes and times of the files of a scan; None if one is missing.

    It takes no look into them, so that a project with many scans is looked through in no time.
    """
    total = hashlib.blake2b(digest_size=16)
    try:
        for file in source_files(path, files):
            status = file.stat()
            if not S_ISREG(status.st_mode):
                return None
            total.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    except (OSError, ValueError):  # ValueError: no name of a file at all.
        return None
    return total.hexdigest()


def files_within(series: Series) -> tuple[str, ...]:
    """Files of a series, as seen from its folder; none if it is a file."""
    if not series.path.is_dir():
        return ()
    folder = os.path.abspath(series.path)
    return tuple(Path(os.path.relpath(file, folder)).as_posix() for file in series.files)


def find_series(entry: ScanEntry, path: Path) -> Series:
    """The series of an entry at a path, under its name and with its subject and modality.

    Raises
    ------
    SslsegError
        If it is not there, or cannot be used.
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
            f"{printable(path, 300)} does not hold the volume {printable(entry.series, 100)} any "
            "more; put the file back."
        )
    found[0].opened()
    return as_entry(found[0], entry)


def as_entry(series: Series, entry: ScanEntry) -> Series:
    """A series under the name that it has in a project, with its subject and modality."""
    return replace(series, name=entry.name, subject=entry.subject, modality=entry.modality)


def read_scan(series: Series) -> tuple[Volume, list[str]]:
    """Load a scan; what is worth knowing about it comes back rather than as warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = load_volume(series)
    notes = [str(item.message) for item in caught if issubclass(item.category, ScanWarning)]
    return volume, notes


def content(volume: Volume) -> str:
    """Hash of the values of a scan and of their place, as runs record it."""
    return LoadedScan(volume).digests()[0]


def reason(error: SslsegError | OSError) -> str:
    """Why a file cannot be read, in one sentence."""
    if isinstance(error, OSError):
        return f"{error.filename or 'It'} cannot be read: {error.strerror or error}."
    return str(error)
