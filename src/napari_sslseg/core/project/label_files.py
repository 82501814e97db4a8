"""The label files of a project: their paths, changes by other programs, and replaced files."""

from pathlib import Path

from napari_sslseg.core.common.atomic import atomic_path, written_file
from napari_sslseg.core.common.sync import sync_folder
from napari_sslseg.core.common.text import fold_name
from napari_sslseg.core.project.folder import ASIDE, LABELS, ProjectFolder
from napari_sslseg.core.project.names import free_name

SUFFIX = ".nii.gz"


class LabelFiles:
    """Label files of the scans of a project.

    Parameters
    ----------
    folder : ProjectFolder
        The project.
    """

    def __init__(self, folder: ProjectFolder) -> None:
        self._folder = folder
        self._known: dict[str, tuple[int, int]] = {}

    def path(self, name: str) -> Path:
        """File of the labels of a scan, which need not exist."""
        return self._folder.path / LABELS / f"{self._folder.entry(name).name}{SUFFIX}"

    def exists(self, name: str) -> bool:
        """Whether labels of a scan were ever saved."""
        return self.path(name).is_file()

    def problem(self, name: str) -> str | None:
        """Why the labels of a scan cannot be used, in one sentence; None if they can."""
        path = self.path(name)
        if not self._folder.entry(name).done or path.is_file():
            return None
        return (
            f"The labels of {name} are missing: {path} does not exist, but slices of the scan are "
            "done; put the file back, or unmark the slices."
        )

    def changed(self, name: str) -> bool:
        """Whether another program wrote labels of a scan after they were read or saved here."""
        known = self._known.get(name)
        return known is not None and known != file_state(self.path(name))

    def needs_copy(self, name: str) -> bool:
        """Whether the file has labels that were neither read nor saved in this session."""
        return self.exists(name) and self._known.get(name) != file_state(self.path(name))

    def note_state(self, name: str, state: tuple[int, int] | None = None) -> None:
        """Take the labels of a scan as known: as the file is now, or as ``state`` says."""
        self._known[name] = file_state(self.path(name)) if state is None else state

    def forget_state(self, name: str) -> None:
        """Take the labels of a scan as not read."""
        self._known.pop(name, None)

    def taken_names(self) -> set[str]:
        """Names of label files, folded; they may be of scans that were removed."""
        return _names_in(self._folder.path / LABELS)

    def put_aside(self, labels: Path, *, move: bool) -> Path:
        """Keep a copy of a label file in the folder for replaced labels.

        Parameters
        ----------
        labels : Path
            The file.
        move : bool
            Whether to remove the file itself.

        Returns
        -------
        Path
            The copy.
        """
        self._folder.check_unchanged()
        folder = self._folder.path / LABELS / ASIDE
        name = free_name(labels.name.removesuffix(SUFFIX), _names_in(folder))
        target = folder / f"{name}{SUFFIX}"
        with atomic_path(target, like=labels) as temporary:
            temporary.write_bytes(labels.read_bytes())
        if move:
            labels.unlink()
        return target

    def put_back(self, name: str, kept: Path | None, *, seen: bool) -> None:
        """Undo the replacement of labels.

        Parameters
        ----------
        name : str
            The scan.
        kept : Path or None
            Their copy, which is moved back; None if there were none.
        seen : bool
            Whether they were read or saved in this session.
        """
        path = self.path(name)
        if kept is None:
            path.unlink(missing_ok=True)
        else:
            self._move_back(kept, path)
        sync_folder(path.parent)
        if seen:
            self.note_state(name)

    @staticmethod
    def _move_back(kept: Path, path: Path) -> None:
        if written_file(path) == path:
            kept.replace(path)  # Needs no space on the disk.
            return
        with atomic_path(path, follow_link=True) as temporary:  # It may lie on another disk.
            temporary.write_bytes(kept.read_bytes())
        kept.unlink()


def file_state(path: Path) -> tuple[int, int]:
    """Time of a file in ns and its size, which change when it is written; zeros if missing."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _names_in(folder: Path) -> set[str]:
    return {fold_name(file.name.removesuffix(SUFFIX)) for file in folder.glob(f"*{SUFFIX}")}
