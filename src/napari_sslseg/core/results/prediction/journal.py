"""Which predictions in a folder are complete, so that an interrupted prediction can be resumed.

Each line of ``predictions.jsonl`` has the name of a file, the hash of its contents, the scan and
the settings. It is written before the file gets its name. A file counts as complete only if its
contents are those of its line, so that a file of somebody else, or one that was changed since, is
never taken for a prediction.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from napari_sslseg.core.common.atomic import TemporaryFolder, atomic_path, sync_written
from napari_sslseg.core.common.errors import StorageError, remedy
from napari_sslseg.core.common.lock import check_locks
from napari_sslseg.core.common.safe_files import open_own, read_regular
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.sync import rename_new, sync_file, sync_folder
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.runs.lineage import Use
from napari_sslseg.core.runs.provenance import file_hash
from napari_sslseg.core.scans.series import Series

JOURNAL = "predictions.jsonl"
MOST_BYTES = 256 * 2**20
_BEGIN = b'{"time": "'


class PredictionJournal:
    """The predictions in a folder that were made with the same settings.

    Parameters
    ----------
    folder : Path
        The folder of the predictions, which need not exist.
    settings : mapping
        What decides the predictions: weights, classes, and options. Values that JSON can hold.

    Raises
    ------
    StorageError
        If the journal cannot be read, or is a file of another program.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / JOURNAL
        self.settings = json.loads(json.dumps(settings))
        self._lines = _read(self.path, own=True)

    def why_not_of_scan(self, target: Path, stamp: str) -> str | None:
        """Why a file is not a prediction of a scan, with any settings; None if it is.

        Parameters
        ----------
        target : Path
            The file.
        stamp : str
            What identifies the scan, as in :meth:`write`.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        line = self._lines.get(target.name)
        if line is None or line.get("content") != file_hash(target):
            return "was not written by this prediction, or was changed since"
        if line.get("scan") != stamp:
            return "is the prediction of another scan, or of a scan that was changed since"
        return None

    def why_not_complete(self, target: Path, scan: Series) -> str | None:
        """Why a file is not the complete prediction of a scan with these settings; None if it is.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        if reason := self.why_not_of_scan(target, scan_stamp(scan)):
            return reason
        before = self._lines[target.name].get("settings")
        if before != self.settings:
            names = [
                name
                for name, value in self.settings.items()
                if not isinstance(before, dict) or before.get(name) != value
            ]
            return f"was made with other settings ({', '.join(names)})"
        return None

    def use(self, target: Path) -> Use | None:
        """How the run had used the scan of a prediction; None if that is not known."""
        return use_in(self._lines.get(target.name))

    def write(
        self,
        file: Path,
        target: Path,
        stamp: str,
        write_names: Callable[[], None] = lambda: None,
        *,
        use: Use | None = None,
        overwrite: bool = False,
    ) -> None:
        """Note a file that is complete under another name, and give it its name.

        Parameters
        ----------
        file, target : Path
            The file, and its name.
        stamp : str
            What identifies the scan that is predicted, such as :func:`scan_stamp` before the scan
            was read.
        write_names : callable
            Writes the names of the classes, directly before the file gets its name.
        use : str, optional
            How the run used the scan, if its record says so.
        overwrite : bool
            Whether a file of that name is replaced.

        Raises
        ------
        StorageError
            If one of them cannot be written, or there is a file of that name that may not be
            overwritten.
        """
        if not overwrite and os.path.lexists(target):
            raise _appeared(target)
        line = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "file": target.name,
            "content": file_hash(file),
            "scan": stamp,
            "settings": self.settings,
            "use": use,
        }
        try:
            check_locks(target)
            if overwrite and os.path.lexists(target):
                # A file that is replaced keeps its place behind a link, and its permissions.
                with atomic_path(target, follow_link=True) as temporary:
                    shutil.copyfile(file, temporary)
                    sync_written(temporary, target)
                    self._append(json.dumps(line).encode())
                    write_names()
            else:
                self._append(json.dumps(line).encode())
                sync_file(file)
                write_names()
                rename_new(file, target)
                sync_folder(target.parent)
            self._lines[target.name] = line
        except FileExistsError as error:
            raise _appeared(target) from error
        except OSError as error:
            raise StorageError(
                f"Could not write {target}: {error.strerror or error}; {remedy(error)}, then "
                "continue with --resume."
            ) from error

    def _append(self, line: bytes) -> None:
        """Append a line in one write, since other processes may write to the same folder."""
        handle = open_own(self.path)
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            if end:
                os.lseek(handle, end - 1, os.SEEK_SET)
                line = line if os.read(handle, 1) == b"\n" else b"\n" + line
            os.write(handle, line + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)


