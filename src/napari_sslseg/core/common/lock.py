"""One process at a time on a run folder, or on a project.

The lock is held by the operating system and not by the file: it dies with its process, also where
that is killed, so that nothing has to be tidied up before the next run.
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
"""What to say of a folder that is in use; the number is that of another process, if known."""


def _run_busy(folder: Path, number: int | None) -> str:
    who = f"Another process ({number})" if number else "Another process"
    return f"{who} is working in {folder}; wait for it, stop it, or choose another folder."


@contextmanager
def run_lock(folder: Path, name: str = LOCK, busy: Busy = _run_busy) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing.

    Parameters
    ----------
    folder : Path
        A run folder, or another that one process alone may change.
    name : str
        File in it that is locked.
    busy : callable
        Makes the sentence where somebody else holds it.

    Raises
    ------
    StorageError
        If another process, or somebody else in this one, holds it; the folder cannot be written;
        or there are links in it where files are to be written.
    """
    made = not folder.exists()
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
        # Removed before it is let go, so that nobody locks a file that is about to vanish; but
        # Windows removes no open file, and keeps it where somebody else has opened it.
        if sys.platform == "win32":
            os.close(handle)
        with contextlib.suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(handle)
        if made:
            # Nothing is left behind if the work failed before it began; else it is not empty.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _open(path: Path, busy: Busy) -> int:
    """Open and lock the file; again if its holder removed it in the meantime."""
    while True:
        handle = open_own(path)
        try:
            _lock(handle, path, busy)
            if sys.platform == "win32" or _is_still(handle, path):
                with contextlib.suppress(OSError):  # The number is for the message alone.
                    os.ftruncate(handle, 0)
                    os.write(handle, str(os.getpid()).encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_still(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _lock(handle: int, path: Path, busy: Busy) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            # A byte far behind the number, so that others may read it.
            os.lseek(handle, 1024, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            return  # Some network disks know no locks; better to train there without one.
        raise StorageError(busy(path.parent, _holder(handle))) from error


def _holder(handle: int) -> int | None:
    """Number of the process that holds the lock, where that is another one and can be read."""
    with contextlib.suppress(OSError, ValueError):
        number = int(os.pread(handle, 32, 0)) if hasattr(os, "pread") else 0
        return number if number != os.getpid() else None
    return None
