"""A lock, so that one process at a time works on a run folder or a project.

The operating system holds the lock, not the file. It is released when the process ends, also if the
process is killed, so that a file that is left behind locks nothing.

A locked folder may still be deleted or moved, and another one be made in its place. Before each
write, :func:`check_locks` compares the lock at the path with the lock that is held, so that nothing
is written to the folder of another process.
"""

import contextlib
import errno
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sslseg.core.common.errors import LostFolderError, ReadOnlyFolderError, StorageError
from napari_sslseg.core.common.safe_files import open_own, refuse_links
from napari_sslseg.core.common.sync import make_folder

LOCK = "run.lock"
CONTENT = re.compile(rb"(\d{1,20}(\n[0-9a-f]{32}\n)?)?")
"""Contents of a lock: the number of the process, and a text that no other lock has."""

_REMOVAL_SECONDS = 1.0
"""Time to remove a folder in which only the lock file is missing so far."""

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

Busy = Callable[[Path, int | None], str]
"""Makes the message for a locked folder; the number is that of the other process, if known."""


def _run_busy(folder: Path, number: int | None) -> str:
    process = f"Another process ({number})" if number else "Another process"
    return f"{process} is working in {folder}; wait for it, stop it, or choose another folder."


class FolderLock:
    """The lock of a folder, held by this process; see :func:`run_lock`.

    Attributes
    ----------
    folder : Path
        The folder, absolute.
    note : str or None
        A sentence for the user if the disk of the folder has no locks.
    """

    def __init__(self, folder: Path, name: str, busy: Busy) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.note: str | None = None
        self._path = self.folder / name
        self._busy = busy
        self._mutex = threading.Lock()
        self._token = secrets.token_hex(16).encode()
        self._handle = self._open()
        # Kept open, so that no other folder gets the same number.
        self._folder_handle: int | None = None
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                self._folder_handle = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def lost(self) -> bool:
        """Whether the folder was deleted, moved or replaced since it was locked.

        A lock file that was removed alone, as some programs do with old files, is made again.
        """
        # Windows neither removes nor moves a folder with an open file.
        if sys.platform == "win32" or self._is_own():
            return False
        with self._mutex:
            return not self._is_own() and not self._renew()

    def check(self) -> None:
        """Raise an error if the folder is lost.

        Raises
        ------
        LostFolderError
            It names the folder.
        """
        if self.lost:
            raise LostFolderError(
                f"{self.folder} was deleted, moved or replaced while this process was working in "
                "it, so nothing more was written there."
            )

    def release(self) -> None:
        """Release the lock and remove its file, if it is still that of this process."""
        # Removed before the lock is released, so that no other process locks a file that is then
        # removed. Windows cannot remove open files, and keeps one that another process has open.
        if sys.platform == "win32":
            os.close(self._handle)
            with contextlib.suppress(OSError):
                self._path.unlink()
            return
        if self._is_own():
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._handle)
        if self._folder_handle is not None:
            os.close(self._folder_handle)

    def is_same_folder(self) -> bool:
        """Whether the folder at the path is the one that was locked; False if that is unknown."""
        if self._folder_handle is None:
            return sys.platform == "win32"
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._folder_handle), self.folder.stat())
        return False

    def _is_own(self) -> bool:
        if _is_same_file(self._handle, self._path):
            return True
        # Some network disks number their files anew, so the contents decide. A copy of the folder
        # has the same contents, but nobody holds its lock.
        with contextlib.suppress(OSError):
            if self._token in _read(self._path):
                other = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    return try_lock(other) is not True
                finally:
                    os.close(other)
        return False

    def _renew(self) -> bool:
        """Make a lock file that was removed again; False if the folder is another one or empty."""
        if self.is_same_folder() and not os.path.lexists(self._path):
            time.sleep(_REMOVAL_SECONDS)  # If the folder is being removed, it is gone after this.
        with contextlib.suppress(OSError):
            there = self.is_same_folder() and any(self.folder.iterdir())
            if not there or os.path.lexists(self._path):
                return False
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            # On a full disk the folder is still the same.
            return error.errno != errno.EEXIST
        before, self._handle = self._handle, handle
        os.close(before)
        self._write()
        return try_lock(handle) is not False

    def _open(self) -> int:
        """Open and lock the file, and repeat it if the process before removed it meanwhile."""
        while True:
            self._handle = handle = open_own(self._path)
            try:
                locked = try_lock(handle)
                if locked is False:
                    raise StorageError(self._busy(self.folder, _holder(handle)))
                if sys.platform == "win32" or _is_same_file(handle, self._path):
                    if not CONTENT.fullmatch(_read(self._path)):
                        raise StorageError(
                            f"{self._path} is not a lock of this program, so it is not changed; "
                            "choose another folder, or move that file out of this one."
                        )
                    if locked is None:
                        self.note = (
                            f"The disk of {self.folder} has no locks, so nothing keeps a second "
                            "process from working in this folder; start only one."
                        )
                    self._write()
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # The number is only for the message.
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.ftruncate(self._handle, 0)
            os.write(self._handle, b"%d\n%s\n" % (os.getpid(), self._token))


_held: list[FolderLock] = []


def check_locks(path: Path) -> None:
    """Check the locks that this process holds on folders around a path, before it writes there.

    Raises
    ------
    LostFolderError
        If such a folder was deleted, moved or replaced.
    """
    if _held:
        path = Path(os.path.abspath(path))
        for lock in tuple(_held):
            if path.is_relative_to(lock.folder):
                lock.check()


@contextmanager
def run_lock(folder: Path, name: str = LOCK, busy: Busy = _run_busy) -> Iterator[FolderLock]:
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
    ReadOnlyFolderError
        If nothing can be written in the folder.
    StorageError
        If the lock is held by another process, or elsewhere in this one; the folder cannot be
        written otherwise; or it has links where files would be written.
    """
    created = not folder.exists()
    path = folder / name
    refuse_links(folder)
    try:
        make_folder(folder)
        lock = FolderLock(folder, name, busy)
    except (FileExistsError, NotADirectoryError) as error:
        file = next((p for p in (folder, *folder.parents) if p.exists() and not p.is_dir()), folder)
        raise StorageError(
            f"{file} is a file, but a folder is needed; choose another name."
        ) from error
    except OSError as error:
        kind = ReadOnlyFolderError if error.errno in READ_ONLY else StorageError
        raise kind(
            f"Could not write {path}: {error.strerror or error}; choose another folder, or make "
            "this one writable."
        ) from error
    _held.append(lock)
    try:
        yield lock
    finally:
        _held.remove(lock)
        same = created and lock.is_same_folder()
        lock.release()
        if same:
            # Leaves nothing if the work failed before it started. Otherwise it is not empty.
            with contextlib.suppress(OSError):
                folder.rmdir()


def try_lock(handle: int) -> bool | None:
    """Lock an open file without waiting; False if another handle has it, None without locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # A byte far behind the contents, which other processes can then read.
            os.lseek(handle, 1024, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in NO_LOCKS else False
    return True


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def _read(path: Path) -> bytes:
    handle = os.open(
        path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    )
    try:
        return os.read(handle, 256)
    finally:
        os.close(handle)


def _holder(handle: int) -> int | None:
    """Number of the process that holds the lock; None if it is this one or unknown."""
    # It is empty until the other process has written its number.
    with contextlib.suppress(OSError, ValueError, IndexError):
        number = int(os.pread(handle, 32, 0).split()[0]) if hasattr(os, "pread") else 0
        return number if number != os.getpid() else None
    return None
