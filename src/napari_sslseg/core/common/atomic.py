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
_LENGTH = len(PREFIX) + 16
_ANNEX = f"{os.sep}.git{os.sep}annex{os.sep}"
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def atomic_path(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = True,
    follow_link: bool = False,
    like: Path | None = None,
    may_be_empty: bool = False,
) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; sync and rename it if the block succeeds.

    The temporary name ends as ``path`` does, in lower case, by which writers choose the format. On
    any failure the temporary file is removed and a file at ``path`` is not changed. When the block
    has ended, the file is on the disk with its contents and its name. A file that is replaced keeps
    its permissions, and its owner if this process may set it.

    Parameters
    ----------
    path : path-like
        The file to write.
    overwrite : bool
        Whether a file at ``path`` is replaced, also one that another process writes meanwhile.
    follow_link : bool
        Whether a link to a regular file stays, and that file is replaced; see :func:`written_file`.
        Else the link is replaced.
    like : Path, optional
        File whose permissions a new file gets.
    may_be_empty : bool
        Whether a file without contents is written too.

    Raises
    ------
    StorageError
        If the disk is full, the folder is read-only, or the file cannot be written otherwise; or
        if there is one that may not be replaced, or nothing was written to the temporary file.
    LostFolderError
        If it is in a folder that this process has locked, and that folder is not there any more.
    """
    path = Path(path)
    place = written_file(path) if follow_link else path
    temporary: Path | None = None
    handle: int | None = None
    complete = False
    try:
        check_locks(place)
        make_folder(place.parent)
        before = _regular(place) or (None if like is None else _regular(like.resolve()))
        temporary = place.with_name(
            _temporary_name() + "".join(path.suffixes[-2:]).lower()[-_LONGEST_SUFFIX:]
        )
        # With the permissions of an ordinary new file, or at most those of the file before.
        handle = os.open(temporary, _CREATE, 0o666 if before is None else 0o600)
        handle = _keep_locked(handle)
        yield temporary
        sync_written(temporary, path, may_be_empty=may_be_empty)
        if before is not None:
            _give_permissions(temporary, before)
        check_locks(place)
        if overwrite:
            temporary.replace(place)
        else:
            _rename_new(temporary, place)
        complete = True
        sync_folder(place.parent)
    except OSError as error:
        check_locks(place)  # The folder may have been removed meanwhile, which is the reason then.
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}; {remedy(error)}, then run again."
        ) from error
    finally:
        if temporary is not None and not complete:
            with contextlib.suppress(OSError):  # Such as a folder that is not there any more.
                # Some writers change the end of the name.
                for part in [temporary, *temporary.parent.glob(f"{temporary.name[:_LENGTH]}*")]:
                    part.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def sync_written(temporary: Path, path: Path, *, may_be_empty: bool = False) -> None:
    """Bring the contents of a temporary file to the disk.

    Raises
    ------
    StorageError
        If there are none: a writer that changes the end of the name writes another file.
    OSError
        If the disk reports an error, such as that it is full.
    """
    if not temporary.exists() or not (may_be_empty or temporary.stat().st_size):
        raise StorageError(
            f"Could not write {path}: nothing was written to the temporary file that becomes this "
            "one, so it was not changed; choose another name or format."
        )
    sync_file(temporary)


def written_file(path: Path) -> Path:
    """Return the file that is replaced when labels or their list are written to a path.

    Of a link that is the regular file that it leads to, if its name has the same suffix, so that a
    file on a shared disk is the one that changes. Links to anything else are replaced themselves,
    and so are those of git-annex, whose files never change.

    Raises
    ------
    StorageError
        If the file of a link is missing, such as on a disk that is not connected.
    """
    if not path.is_symlink():
        return path
    place = Path(os.path.realpath(path))
    if not place.exists():
        raise StorageError(
            f"{path} is a link to {str(place)!r}, which is missing; restore that file, or remove "
            "the link."
        )
    same_kind = place.is_file() and place.suffix.lower() == path.suffix.lower()
    return place if same_kind and _ANNEX not in str(place) else path


def _regular(path: Path) -> os.stat_result | None:
    """Properties of a regular file; None if it is another one or missing."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        return found if stat.S_ISREG(found.st_mode) else None
    return None


def _give_permissions(path: Path, before: os.stat_result) -> None:
    """Give a file owner and permissions of another one, as far as the system allows it."""
    if sys.platform != "win32":
        own = path.stat()
        for owner, group in ((before.st_uid, before.st_gid), (-1, before.st_gid)):
            if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
                with contextlib.suppress(OSError):
                    os.chown(path, owner, group)
                    break
    with contextlib.suppress(OSError):  # Such as on FAT, which has no permissions.
        path.chmod(before.st_mode & 0o777)


def _rename_new(temporary: Path, path: Path) -> None:
    try:
        rename_new(temporary, path)
    except FileExistsError as error:
        raise StorageError(
            f"{path} appeared meanwhile, so it was not replaced; choose another name, or give "
            "--overwrite (in Python overwrite=True)."
        ) from error


def write_text(path: str | os.PathLike[str], text: str, *, follow_link: bool = False) -> None:
    r"""Write ``text`` (UTF-8) to ``path`` atomically, as :func:`atomic_path` does.

    Bytes of file names that are not UTF-8 (PEP 383) are written as ``\udce4``, which JSON reads as
    they were.
    """
    with atomic_path(path, follow_link=follow_link, may_be_empty=not text) as temporary:
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
