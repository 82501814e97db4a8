"""The history of a run, ``events.jsonl``: one line of JSON for each event."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, BinaryIO

from napari_sslseg.core.common.errors import CheckpointError, SslsegError, StorageError, remedy
from napari_sslseg.core.common.events import Done, Event, Message, Saved, Status, Validation
from napari_sslseg.core.common.safe_files import HISTORY, open_own
from napari_sslseg.core.common.sync import sync_folder
from napari_sslseg.core.runs.record import read_record

LOG = HISTORY
LONGEST_LINE = 2**20
"""Bytes at the end of the file in which the last complete line is searched."""

RECORDED = (Message, Validation, Saved, Status)
SYNCED = (Saved, Status)
"""Events after which the history is synced: the same promise as for the state that was saved."""


class EventLog:
    """Appends events to the history of a run, each with the time.

    A process that is killed loses no event. A power cut loses those after the last saved state,
    pause or end at most.

    Events before :meth:`open`, when the folder is not yet locked for this run, are written later.
    Steps are not written, since ``metrics.csv`` has them.

    Parameters
    ----------
    folder : Path
        Run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: list[str] = []
        self._file: IO[str] | None = None

    def open(self, *, fresh: bool) -> None:
        """Start a new history, or append to that of the run."""
        path = self.folder / LOG
        try:
            file = os.fdopen(open_own(path), "rb+")
            file.truncate(file.seek(0 if fresh else _end(file)))
            sync_folder(self.folder)
            self._file = TextIOWrapper(file, encoding="utf-8", newline="\n")
        except OSError as error:
            raise self._cannot(error) from error
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self._write(line)

    def add(self, event: Event) -> None:
        """Write an event if it is of a type that the history has."""
        if isinstance(event, RECORDED):
            values = {field.name: getattr(event, field.name) for field in fields(event)}
            kind = Message if isinstance(event, Message) else type(event)
            self.line(kind.__name__, **values)
            if isinstance(event, SYNCED):
                self.sync()

    def line(self, kind: str, **values: Any) -> None:
        """Write one line."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write(json.dumps({"time": time, "event": kind, **values}, default=self._plain))

    def sync(self) -> None:
        """Bring all lines to the disk."""
        if self._file is None:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._cannot(error) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _plain(self, value: Any) -> str:
        inside = isinstance(value, Path) and value.is_relative_to(self.folder)
        return str(value.relative_to(self.folder) if inside else value)

    def _write(self, line: str) -> None:
        if self._file is None:
            self._waiting.append(line)
            return
        try:
            self._file.write(f"{line}\n")
            self._file.flush()
        except OSError as error:
            raise self._cannot(error) from error

    def _cannot(self, error: OSError) -> StorageError:
        return StorageError(
            f"Could not write {self.folder / LOG}: {error.strerror or error}; {remedy(error)}."
        )


def record_events(events: Iterator[Event], log: EventLog) -> Iterator[Event]:
    """Yield events on, and write them and the end of the run to its history."""
    ended = False
    try:
        for event in events:
            log.add(event)
            if isinstance(event, Done):
                ended = True
                if event.result is not None:
                    log.line("End", status=event.result.record["status"])
                    log.sync()
            yield event
    except (SslsegError, KeyboardInterrupt, GeneratorExit) as error:
        # The generator is closed first, since it may still save files and report that.
        close = getattr(events, "close", None)
        if close is not None:
            close()
        status = "failed" if isinstance(error, SslsegError) else _status(log.folder)
        # If the disk is full, the original error is more informative.
        with contextlib.suppress(StorageError):
            if not ended:
                log.line("End", status=status, text=str(error))
                log.sync()
        raise
    finally:
        log.close()


def _status(folder: Path) -> str:
    """How a run was stopped: ``interrupted`` if its record says that steps were not saved."""
    with contextlib.suppress(CheckpointError):  # It may have been stopped before it had a record.
        if read_record(folder).get("status") == "interrupted":
            return "interrupted"
    return "stopped"


def _end(file: BinaryIO) -> int:
    """End of the last complete line; a crash may have left an incomplete one after it."""
    size = file.seek(0, os.SEEK_END)
    begin = file.seek(max(0, size - LONGEST_LINE))
    found = file.read(LONGEST_LINE).rfind(b"\n") + 1
    # A longer line was not written by this program, and stays.
    return size if begin and not found else begin + found
