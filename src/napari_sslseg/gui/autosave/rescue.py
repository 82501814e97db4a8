"""A folder outside the project for labels that cannot be saved in it."""

import os
import zlib
from collections.abc import Iterator
from datetime import datetime
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.user_folders import user_data_folder
from napari_sslseg.gui.model.jobs import Problem

if TYPE_CHECKING:
    from napari_sslseg.core.scans.volume import Volume
    from napari_sslseg.gui.model.session import Session


UNSAVED = "The labels could not be saved:"
FOREIGN = (
    "Another program changed the labels of {name} while they were open here. Yours are saved; the "
    "other file is in labels/aside of the project, and can be imported from there."
)
RESCUED = (
    "The labels of {name} of {when} could not be saved in this project; they are in {path}. Import "
    "them from there, or delete that file if you do not need them."
)


def rescue_folder() -> Path:
    """Return the folder for rescued labels in the data folder of the user."""
    return user_data_folder() / "rescued labels"


def _backups(project: Path, name: str) -> Iterator[Path]:
    """Yield the files for backups of a scan, of which any number may exist."""
    # Projects in different folders may have the same name.
    mark = zlib.crc32(os.fsencode(project.resolve()))
    stem = f"{project.name} {name} unsaved {mark:08x}"
    yield rescue_folder() / f"{stem}.nii.gz"
    for number in count(2):
        yield rescue_folder() / f"{stem} {number}.nii.gz"


def write_backup(
    project: Path, name: str, labels: np.ndarray, like: "Volume", earlier: Path | None = None
) -> Path:
    """Write labels to the folder for rescued labels.

    Parameters
    ----------
    project : Path
        Folder of the project.
    name : str
        The scan.
    labels : ndarray
        Labels in the display grid.
    like : Volume
        The scan that the labels belong to.
    earlier : Path, optional
        An earlier backup of the same labels, which is replaced. All others stay.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SslsegError
        If they cannot be written.
    """
    from napari_sslseg.core.scans.labels import save_labels

    path = earlier or next(path for path in _backups(project, name) if not path.exists())
    save_labels(labels, path, like=like)
    return path


def report_backups(session: "Session") -> None:
    """Report backups of the project that is opened, left by a window that was killed."""
    project = session.project
    for name in project.names if project is not None else ():
        assert project is not None
        for path in takewhile(Path.exists, _backups(project.folder, name)):
            when = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
            session.problem.emit(Problem(RESCUED.format(name=name, when=when, path=path)))


def rescue_labels(
    session: "Session", project: Path, name: str, labels: np.ndarray, like: "Volume"
) -> Path | None:
    """Write labels to a new file in the folder for rescued labels, and report its path.

    Returns
    -------
    Path or None
        The file; None if it could not be written, which is reported as well.
    """
    from napari_sslseg.core.scans.labels import save_labels

    moment = datetime.now().strftime("%Y-%m-%d %H-%M-%S")
    path = rescue_folder() / f"{project.name} {name} {moment}.nii.gz"
    try:
        save_labels(labels, path, like=like)
    except SslsegError as error:
        session.problem.emit(
            Problem(f"The last labels of {name} could not be saved anywhere and are lost: {error}")
        )
        return None
    session.problem.emit(
        Problem(
            f"The last labels of {name} could not be saved in the project and are in {path}; "
            "import them from there."
        )
    )
    return path
