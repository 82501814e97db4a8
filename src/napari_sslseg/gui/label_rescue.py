"""Where labels go that cannot be saved in their project: the last copy of somebody's work."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.errors import SslsegError
from napari_sslseg.gui.jobs import Problem

if TYPE_CHECKING:
    from napari_sslseg.core.volumes import Volume
    from napari_sslseg.gui.session import Session


UNSAVED = "The labels are not saved:"
FOREIGN = (
    "Another program wrote labels of {name} while they were open here. Yours are saved; its file is"
    " kept in labels/aside of the project, from where it can be imported."
)


def rescue_folder() -> Path:
    """Folder of the user for labels whose project could not take them."""
    from platformdirs import user_data_path

    return user_data_path("napari-sslseg") / "rescued labels"


def rescue(
    session: "Session", project: Path, name: str, labels: np.ndarray, like: "Volume"
) -> Path | None:
    """Write labels to the folder of the user and say where; the file, or None if that failed."""
    from napari_sslseg.core.label_maps import save_labels

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
