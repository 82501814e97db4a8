"""A run is a folder with its record, metrics, history and weights.

::

    run.json            kind, settings, scans, classes, seed, device, versions, status
    metrics.csv         loss, learning rate and validation figures by step
    events.jsonl        history: messages, validations, saved files, status
    states/             training states to resume from, see state_files.py; removed at the end
    last.safetensors    the latest weights, with last.json
    best.safetensors    weights with the best validation, with best.json
"""

import csv
import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.compute.distributed import is_first
from napari_sslseg.core.common.errors import (
    PATH,
    CheckpointError,
    LostFolderError,
    StorageError,
    check_type,
)
from napari_sslseg.core.common.lock import check_locks
from napari_sslseg.core.common.safe_files import open_regular
from napari_sslseg.core.common.sync import make_folder, sync_folder
from napari_sslseg.core.common.text import LONGEST, printable
from napari_sslseg.core.common.user_folders import user_data_folder
from napari_sslseg.core.runs.record import FORMAT, METRICS, RECORD, checked_part, read_record
from napari_sslseg.core.runs.run_files import remove_run_files
from napari_sslseg.core.scans.classes.segment import clean_name

RESCUED = "rescued runs"
"""Folder in the data folder of the user for runs whose folder was lost."""

MOST_METRICS = 512 * 2**20
"""Bytes of ``metrics.csv``, as of about ten million steps."""

if TYPE_CHECKING:
    from napari_sslseg.core.settings.pretext.registry import TaskSettings
    from napari_sslseg.core.settings.training import Training

