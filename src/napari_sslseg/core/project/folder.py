"""The folder of a project: the lock of one process, and the record that each change writes."""

import json
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from napari_sslseg.core.common.atomic import remove_leftovers, write_text
from napari_sslseg.core.common.errors import ProjectError, ReadOnlyFolderError
from napari_sslseg.core.common.lock import check_locks, run_lock
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.record import (
    RECORD,
    ProjectRecord,
    ScanEntry,
    format_record,
    read_record,
    with_changes,
)

LOCK = "project.lock"
LABELS = "labels"
ASIDE = "aside"
"""Folder within that of the labels, for labels that were replaced or whose scan was removed."""

RUNS = "runs"
MOST_REMEMBERED = 2**20
"""Characters of all values that the window remembers in a project."""


class ProjectFolder:
    """Folder, lock and record of an open project, shared by its parts.

    Methods may be called from any thread. A change is on disk when its method returns.

    Attributes
    ----------
    path : Path
        The folder.
    changing : RLock
        Held while the record is changed.
    replacing_labels : RLock
        Held while a label file is replaced; acquired before ``changing``, never after.
    note : str or None
        A sentence for the user if the folder is read-only, or on a disk without locks.
    read_only : bool
        Whether nothing can be written, so that every change is refused.
    """

    def __init__(
        self,
        path: Path,
        resources: ExitStack,
        record: ProjectRecord,
        text: str,
        *,
        note: str | None = None,
        read_only: bool = False,
    ) -> None:
        self.path = path
        self.note = note
        self.read_only = read_only
        self.changing = threading.RLock()
        self.replacing_labels = threading.RLock()
        self._resources = resources
        self._record = record
        self._text = text
        self._written = (path / RECORD).stat()
        self._closed = False

    @classmethod
    def create(cls, path: str | Path) -> Self:
        """Create a project folder and lock it; see ``Project.create``."""
        path = Path(os.path.abspath(path))
        with ExitStack() as resources:
            note = resources.enter_context(run_lock(path, LOCK, _busy_message)).note
            if (path / RECORD).exists() or (path / RECORD).is_symlink():
                raise ProjectError(
                    f"{path} is a project already; open it, or choose another folder."
                )
            _check_inner_folders(path)
            created = datetime.now().isoformat(timespec="seconds")
            write_text(path / RECORD, format_record(ProjectRecord(created=created)))
            return cls(path, resources.pop_all(), *read_record(path), note=note)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Lock and read a project folder; see ``Project.open``."""
        path = Path(os.path.abspath(path))
        read_record(path)  # Refuses other folders before anything is written to them.
        with ExitStack() as resources:
            try:
                note = resources.enter_context(run_lock(path, LOCK, _busy_message)).note
            except ReadOnlyFolderError:
                _check_inner_folders(path)
                return cls(
                    path, ExitStack(), *read_record(path), note=_read_only(path), read_only=True
                )
            _check_inner_folders(path)
            record, text = read_record(path)  # Another process may have changed it until now.
            for folder in (path, path / LABELS, path / LABELS / ASIDE):
                remove_leftovers(folder, alone=True)
            return cls(path, resources.pop_all(), record, text, note=note)

    def close(self) -> None:
        """Release the lock, after a label file that is being replaced is written."""
        with self.replacing_labels:
            self._closed = True
            self._resources.close()

    @property
    def record(self) -> ProjectRecord:
        """Contents of ``project.json``. The object never changes; a change replaces it."""
        return self._record

    def entry(self, name: str) -> ScanEntry:
        """Return the entry of a scan in the record; its files are not read."""
        for scan in self._record.scans:
            if scan.name == name:
                return scan
        raise ProjectError(
            f"The project {self.path} has no scan named {printable(name, 100)}; choose one that "
            "it lists."
        )

    def change(self, change: Callable[[ProjectRecord], ProjectRecord]) -> ProjectRecord:
        """Replace the record, on disk first, and return the new one."""
        with self.changing:
            new = change(self._record)
            if new == self._record:
                return new
            self.check_unchanged()
            text = format_record(new)
            write_text(self.path / RECORD, text)
            self._record, self._text = new, text
            self._written = (self.path / RECORD).stat()
            return new

    def change_entry(self, name: str, **changes: Any) -> ScanEntry:
        """Change the entry of a scan in the record, and return the new one."""

        def change(record: ProjectRecord) -> ProjectRecord:
            entry = self.entry(name)
            scans = (with_changes(s, **changes) if s is entry else s for s in record.scans)
            return with_changes(record, scans=tuple(scans))

        self.change(change)
        return self.entry(name)

    def remember(self, key: str, value: Any) -> None:
        """Keep a value for the window, such as the chosen network.

        Parameters
        ----------
        key : str
            Name of the value.
        value : Any
            Whatever JSON can represent; None removes the value. A read-only project does not keep
            it.
        """
        if self.read_only:
            return
        try:
            text = json.dumps({"screen": {key: value}}, allow_nan=False)
            kept = parse_json(text.encode())["screen"][key]
            if len(text) > MOST_REMEMBERED:
                raise ValueError("it is too large")
        except (TypeError, ValueError, RecursionError, KeyError) as error:
            raise ProjectError(
                f"The project cannot store {key!r} ({error}); store it elsewhere."
            ) from error

        def change(record: ProjectRecord) -> ProjectRecord:
            screen = {name: old for name, old in record.screen.items() if name != key}
            if kept is not None:
                screen[key] = kept
            if len(json.dumps(screen)) > MOST_REMEMBERED:
                raise ProjectError(
                    f"The project stores too many values to add {key!r}; remove some."
                )
            return with_changes(record, screen=screen)

        self.change(change)

    def recall(self, key: str, default: Any = None) -> Any:
        """Return a value that :meth:`remember` stored.

        Parameters
        ----------
        key : str
            Name of the value.
        default : Any
            Returned if there is no value, or one of another type, which another program wrote.
        """
        found = self._record.screen.get(key, default)
        return found if default is None or isinstance(found, type(default)) else default

    def check_unchanged(self) -> None:
        """Refuse to write to a project that was closed, moved, or changed by another program."""
        if self._closed:
            raise ProjectError(f"The project {self.path} is closed; open it again.")
        if self.read_only:
            raise ProjectError(_read_only(self.path))
        path = self.path / RECORD
        try:
            now = path.stat()
            same = (now.st_size, now.st_mtime_ns) == (
                self._written.st_size,
                self._written.st_mtime_ns,
            ) or path.read_bytes() == self._text.encode()
        except OSError as error:
            raise ProjectError(
                f"{path} is missing ({error.strerror or error}), so nothing was saved; put the "
                "folder back, or open it where it is now."
            ) from error
        if not same:
            raise ProjectError(
                f"{path} was changed by another program while the project was open, and was not "
                "overwritten; close the project and open it again."
            )
        check_locks(path)
        _check_inner_folders(self.path)


def _read_only(folder: Path) -> str:
    return (
        f"Nothing can be written to the project {folder}, so it is open for reading only; to "
        "change it, copy the folder to where you may write, and open the copy."
    )


def _busy_message(folder: Path, process: int | None) -> str:
    where = f"in process {process}" if process else "in this process"
    return f"The project {folder} is already open {where}; close it there first."


def _check_inner_folders(path: Path) -> None:
    """Refuse folders of labels and runs that are links to outside the project."""
    root = path.resolve()
    for inner in (path / LABELS, path / LABELS / ASIDE, path / RUNS):
        if inner.is_symlink() and not inner.resolve().is_relative_to(root):
            raise ProjectError(
                f"{inner} is a link to outside the project; put the folder itself there."
            )
