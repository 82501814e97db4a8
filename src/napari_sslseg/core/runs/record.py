"""The record of a run, as somebody else may have written it: checked before anything uses it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_json import read_json
from napari_sslseg.core.common.text import LONGEST, printable

RECORD = "run.json"
PLAN = "preset.json"
"""Beside it, of a run of several stages."""

FORMAT = 1
MOST_RECORD = 16 * 2**20
"""Of ``run.json``; that of a run on 10,000 scans has less than 1 MiB."""

MOST_THREADS = 4096
MOST_PROCESSES = 65_536
Text = Field(default=None, max_length=10_000)


class Start(BaseModel):
    """The run that a run started from."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    folder: str = Field(max_length=4096)
    weights: str = Field(max_length=200)


class Record(BaseModel):
    """What a record must be for the rest to rely on; keys that are not named here are not used.

    They are let through, so that a later version may note more. What changes the meaning of a run
    are its settings, and in those unknown keys are errors.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    format: int = Field(ge=1)
    kind: Literal["pretrain", "finetune"]
    settings: dict[str, Any]
    task: dict[str, Any] | None = None
    status: str | None = Text
    started: str | None = Text
    finished: str | None = Text
    init: str | None = Text
    plan: str | None = Text
    device: str | None = Text
    scans: list[str] | None = None
    slices: dict[str, int] | None = None
    classes: list[int] | None = None
    seed: int | None = None
    versions: dict[str, str] | None = None
    start: Start | None = None
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)
    processes: int | None = Field(default=None, ge=1, le=MOST_PROCESSES)
    resumed: list[str] | None = Field(default=None, max_length=100_000)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a run folder.

    Raises
    ------
    CheckpointError
        If there is none, or it is not what a record of this version is.
    """
    path = folder / RECORD
    if not folder.exists():
        raise CheckpointError(f"The run folder {folder} does not exist; check the path.")
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is no run folder (it holds no {RECORD}); give the folder that --out named."
        )
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
        raise CheckpointError(f"{path} is damaged (it is no record of a run); use another run.")
    number = record.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise CheckpointError(f"{path} was written by a newer version; update this one.")
    checked_part(Record, record, folder)
    return record


def checked_part(model: type[BaseModel], values: Any, folder: Path) -> Any:
    """Settings from a record, or a CheckpointError with the first problem in one sentence.

    Parameters
    ----------
    model : type of BaseModel
        What the values should be.
    values : Any
        As the record has them.
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
    # Without their inputs, which may be long; names and values in it are a stranger's words.
    first: Mapping[str, Any] = error.errors(
        include_url=False, include_context=False, include_input=False
    )[0]
    where = ".".join(map(str, first["loc"])) or "settings"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{printable(where, LONGEST)}: {printable(reason, LONGEST)}"