Model = TypeVar("Model", bound=BaseModel)
Kind = Literal["pretrain", "finetune"]


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder and its record."""

    folder: Path
    record: Mapping[str, Any]

    def __repr__(self) -> str:
        status = self.record.get("status", "unknown")
        return f"Run({str(self.folder)!r}, kind={self.record.get('kind')!r}, status={status!r})"

    @property
    def kind(self) -> Kind:
        """``pretrain`` or ``finetune``."""
        return self.record["kind"]

    @property
    def weights(self) -> Path:
        """The best weights, or the latest ones if there was no validation."""
        best = self.folder / "best.safetensors"
        return best if best.exists() else self.folder / "last.safetensors"

    @property
    def class_names(self) -> dict[int, str]:
        """Names of the classes by label value, if the labels named them."""
        names = self.record.get("class_names") or {}
        return {int(v): clean_name(name) for v, name in names.items() if v.isdecimal()}

    @property
    def sequence(self) -> str | None:
        """End of the names of its scans, if they were chosen by it among several of a patient."""
        found = self.record.get("sequence")
        return found if isinstance(found, str) and found else None

    def settings(self, model: type[Model]) -> Model:
        """Settings of the run, validated.

        Raises
        ------
        CheckpointError
            If the record is damaged.
        """
        return self._checked(model, self.record["settings"])

    def training(self) -> "Training":
        """Settings of the training, validated; raises a CheckpointError if damaged."""
        from napari_sslseg.core.settings.training import Training

        return self._checked(Training, self.record["settings"].get("training", {}))

    def task(self) -> "TaskSettings":
        """Pretext task of a pretraining run, validated; raises a CheckpointError if damaged."""
        from napari_sslseg.core.settings.pretext.registry import TASKS

        task = self.record.get("task")
        kind = task.get("kind") if isinstance(task, Mapping) else None
        if not isinstance(kind, str) or kind not in TASKS:
            named = printable(kind, LONGEST) if isinstance(kind, str) else "none"
            raise CheckpointError(
                f"The record of {self.folder} names the pretext task {named}, but known are "
                f"{', '.join(TASKS)}; register the task first, or use another run."
            )
        return self._checked(TASKS[kind], task)

    def _checked(self, model: type[Model], values: Any) -> Model:
        return checked_part(model, values, self.folder)

    def metrics(self) -> list[dict[str, float]]:
        """Rows of ``metrics.csv``; empty cells are left out.

        Raises
        ------
        CheckpointError
            If it is missing or damaged.
        """
        path = self.folder / METRICS
        try:
            with open_regular(path) as file:
                if os.fstat(file.fileno()).st_size > MOST_METRICS:
                    raise ValueError(f"it is larger than {MOST_METRICS / 2**20:.0f} MiB")
                text = TextIOWrapper(file, encoding="utf-8", newline="")
                return [
                    {key: float(value) for key, value in row.items() if value}
                    for row in csv.DictReader(text)
                ]
        except OSError as error:
            raise CheckpointError(
                f"{path} cannot be read ({error.strerror or error}); use another run."
            ) from error
        except (ValueError, TypeError, csv.Error) as error:
            # A row with more cells than names has a list as a value, hence the TypeError.
            raise CheckpointError(
                f"{path} is damaged ({printable(error, LONGEST)}); use another run."
            ) from error

    @classmethod
    def open(cls, folder: "str | Path | Run", kind: Kind | None = None) -> "Run":
        """Open a run folder.

        Raises
        ------
        CheckpointError
            If it is not a run, is damaged, is of another kind, or is of a newer version.
        """
        check_type(
            folder, (*PATH, Run), "A run", "the folder of a run, such as 'runs/ft', or a Run"
        )
        run = folder if isinstance(folder, Run) else cls(Path(folder), read_record(Path(folder)))
        if kind and run.kind != kind:
            raise CheckpointError(
                f"{run.folder} is a {run.kind} run, but a {kind} run is needed here; "
                f"run {kind} first, or give another folder."
            )
        return run


def program_versions() -> dict[str, str]:
    """Versions of the packages that determine what a training computes."""
    return {name: version(name) for name in ("napari-sslseg", "torch", "monai", "numpy")}


def _new_folder(parent: Path, name: str) -> Path:
    """Make a folder whose name is not in use."""
    for number in range(1, 1000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            sync_folder(parent)
            return folder
    raise FileExistsError(errno.EEXIST, "there are too many folders of this name", str(parent))


def _moved_start(record: Mapping[str, Any], before: Path, now: Path) -> dict[str, Any]:
    """Return the start of a run, relative to another folder."""
    start = record.get("start")
    if not isinstance(start, Mapping) or before.parent == now.parent:
        return {}
    place = os.path.relpath(os.path.join(before, str(start["folder"])), now)
    return {"start": {**start, "folder": Path(place).as_posix()}}


class RunWriter:
    """Creates a run folder and keeps its record and metrics up to date.

    If several processes train together, only the first one writes.

    Parameters
    ----------
    folder : Path
        Created if missing; files of an older run in it are removed. Call :func:`claim` first.
    record : mapping
        Entries known at the start: kind, settings, scans, …

    Attributes
    ----------
    all_saved : bool
        Whether the newest state is that of the last step.
    """

    all_saved = True

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.folder = folder
        if is_first():
            check_locks(folder)
            # The record is replaced below, so that the folder remains that of a run.
            remove_run_files(folder, keep=(RECORD,))
        self.record: dict[str, Any] = {
            "format": FORMAT,
            **record,
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": program_versions(),
        }
        self._rows: list[dict[str, float]] = []
        self._write()
        if is_first():
            _check_written(folder)

    @classmethod
    def resumed(cls, run: Run, rows: int, machine: Mapping[str, Any] | None = None) -> "RunWriter":
        """Resume a run after so many rows of metrics; only the machine changes in its record."""
        writer = cls.__new__(cls)
        writer.folder, writer.record = run.folder, dict(run.record)
        writer._rows = run.metrics()[:rows] if rows else []
        for name in ("finished", "problem"):
            writer.record.pop(name, None)
        times = [
            *(writer.record.get("resumed") or ()),
            datetime.now(UTC).isoformat(timespec="seconds"),
        ]
        writer.record |= {**(machine or {}), "versions": program_versions()}
        writer.record |= {"status": "running", "resumed": times}
        writer._write()
        return writer

    @property
    def lost(self) -> bool:
        """Whether the folder was deleted, moved or replaced since this process locked it."""
        try:
            check_locks(self.folder / RECORD)
        except LostFolderError:
            return True
        return False

    def rescue(self) -> Path | None:
        """Continue in a new folder, because that of the run is lost.

        Returns
        -------
        Path or None
            The new folder, with the record: beside the lost one, or else among the data of the
            user. None if no folder could be written.
        """
        lost = self.folder
        for parent in (lost.parent, user_data_folder() / RESCUED):
            try:
                if parent != lost.parent:
                    make_folder(parent)
                self.folder = _new_folder(parent, f"{lost.name}-rescued")
                self.record |= _moved_start(self.record, lost, self.folder)
                self._write()
            except (OSError, StorageError):
                continue
            return self.folder
        self.folder = lost
        return None

    @property
    def count(self) -> int:
        """Number of rows of metrics."""
        return len(self._rows)

    def row(self, values: Mapping[str, float]) -> None:
        """Add a row of metrics, which is written with the next checkpoint."""
        self._rows.append(dict(values))

    def write_metrics(self) -> None:
        """Write all rows to ``metrics.csv``."""
        if not is_first():
            return
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        lines = [",".join(names)]
        lines += [
            ",".join(f"{row[n]:.7g}" if n in row else "" for n in names) for row in self._rows
        ]
        write_text(self.folder / METRICS, "\n".join(lines) + "\n")

    def finish(self, status: str, **result: Any) -> Run:
        """Write the final record."""
        self.write_metrics()
        self.record |= {
            "status": status,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **result,
        }
        self._write()
        return Run(self.folder, self.record)

    def _write(self) -> None:
        if is_first():
            write_text(self.folder / RECORD, json.dumps(self.record, indent=1))


def _check_written(folder: Path) -> None:
    """Read a new record, so that one that cannot be opened again is noticed before the training.

    Raises
    ------
    StorageError
        If it cannot be read.
    """
    try:
        read_record(folder)
    except CheckpointError as error:
        raise StorageError(
            f"The record of this run could not be opened again: {str(error).partition(';')[0]}; "
            "use fewer scans, or report this as a fault of the program."
        ) from error
