"""Bring changes of folders to the disk, so that they survive a power cut.

Syncing a file keeps its contents, not its name: a new or renamed file is kept only when its folder
is synced too, see fsync(2) of Linux.
"""

import errno
import os
import sys
from pathlib import Path

# Some network and user-space file systems refuse to sync folders; nothing else can be done there.
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk.

    On Windows a folder cannot be synced: NTFS writes names to its journal in order, but a power cut
    may lose those of the last seconds.

    Raises
    ------
    OSError
        If the disk reports an error, or the folder is missing.
    """
    if sys.platform == "win32":
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # A folder without the right to list it cannot be opened, only used.
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Bring the contents of a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def rename_new(source: Path, target: Path) -> None:
    """Rename a file, unless there is a file with its new name.

    Raises
    ------
    FileExistsError
        If there is one; nothing is changed then.
    OSError
        If it cannot be renamed.
    """
    try:
        # Unlike a rename, this never replaces a file that another process writes at this moment.
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # Such as on exFAT, which has no second names.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)
    else:
        source.unlink()


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, as far as they are missing, and sync their names."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
