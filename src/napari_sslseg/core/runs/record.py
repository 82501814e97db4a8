"""The record of a run, ``run.json``: an untrusted file that is validated before it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_json import StoredPath, read_json
from napari_sslseg.core.common.text import LONGEST, join_names, printable

RECORD = "run.json"
METRICS = "metrics.csv"
KINDS = ("pretrain", "finetune")
PLAN = "preset.json"
"""File in the same folder, of a run of several stages."""

FORMAT = 1
MOST_RECORD = 64 * 2**20
"""Bytes of ``run.json``, which has about 700 for each scan."""

MOST_THREADS = 4096
MOST_PROCESSES = 65_536
Text = Field(default=None, max_length=10_000)


class StartRecord(BaseModel):
    """The run that a run started from."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    folder: StoredPath
    weights: str = Field(max_length=200)


class RunRecord(BaseModel):
    """Types that other modules rely on.

    Unknown keys are allowed, so that a later version may add some. Settings decide the meaning of
    a run, and unknown keys in them are errors.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    format: int = Field(ge=1)
    kind: Literal["pretrain", "finetune"]
    settings: dict[str, Any]
    task: dict[str, Any] | None = None
    status: str | None = Text
    started: str | None = Text
    finished: str | None = Text
    init: str | None = None
    plan: str | None = Text
    device: str | None = Text
    scans: list[str] | None = None
    slices: dict[str, int] | None = None
    classes: list[int] | None = None
    class_names: dict[str, str] | None = None
    seed: int | None = None
    versions: dict[str, str] | None = None
    start: StartRecord | None = None
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)
    processes: int | None = Field(default=None, ge=1, le=MOST_PROCESSES)
    resumed: list[str] | None = Field(default=None, max_length=100_000)


def is_run(folder: Path) -> bool:
    """Whether a folder has the record of a run."""
    return (folder / RECORD).is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a run folder.

    Raises
    ------
    CheckpointError
        If the record is missing, damaged, or of a newer version.
    """
    path = folder / RECORD
    if not folder.exists():
        raise CheckpointError(f"The run folder {folder} does not exist; check the path.")
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; choose the folder of the run.")
    if not path.is_file():
        inside = sorted(str(found.parent) for found in folder.glob(f"*/{RECORD}"))
        runs = f"; choose a run in it: {join_names(inside)}" if inside else "; choose that of a run"
        raise CheckpointError(f"{folder} is not a run folder (it has no {RECORD}){runs}.")
    try:
        record = read_json(path, MOST_RECORD)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); use another run."
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged ({printable(error)}); use another run."
        ) from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} is damaged (it is not a record of a run); use another run.")
    number = record.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise CheckpointError(f"{path} was written by a newer version; update this one.")
    checked_part(RunRecord, record, folder)
    return record


def checked_part(model: type[BaseModel], values: Any, folder: Path) -> Any:
    """Validate settings from a record; raises a CheckpointError with the first problem.

    Parameters
    ----------
    model : type of BaseModel
        Type of the settings.
    values : Any
        Values in the record.
    folder : Path
        The run folder, for the message.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise CheckpointError(
            f"The record of {folder} is damaged ({first_problem(error)}); use another run."
        ) from error


def first_problem(error: ValidationError) -> str:
    """Place and reason of the first problem, safe to print."""
    # Without the inputs, which may be long. The rest may also contain text of an untrusted file.
    first: Mapping[str, Any] = error.errors(
        include_url=False, include_context=False, include_input=False
    )[0]
    where = ".".join(map(str, first["loc"])) or "settings"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{printable(where, LONGEST)}: {printable(reason, LONGEST)}"
