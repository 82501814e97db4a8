"""Open files of untrusted run folders, only if they are regular files.

Reading a pipe may never return, a device never ends, and writing through a link changes a file
elsewhere.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from napari_sslseg.core.common.errors import ConfigError, StorageError

# Opening a pipe does not wait, and child processes inherit no handle.
_FLAGS = (
    getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)  # fmt: skip
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)

HISTORY = "events.jsonl"
"""File in a run folder that is appended to."""

FOLDERS = ("states", "slices", "first-stage")
"""Folders in a run folder whose contents are replaced and removed."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, pipe or device.
    """
    handle = os.open(path, os.O_RDONLY | _FLAGS)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Read a small regular file.

    Raises
    ------
    ValueError
        With a short reason, if it is larger than ``most_bytes``.
    OSError
        If it cannot be read or is not a regular file.
    """
    with open_regular(path) as file:
        # Not checked with the size, since the file may grow meanwhile.
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes / 2**20:.3g} MiB")
    return data


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield a path to the same file for libraries that accept names in UTF-8 only.

    It is ``path`` itself, or a link with the same suffix in a temporary folder, if a name in the
    path is not UTF-8, as on discs that were written in Latin-1.

    Raises
    ------
    OSError
        If the link cannot be created.
    """
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="napari-sslseg-") as folder:
            suffix = path.suffix if path.suffix.isascii() else ""
            link = Path(folder, f"file{suffix}")
            link.symlink_to(os.path.abspath(path))
            yield link
    else:
        yield path


def refuse_existing(path: Path, *, overwrite: bool = False) -> None:
    """Refuse to replace a file that may be the user's.

    Raises
    ------
    StorageError
        If the file exists, unless ``overwrite``.
    ConfigError
        If its name is too long.
    """
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigError(
                f"{path} has a name that is too long for its disk; choose a shorter one."
            ) from error
    if os.path.lexists(path) and not overwrite:
        raise StorageError(
            f"{path} already exists; choose another name, or give --overwrite (in Python "
            "overwrite=True)."
        )


def open_own(path: Path) -> int:
    """Open a file to change it in place, without truncating it; create it if it is missing.

    Raises
    ------
    StorageError
        If it is a link, has a second name (hard link), or is not a regular file.
    OSError
        If it cannot be opened.
    """
    check_own(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK | _FLAGS, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_own(path) from error
        raise
    # Checked again, since another file may have replaced it meanwhile.
    if not _is_own(os.fstat(handle)):
        os.close(handle)
        raise _not_own(path)
    return handle


def check_own(path: Path) -> None:
    """Refuse the files that :func:`open_own` refuses, before anything is changed."""
    try:
        found = path.lstat()
    except OSError:  # Missing, or not accessible, which opening it reports.
        return
    if not _is_own(found):
        raise _not_own(path)


def _is_own(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def _not_own(path: Path) -> StorageError:
    return StorageError(
        f"{path} is a link or not a regular file, so nothing is written to it; remove it, or "
        "choose another folder."
    )


def is_link(path: Path) -> bool:
    """Whether a path is a link or a junction of Windows."""
    # Python 3.11 does not have it.
    junction = getattr(os.path, "isjunction", None)
    return path.is_symlink() or (junction is not None and junction(path))


def refuse_links(folder: Path) -> None:
    """Refuse a run folder with links where files are changed, replaced or removed.

    Raises
    ------
    StorageError
        With the first link.
    """
    check_own(folder / HISTORY)
    inner = [folder / name for name in FOLDERS]
    for path in [*inner, folder] if folder.name in FOLDERS else inner:
        if is_link(path):
            raise StorageError(
                f"{path} is a link, so that files elsewhere would be replaced and removed; use a "
                "folder instead, or choose another run folder (slices can be stored elsewhere "
                "with --cache)."
            )
