"""The folder of a run of several stages: its stages, and their removal when it is overwritten."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.runs.record import PLAN
from napari_sslseg.core.runs.run_files import remove_run_files, remove_samples

EARLIER = ("first-stage", "second-stage")
"""Folders of the stages before the last one, which is in the run folder itself."""


def is_staged(folder: Path) -> bool:
    """Whether a folder is the folder of a run of several stages."""
    return (folder / PLAN).is_file()


def stage_folders(folder: Path) -> list[Path]:
    """Folders of the stages before the last one, which need not exist."""
    return [folder / name for name in EARLIER]


def remove_plan(folder: Path) -> None:
    """Remove the plan and the earlier stages of a run that a run of one stage overwrites.

    Raises
    ------
    StorageError
        If a process works in one of them, or they cannot be removed.
    """
    if not is_staged(folder):
        return
    with removing(folder):
        for path in stage_folders(folder):
            remove_stage(path)
        (folder / PLAN).unlink(missing_ok=True)


def remove_stage(folder: Path) -> None:
    """Remove a run folder, except for files that do not belong to a run."""
    if folder.is_symlink():
        folder.unlink()  # The target of the link is not part of the run.
    elif folder.is_dir():
        with run_lock(folder):
            remove_run_files(folder)
            remove_samples(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextmanager
def removing(folder: Path) -> Iterator[None]:
    """Turn an OSError while files are removed into a StorageError with the folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The older run in {folder} cannot be removed ({error.strerror or error}); choose "
            "another folder, or make this one writable."
        ) from error
