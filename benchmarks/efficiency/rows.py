"""Rows of finished cells: a file of JSON lines to which rows are appended."""

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

RESULTS = Path(__file__).resolve().parents[1] / "results" / "label_efficiency.jsonl"

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read all complete rows; an incomplete last line is ignored.

    Raises
    ------
    ValueError
        If another line is damaged.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"Line {number} of {path} is not JSON; fix it.") from error
    return rows


def append_row(path: Path, row: Row) -> None:
    """Append a row, safe with other processes; an incomplete last line is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row, allow_nan=False).encode() + b"\n"
    with FileLock(f"{path}.lock"), path.open("ab+") as file:
        file.truncate(_complete(path))
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _complete(path: Path) -> int:
    """Number of bytes up to the end of the last complete line."""
    return path.read_bytes().rfind(b"\n") + 1
