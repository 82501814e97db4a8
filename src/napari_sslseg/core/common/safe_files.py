"""Files of a run folder, which may come from anybody: opened only where they are plain files.

A pipe would wait for ever, a device never ends, and what is written through a link is written
elsewhere.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from napari_sslseg.core.common.errors import StorageError

# Pipes are not waited for, and processes that are started inherit nothing.
_FLAGS = (
    getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)  # fmt: skip
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)

HISTORY = "events.jsonl"
"""File of a run folder that is appended to."""

FOLDERS = ("states", "slices", "first-stage")
"""Folders within a run folder whose contents are replaced and removed."""


def open_regular(path: Path) -> BufferedReader:
    """Open a plain file, or a link to one, to read its bytes.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a pipe or a device.
    """
    handle = os.open(path, os.O_RDONLY | _FLAGS)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Read a small plain file.

    Raises
    ------
    ValueError
        With a short reason, if it is larger than ``most_bytes``.
    OSError
        If it cannot be read, or is no plain file.
    """
    with open_regular(path) as file:
        # Not by its size alone: a file may grow.
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes / 2**20:.3g} MiB")
    return data


def open_own(path: Path) -> int:
    """Open a file to change it in its place, made if missing; a handle, and nothing is cut off.

    Raises
    ------
    StorageError
        If it is a link, stands elsewhere under another name as well, or is no plain file.
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
    # Again, since it may have been another in the meantime.
    if not _is_own(os.fstat(handle)):
        os.close(handle)
        raise _not_own(path)
    return handle


def check_own(path: Path) -> None:
    """Refuse what :func:`open_own` would refuse, before anything else is changed."""
    try:
        found = path.lstat()
    except OSError:  # It is missing, or cannot be opened either.
        return
    if not _is_own(found):
        raise _not_own(path)


def _is_own(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def _not_own(path: Path) -> StorageError:
    return StorageError(
        f"{path} is a link or no plain file, so nothing is written to it; remove it, or choose "
        "another folder."
    )


def is_link(path: Path) -> bool:
    """Whether a path is a link, or what Windows calls a junction."""
    # Not yet in Python 3.11.
    junction = getattr(os.path, "isjunction", None)
    return path.is_symlink() or (junction is not None and junction(path))


def refuse_links(folder: Path) -> None:
    """Refuse a run folder in which links stand where files are changed, replaced and removed.

    Raises
    ------
    StorageError
        It names the first.
    """
    check_own(folder / HISTORY)
    inner = [folder / name for name in FOLDERS]
    for path in [*inner, folder] if folder.name in FOLDERS else inner:
        if is_link(path):
            raise StorageError(
                f"{path} is a link, so that files elsewhere would be replaced and removed; put a "
                "folder in its place, or choose another run folder (slices may lie elsewhere with "
                "--cache)."
            )
