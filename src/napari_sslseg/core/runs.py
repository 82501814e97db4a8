"""A run is a folder: what was done, with what, how it went, and the weights.

::

    run.json            kind, settings, scans, classes, seed, device, versions, status
    metrics.csv         loss, learning rate and validation figures by step
    last.safetensors    the latest weights, with last.json
    best.safetensors    the best weights by the validation, with best.json
"""

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from napari_sslseg.core.atomic import write_text
from napari_sslseg.core.errors import CheckpointError, StorageError

RECORD = "run.json"
METRICS = "metrics.csv"
FORMAT = 1

if TYPE_CHECKING:
    from napari_sslseg.core.pretext.registry import TaskSettings

Model = TypeVar("Model", bound=BaseModel)
Kind = Literal["pretrain", "finetune"]


@dataclass(frozen=True)
class Run:
    """A run folder and its record."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """``pretrain`` or ``finetune``."""
        return self.record["kind"]

    @property
    def weights(self) -> Path:
        """The best weights, or the latest where there was no validation."""
        best = self.folder / "best.safetensors"
        return best if best.exists() else self.folder / "last.safetensors"

    def settings(self, model: type[Model]) -> Model:
        """Settings of the run, checked.

        Raises
        ------
        CheckpointError
            If the record is damaged.
        """
        return self._checked(model, self.record["settings"])

    def task(self) -> "TaskSettings":
        """Pretext task of a pretraining run, checked; raises a CheckpointError if damaged."""
        from napari_sslseg.core.pretext.registry import TASKS

        task = self.record.get("task")
        kind = task.get("kind") if isinstance(task, Mapping) else None
        if not isinstance(kind, str) or kind not in TASKS:
            raise CheckpointError(
                f"The record of {self.folder} names no pretext task that is known; use another run."
            )
        return self._checked(TASKS[kind], task)

    def _checked(self, model: type[Model], values: Any) -> Model:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "settings"
            raise CheckpointError(
                f"The record of {self.folder} is damaged ({where}: {first['msg']}); "
                "use another run."
            ) from error

    def metrics(self) -> list[dict[str, float]]:
        """Rows of ``metrics.csv``; figures that a row does not have are left out."""
        with (self.folder / METRICS).open(newline="", encoding="utf-8") as file:
            return [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]

    @classmethod
    def open(cls, folder: "str | Path | Run", kind: Kind | None = None) -> "Run":
        """Open a run folder.

        Raises
        ------
        CheckpointError
            If it is no run, is damaged, is of another kind, or comes from a newer version.
        """
        if isinstance(folder, Run):
            run = folder
        else:
            path = Path(folder) / RECORD
            if not Path(folder).exists():
                raise CheckpointError(f"The run folder {folder} does not exist; check the path.")
            if not path.is_file():
                raise CheckpointError(
                    f"{folder} is no run folder (it holds no {RECORD}); "
                    "give the folder that --out named."
                )
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                newer = record["format"] > FORMAT
                run = cls(Path(folder), record)
                _ = record["kind"], record["settings"]
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
                raise CheckpointError(f"{path} is damaged ({error}); use another run.") from error
            if newer:
                raise CheckpointError(f"{path} was written by a newer version; update this one.")
        if kind and run.kind != kind:
            raise CheckpointError(
                f"{run.folder} is a {run.kind} run, but a {kind} run is needed here; "
                f"run {kind} first, or give another folder."
            )
        return run


class RunWriter:
    """Creates a run folder and keeps its record and metrics up to date.

    Parameters
    ----------
    folder : Path
        Created if missing; weights of an older run in it are removed. Ask :func:`claim` first.
    record : mapping
        What is known at the start: kind, settings, scans, …
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.folder = folder
        for name in ("best", "last"):
            for suffix in (".safetensors", ".json"):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)
        self.record: dict[str, Any] = {
            "format": FORMAT,
            **record,
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                name: version(name) for name in ("napari-sslseg", "torch", "monai", "numpy")
            },
        }
        self._rows: list[dict[str, float]] = []
        self._write()

    def row(self, values: Mapping[str, float]) -> None:
        """Add a row of metrics; written with the next checkpoint."""
        self._rows.append(dict(values))

    def write_metrics(self) -> None:
        """Write all rows so far to ``metrics.csv``."""
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
        write_text(self.folder / RECORD, json.dumps(self.record, indent=1))


def claim(folder: Path, *, overwrite: bool = False) -> None:
    """Refuse an output folder that cannot be used, before hours of work.

    Raises
    ------
    StorageError
        If it already holds a run (unless ``overwrite``), cannot be written to, or has less than
        100 MB free.
    """
    if (folder / RECORD).exists() and not overwrite:
        raise StorageError(
            f"{folder} already holds a run; choose another folder, or pass --overwrite "
            "(in Python overwrite=True)."
        )
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file, but a folder is needed; choose another name.")
    made = not folder.exists()
    check = folder / ".check"
    write_text(check, "")
    check.unlink()
    free = shutil.disk_usage(folder).free
    if made:
        folder.rmdir()  # Nothing is left behind if the work fails before it begins.
    if free < 100 * 1024**2:
        raise StorageError(f"Less than 100 MB are free in {folder}; free some space first.")
