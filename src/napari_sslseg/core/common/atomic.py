"""Write a file as a whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sslseg.core.common.errors import StorageError

# Names that the standard library gives to temporary files, after the dot and the stem.
LEFTOVER = re.compile(r"\.[^.]+-[a-z0-9_]{8}(\..*)?")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; sync and rename it if the block succeeds.

    The temporary name has the suffixes of ``path``, by which writers choose the format. On any
    failure the temporary file is removed and a file at ``path`` is not changed.

    Raises
    ------
    StorageError
        If the disk is full, the folder is read-only, or the file cannot be written otherwise.
    """
    path = Path(path)
    stem = path.name.split(".")[0]
    suffix = path.name[len(stem) :]
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{stem}-", suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp creates private files; the result gets the permissions of an ordinary new file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}; "
            "free some space or choose another folder, then run again."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, pattern: str = ".*", *, folders: bool = True) -> None:
    """Remove temporary files that a killed process left in a folder.

    These are the files of :func:`atomic_path`, and folders with such names. Use it only if no
    other process writes to the folder.

    Parameters
    ----------
    folder : Path
        Folder to search, without folders in it.
    pattern : str
        Pattern of the names, for folders that may have files of other programs.
    folders : bool
        Whether to remove folders as well.
    """
    for path in folder.glob(pattern):
        if not LEFTOVER.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            if folders:
                shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Write ``text`` (UTF-8) to ``path`` atomically.

    Bytes of file names that are not UTF-8 (PEP 383) are written as ``\udce4``, which JSON reads as
    they were.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
