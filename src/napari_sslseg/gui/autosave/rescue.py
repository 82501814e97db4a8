"""A folder outside the project for labels that cannot be saved in it."""

import os
import zlib
from collections.abc import Iterator
from datetime import datetime
from glob import escape
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.user_folders import user_data_folder
from napari_sslseg.gui.model.jobs import Problem

if TYPE_CHECKING:
    from napari_sslseg.core.scans.volume import Volume
    from napari_sslseg.gui.model.session import Session


MOST_BYTES = 80
"""Length of a part of a file name; file systems allow 255 bytes for the whole."""

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
    return _numbered(_stem(project, name))


def _stem(project: Path, name: str) -> str:
    return f"{_label(project, name)} unsaved {_mark(project, name)}"


def _label(project: Path, name: str) -> str:
    """Names of the project and the scan, as far as a file name has room for them."""
    return " ".join(_shorten(part) for part in (project.name, name))


def _shorten(name: str) -> str:
    room = os.fsencode(name)[:MOST_BYTES].decode(errors="ignore")
    return name if len(os.fsencode(name)) <= MOST_BYTES else f"{room}…"


def _mark(project: Path, name: str) -> str:
    """Projects in different folders may have the same name, and shortened names may be equal."""
    mark = zlib.crc32(os.fsencode(project.resolve()))
    short = len(os.fsencode(name)) <= MOST_BYTES
    return f"{mark:08x}" if short else f"{zlib.crc32(os.fsencode(name), mark):08x}"


def _numbered(stem: str) -> Iterator[Path]:
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
    save_labels(labels, path, like=like, overwrite=True)
    return path


def report_backups(session: "Session") -> None:
    """Report backups of the project that is opened, left by a window that was killed."""
    project = session.project
    for name in project.names if project is not None else ():
        assert project is not None
        # Some of them may have been deleted.
        for path in sorted(rescue_folder().glob(f"{escape(_stem(project.folder, name))}*.nii.gz")):
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
    stem = f"{_label(project, name)} {moment} {_mark(project, name)}"
    try:
        path = next(path for path in _numbered(stem) if not path.exists())
        save_labels(labels, path, like=like, overwrite=False)
    except (SslsegError, OSError) as error:
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
