"""A lock, so that one process at a time works on a run folder or a project.

The operating system holds the lock, not the file. It is released when the process ends, also if the
process is killed, so that a file that is left behind locks nothing.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.common.safe_files import open_own, refuse_links

LOCK = "run.lock"

Busy = Callable[[Path, int | None], str]
"""Makes the message for a locked folder; the number is that of the other process, if known."""


def _run_busy(folder: Path, number: int | None) -> str:
    process = f"Another process ({number})" if number else "Another process"
    return f"{process} is working in {folder}; wait for it, stop it, or choose another folder."


@contextmanager
def run_lock(folder: Path, name: str = LOCK, busy: Busy = _run_busy) -> Iterator[None]:
    """Hold the lock of a folder, which is created if it is missing.

    Parameters
    ----------
    folder : Path
        A run folder, or another folder that only one process may change.
    name : str
        File in the folder that is locked.
    busy : callable
        Makes the message if the folder is locked.

    Raises
    ------
    StorageError
        If the lock is held by another process, or elsewhere in this one; the folder cannot be
        written; or it has links where files would be written.
    """
    created = not folder.exists()
    path = folder / name
    refuse_links(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _open(path, busy)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(
            f"{folder} is a file, but a folder is needed; choose another name."
        ) from error
    except OSError as error:
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}; choose another folder, or make "
            "this one writable."
        ) from error
    try:
        yield
    finally:
        # Removed before the lock is released, so that no other process locks a file that is then
        # removed. Windows cannot remove open files, and keeps one that another process has open.
        if sys.platform == "win32":
            os.close(handle)
        with contextlib.suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(handle)
        if created:
            # Leaves nothing if the work failed before it started. Otherwise it is not empty.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _open(path: Path, busy: Busy) -> int:
    """Open and lock the file, and repeat it if the process before removed the file meanwhile."""
    while True:
        handle = open_own(path)
        try:
            _lock(handle, path, busy)
            if sys.platform == "win32" or _is_same_file(handle, path):
                with contextlib.suppress(OSError):  # The number is only for the message.
                    os.ftruncate(handle, 0)
                    os.write(handle, str(os.getpid()).encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _lock(handle: int, path: Path, busy: Busy) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            # A byte far behind the number, which other processes can then read.
            os.lseek(handle, 1024, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            return  # Some network disks have no locks; training without one is better.
        raise StorageError(busy(path.parent, _holder(handle))) from error


def _holder(handle: int) -> int | None:
    """Number of the process that holds the lock; None if it is this one or unknown."""
    with contextlib.suppress(OSError, ValueError):
        number = int(os.pread(handle, 32, 0)) if hasattr(os, "pread") else 0
        return number if number != os.getpid() else None
    return None
