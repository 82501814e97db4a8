"""Write a file or a folder as a whole or not at all, so that it survives a kill and a power cut."""

import contextlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sslseg.core.common.errors import StorageError, remedy
from napari_sslseg.core.common.lock import check_locks, try_lock
from napari_sslseg.core.common.sync import make_folder, rename_new, sync_file, sync_folder

PREFIX = ".napari-sslseg-"
TEMPORARY = re.compile(r"\.napari-sslseg-[0-9a-f]{16}(\..*)?", re.DOTALL)
"""Names of temporary files and folders. No other program uses them, so that they may be removed."""

MARKER = "napari-sslseg-temporary"
"""File in a temporary folder. A folder without it is not removed."""

_LONGEST_SUFFIX = 40
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; sync and rename it if the block succeeds.

    The temporary name ends as ``path`` does, by which writers choose the format. On any failure the
    temporary file is removed and a file at ``path`` is not changed. When the block has ended, the
    file is on the disk with its contents and its name. Without ``overwrite`` a file at ``path`` is
    not replaced, also if another process writes it meanwhile.

    Raises
    ------
    StorageError
        If the disk is full, the folder is read-only, or the file cannot be written otherwise; or
        if there is one that may not be replaced.
    LostFolderError
        If it is in a folder that this process has locked, and that folder is not there any more.
    """
    path = Path(path)
    temporary: Path | None = None
    handle: int | None = None
    try:
        check_locks(path)
        make_folder(path.parent)
        temporary = path.with_name(
            _temporary_name() + "".join(path.suffixes[-2:])[-_LONGEST_SUFFIX:]
        )
        # With the permissions of an ordinary new file.
        handle = os.open(temporary, _CREATE, 0o666)
        handle = _keep_locked(handle)
        yield temporary
        sync_file(temporary)
        check_locks(path)
        if overwrite:
            temporary.replace(path)
        else:
            _rename_new(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        check_locks(path)  # The folder may have been removed meanwhile, which is the reason then.
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}; {remedy(error)}, then run again."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # Such as a folder that is not there any more.
                temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _rename_new(temporary: Path, path: Path) -> None:
    try:
        rename_new(temporary, path)
    except FileExistsError as error:
        raise StorageError(
            f"{path} appeared meanwhile, so it was not replaced; choose another name, or give "
            "--overwrite (in Python overwrite=True)."
        ) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Write ``text`` (UTF-8) to ``path`` atomically.

    Bytes of file names that are not UTF-8 (PEP 383) are written as ``\udce4``, which JSON reads as
    they were.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


class TemporaryFolder:
    """A folder that is filled under a temporary name and then renamed.

    Parameters
    ----------
    parent : Path
        Where the folder is made; created if it is missing.

    Attributes
    ----------
    path : Path
        The folder, with files only.

    Raises
    ------
    OSError
        If it cannot be made.
    """

    def __init__(self, parent: Path) -> None:
        check_locks(parent)
        make_folder(parent)
        self.path = parent / _temporary_name()
        self.path.mkdir()
        self._handle = _keep_locked(os.open(self.path / MARKER, _CREATE, 0o666))

    def finish(self, folder: Path) -> None:
        """Sync the files, and rename the folder to a name that is free in the same place.

        Raises
        ------
        OSError
            If it cannot be renamed.
        """
        for file in self.path.iterdir():
            sync_file(file)
        sync_folder(self.path)
        check_locks(folder)
        self._release()
        self.path.rename(folder)
        sync_folder(folder.parent)
        with contextlib.suppress(OSError):
            (folder / MARKER).unlink()

    def remove(self) -> None:
        """Remove the folder, unless it was renamed."""
        self._release()
        with contextlib.suppress(OSError):
            _remove_folder(self.path)

    def _release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@contextmanager
def marked_folder(folder: Path) -> Iterator[None]:
    """Mark a temporary folder as ours while the block fills it."""
    handle = _keep_locked(os.open(folder / MARKER, _CREATE, 0o666))
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def is_abandoned_folder(folder: Path) -> bool:
    """Whether a marked temporary folder was left by a process that has ended."""
    marker = folder / MARKER
    if folder.is_symlink() or not marker.is_file():
        return False
    with contextlib.suppress(OSError):
        return _is_abandoned(marker)
    return False


def remove_leftovers(folder: Path, *, alone: bool = False) -> None:
    """Remove temporary files and folders that a killed process left in a folder.

    Only what has a name of :data:`TEMPORARY`; of folders only those with a marker, and from them
    only files.

    Parameters
    ----------
    folder : Path
        Folder to search, without folders in it.
    alone : bool
        Whether this process has locked the folder, so that no other one writes to it. Else only
        files are removed of which the system knows that their process has ended.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_leftover(path, alone)


def is_leftover(path: Path) -> bool:
    """Whether a path is a temporary file, or a temporary folder that is marked or empty."""
    if not TEMPORARY.fullmatch(path.name) or path.is_symlink():
        return False
    return (
        path.is_file() or (path / MARKER).is_file() or (path.is_dir() and not any(path.iterdir()))
    )


def _remove_leftover(path: Path, alone: bool) -> None:
    if not is_leftover(path):
        return
    is_folder = path.is_dir()
    marker = path / MARKER if is_folder else path
    if not alone and not (marker.is_file() and _is_abandoned(marker)):
        return
    if is_folder:
        _remove_folder(path)
    else:
        path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    """Whether no process holds a temporary file any more; False if that is not known."""
    if sys.platform == "win32":
        return False
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return stat.S_ISREG(os.fstat(handle).st_mode) and try_lock(handle) is True
    finally:
        os.close(handle)


def _remove_folder(folder: Path) -> None:
    """Remove a temporary folder; files first, the marker last, never folders in it."""
    files = [path for path in folder.iterdir() if path.is_file() or path.is_symlink()]
    for path in sorted(files, key=lambda path: path.name == MARKER):
        path.unlink(missing_ok=True)
    folder.rmdir()


def _temporary_name() -> str:
    return f"{PREFIX}{secrets.token_hex(8)}"


def _keep_locked(handle: int) -> int | None:
    """Lock a temporary file while its process lives; Windows cannot rename open files."""
    if sys.platform == "win32":
        os.close(handle)
        return None
    try_lock(handle)
    return handle
