"""The list of recent projects, in the configuration folder of the user."""

import json
from pathlib import Path

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.safe_json import read_json
from napari_sslseg.core.common.user_folders import user_config_folder
from napari_sslseg.core.project.record import RECORD

MOST_RECENT = 10
_MOST_BYTES = 2**20


def recent_file() -> Path:
    """File of the list."""
    return user_config_folder() / "recent-projects.json"


def recent_projects(file: str | Path | None = None) -> list[Path]:
    """Folders of recent projects, the latest first.

    Missing projects are left out. A missing or damaged list is empty.

    Parameters
    ----------
    file : path-like, optional
        File of the list; by default that of the user.
    """
    return [folder for folder in _listed(file) if _is_project(folder)][:MOST_RECENT]


def remember_project(folder: str | Path, file: str | Path | None = None) -> None:
    """Put a project at the top of the list.

    Raises
    ------
    StorageError
        If the list cannot be written.
    """
    own = Path(folder).absolute()
    # Missing projects are kept, since they may be on a disk that is connected later.
    folders = [own, *(other for other in _listed(file) if other != own)][:MOST_RECENT]
    text = json.dumps([str(path) for path in folders], indent=1)
    write_text(Path(file) if file is not None else recent_file(), text)


def _listed(file: str | Path | None) -> list[Path]:
    try:
        found = read_json(Path(file) if file is not None else recent_file(), _MOST_BYTES)
    except (OSError, ValueError):
        return []
    if not isinstance(found, list):
        return []
    texts = [item for item in found if isinstance(item, str) and item and "\0" not in item]
    return list(dict.fromkeys(Path(text) for text in texts if Path(text).is_absolute()))


def _is_project(folder: Path) -> bool:
    try:
        return (folder / RECORD).is_file()
    except OSError:  # Such as a network error, or a name that is too long.
        return False
