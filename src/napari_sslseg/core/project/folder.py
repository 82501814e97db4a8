"""The folder of a project: opened by one process at a time, its record written at each change."""

import json
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from napari_sslseg.core.common.atomic import remove_leftovers, write_text
from napari_sslseg.core.common.errors import ProjectError
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.project.record import RECORD, ProjectRecord, changed, dumped, read_record

LOCK = "project.lock"
LABELS = "labels"
ASIDE = "aside"
"""Folder in that of the labels: those that were replaced, or whose scan was removed."""

RUNS = "runs"
MOST_REMEMBERED = 2**20
"""Characters of all that a screen asks to be remembered."""


def _busy(folder: Path, number: int | None) -> str:
    where = f"in process {number}" if number else "in this process"
    return f"The project {folder} is open already, {where}; close it there first."


class ProjectFolder:
    """An open project folder; see :class:`~napari_sslseg.core.project.project.Project`.

    Methods may be called from any thread. Each change is on disk when its method returns.
    """

    def __init__(self, folder: Path, held: ExitStack, record: ProjectRecord, text: str) -> None:
        self.folder = folder
        self._held = held
        self._record = record
        self._text = text
        self._written = (folder / RECORD).stat()
        self._changing = threading.RLock()
        self._closed = False

    @classmethod
    def create(cls, folder: str | Path) -> Self:
        """Make a project folder and open it.

        Parameters
        ----------
        folder : path-like
            A new folder, or one that holds no project yet.

        Raises
        ------
        ProjectError
            If it holds a project already.
        StorageError
            If the folder cannot be written.
        """
        folder = Path(os.path.abspath(folder))
        with ExitStack() as held:
            held.enter_context(run_lock(folder, LOCK, _busy))
            if (folder / RECORD).exists() or (folder / RECORD).is_symlink():
                raise ProjectError(
                    f"{folder} holds a project already; open it, or choose another folder."
                )
            _check_inner(folder)
            text = dumped(ProjectRecord(created=datetime.now().isoformat(timespec="seconds")))
            write_text(folder / RECORD, text)
            return cls(folder, held.pop_all(), *read_record(folder))

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a project folder; no scan is read.

        Raises
        ------
        ProjectError
            If there is none, or its record is damaged, or written by a newer version. The record
            is left as it is.
        StorageError
            If another process has it open, with its number; or the folder cannot be written.
        """
        folder = Path(os.path.abspath(folder))
        read_record(folder)  # Before anything is written there.
        with ExitStack() as held:
            held.enter_context(run_lock(folder, LOCK, _busy))
            _check_inner(folder)
            record, text = read_record(folder)  # As whoever had it open left it.
            # No more than that: it may be a folder in which others keep things, too.
            remove_leftovers(folder, f".{Path(RECORD).stem}-*.json", folders=False)
            for labels in (folder / LABELS, folder / LABELS / ASIDE):
                remove_leftovers(labels, ".*.nii.gz", folders=False)
            return cls(folder, held.pop_all(), record, text)

    def close(self) -> None:
        """Let others open the project; all was saved before."""
        self._closed = True
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r}, {len(self._record.scans)} scans)"

    @property
    def record(self) -> ProjectRecord:
        """All that stands in ``project.json``; it never changes, a change makes another one."""
        return self._record

    def remember(self, key: str, value: Any) -> None:
        """Keep something of the screen, such as the chosen network.

        Parameters
        ----------
        key : str
            Its name.
        value : Any
            Whatever JSON can hold; None forgets it.
        """
        try:
            text = json.dumps({"screen": {key: value}}, allow_nan=False)
            kept = parse_json(text.encode())["screen"][key]
            if len(text) > MOST_REMEMBERED:
                raise ValueError("it is too large")
        except (TypeError, ValueError, RecursionError, KeyError) as error:
            raise ProjectError(
                f"The project cannot remember {key!r} ({error}); keep it elsewhere."
            ) from error

        def change(record: ProjectRecord) -> ProjectRecord:
            screen = {name: old for name, old in record.screen.items() if name != key}
            if kept is not None:
                screen[key] = kept
            if len(json.dumps(screen)) > MOST_REMEMBERED:
                raise ProjectError(f"The project remembers too much to add {key!r}; forget some.")
            return changed(record, screen=screen)

        self.change(change)

    def recall(self, key: str, default: Any = None) -> Any:
        """What was remembered by this name.

        Parameters
        ----------
        key : str
            Its name.
        default : Any
            Given if nothing was, or what is no value of this kind: others may have written it.
        """
        found = self._record.screen.get(key, default)
        return found if default is None or isinstance(found, type(default)) else default

    def change(self, change: Callable[[ProjectRecord], ProjectRecord]) -> ProjectRecord:
        """Replace the record, on disk first; the new one."""
        with self._changing:
            new = change(self._record)
            if new == self._record:
                return new
            self._check_there()
            text = dumped(new)
            write_text(self.folder / RECORD, text)
            self._record, self._text = new, text
            self._written = (self.folder / RECORD).stat()
            return new

    def _check_there(self) -> None:
        """Refuse to write where the project is gone, closed, or changed by somebody else."""
        if self._closed:
            raise ProjectError(f"The project {self.folder} is closed; open it again.")
        path = self.folder / RECORD
        try:
            now = path.stat()
            same = (now.st_size, now.st_mtime_ns) == (
                self._written.st_size,
                self._written.st_mtime_ns,
            ) or path.read_bytes() == self._text.encode()
        except OSError as error:
            raise ProjectError(
                f"{path} is gone ({error.strerror or error}), so nothing was saved; put the folder "
                "back, or open it where it lies now."
            ) from error
        if not same:
            raise ProjectError(
                f"{path} was changed by another program while the project was open, and is left "
                "as it is; close the project and open it again."
            )
        _check_inner(self.folder)


def _check_inner(folder: Path) -> None:
    """Refuse folders of labels and runs that lead out of the project."""
    root = folder.resolve()
    for inner in (folder / LABELS, folder / LABELS / ASIDE, folder / RUNS):
        if inner.is_symlink() and not inner.resolve().is_relative_to(root):
            raise ProjectError(
                f"{inner} is a link that leads out of the project; put the folder itself there."
            )
