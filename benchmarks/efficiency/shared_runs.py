"""Runs that several cells share, and that are therefore trained only once."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock


def is_complete(run: Path) -> bool:
    """Whether a run exists and is complete."""
    return run.is_dir() and _record(run).exists()


def make_once(run: Path, make: Callable[[], object], **about: Any) -> dict[str, Any]:
    """Make a run unless it exists.

    Waits while another process makes it. An incomplete run is made again.

    Parameters
    ----------
    run : Path
        Folder that ``make`` writes or overwrites.
    make : callable
        Makes the run.
    **about : any
        Further entries of its record.

    Returns
    -------
    dict
        The record, new or existing: ``about``, and the ``seconds`` that ``make`` took.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{run}.lock"):
        if not is_complete(run):
            begin = time.perf_counter()
            make()
            about["seconds"] = time.perf_counter() - begin
            part = run.with_suffix(".part")
            part.write_text(json.dumps(about))
            os.replace(part, _record(run))
        return dict(json.loads(_record(run).read_text()))


def _record(run: Path) -> Path:
    return run.with_suffix(".json")
