"""Where labels go that cannot be saved in their project: the last copy of somebody's work."""

import zlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.gui.model.jobs import Problem

if TYPE_CHECKING:
    from napari_sslseg.core.scans.volume import Volume
    from napari_sslseg.gui.model.session import Session


UNSAVED = "The labels are not saved:"
FOREIGN = (
    "Another program wrote labels of {name} while they were open here. Yours are saved; its file is"
    " kept in labels/aside of the project, from where it can be imported."
)
KEPT_ASIDE = (
    "The labels of {name} of {when} could not be saved in this project then; they are in {path}. "
    "Import them from there, or delete that file if they are not wanted."
)


def rescue_folder() -> Path:
    """Folder of the user for labels whose project could not take them."""
    from platformdirs import user_data_path

    return user_data_path("napari-sslseg") / "rescued labels"


def _aside_name(project: Path, name: str) -> str:
    # Projects in different places may have the same name.
    mark = zlib.crc32(str(project.resolve()).encode())
    return f"{project.name} {name} unsaved {mark:08x}.nii.gz"


def keep_aside(project: Path, name: str, labels: np.ndarray, like: "Volume") -> Path:
    """Write labels that their project cannot take now to the folder of the user, over older ones.

    Raises
    ------
    SslsegError
        If they cannot be written there either.
    """
    from napari_sslseg.core.scans.labels import save_labels

    path = rescue_folder() / _aside_name(project, name)
    save_labels(labels, path, like=like)
    return path


def tell_kept_aside(session: "Session") -> None:
    """Say which labels of a project that is opened are aside, from a window that was killed."""
    project = session.project
    for name in project.names if project is not None else ():
        assert project is not None
        path = rescue_folder() / _aside_name(project.folder, name)
        if path.exists():
            when = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
            session.problem.emit(Problem(KEPT_ASIDE.format(name=name, when=when, path=path)))


def rescue(
    session: "Session", project: Path, name: str, labels: np.ndarray, like: "Volume"
) -> Path | None:
    """Write labels to the folder of the user and say where; the file, or None if that failed."""
    from napari_sslseg.core.scans.labels import save_labels

    moment = datetime.now().strftime("%Y-%m-%d %H-%M-%S")
    path = rescue_folder() / f"{project.name} {name} {moment}.nii.gz"
    try:
        save_labels(labels, path, like=like)
    except SslsegError as error:
        session.problem.emit(
            Problem(f"The last labels of {name} could be saved nowhere and are lost: {error}")
        )
        return None
    session.problem.emit(
        Problem(
            f"The last labels of {name} could not be saved in the project and are in {path}; "
            "import them from there."
        )
    )
    return path