def written_lines(files: Iterable[Path]) -> dict[Path, Mapping[str, Any]]:
    """Read what the journals beside predictions say of them.

    Parameters
    ----------
    files : iterable of Path
        Label files. One that the journal of its folder does not have, or that was changed since,
        is left out.

    Raises
    ------
    StorageError
        If a journal cannot be read.
    """
    journals: dict[Path, dict[str, Mapping[str, Any]]] = {}
    found: dict[Path, Mapping[str, Any]] = {}
    for file in files:
        if file.parent not in journals:
            journals[file.parent] = _read(file.parent / JOURNAL)
        line = journals[file.parent].get(file.name)
        if line is not None and file.is_file() and line.get("content") == file_hash(file):
            found[file] = line
    return found


def use_in(line: Mapping[str, Any] | None) -> Use | None:
    """How the run that made a prediction had used its scan; None if a journal does not say it."""
    return next((word for word in get_args(Use) if line and word == line.get("use")), None)


def _read(path: Path, *, own: bool = False) -> dict[str, Mapping[str, Any]]:
    """Lines of a journal by the names of their files; the last one of each file counts.

    With ``own``, a file of another program is refused, since lines will be added to it.
    """
    try:
        data = read_regular(path, MOST_BYTES) if path.exists() else b""
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path} cannot be read ({printable(error, 200)}); choose another folder."
        ) from error
    lines: dict[str, Mapping[str, Any]] = {}
    for text in data.splitlines():
        try:
            line = parse_json(text)
        except ValueError:  # A process that was killed leaves a part of a line.
            line = None
        if isinstance(line, dict) and isinstance(line.get("file"), str) and "content" in line:
            lines[line["file"]] = line
        elif own and (line is not None or not _is_part(text)):
            raise StorageError(
                f"{path} is not a journal of predictions of this program, so nothing is added to "
                "it; move it away, or choose another folder."
            )
    return lines


def _is_part(text: bytes) -> bool:
    """Whether text can be a part of a line, or the zeros that a power cut may leave."""
    return text.startswith(_BEGIN) or _BEGIN.startswith(text) or not text.strip(b"\0 ")


def staging_folder(out: Path) -> TemporaryFolder:
    """Make a folder for files that are not complete.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    try:
        return TemporaryFolder(out)
    except OSError as error:
        raise StorageError(
            f"Could not write to {out}: {error.strerror or error}; {remedy(error)}."
        ) from error


def _appeared(target: Path) -> StorageError:
    return StorageError(
        f"{target} appeared during the prediction, so it was not replaced; move it, or choose "
        "another folder, then continue with --resume."
    )


def scan_stamp(scan: Series) -> str:
    """Hash names, sizes and times of the files of a scan; compute it before the scan is read."""
    total = hashlib.blake2b(scan.name.encode(errors="surrogateescape"), digest_size=16)
    for path in scan.files:
        found = path.stat()
        total.update(f"\0{found.st_size} {found.st_mtime_ns}".encode())
        total.update(os.fsencode(path.name))
    return total.hexdigest()
