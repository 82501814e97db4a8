"""Runs that are made once and kept, for all cells that share them."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock


def record(run: Path) -> Path:
    """File that says that a run is done, and how long it took."""
    return run.with_suffix(".json")


def made_once(run: Path, make: Callable[[], object], **about: Any) -> float:
    """Make a run unless it is done, and say how many seconds that took, if long ago.

    A process that finds another one at work waits for it; what that left unfinished is made anew.

    Parameters
    ----------
    run : Path
        Folder that ``make`` fills, or fills anew.
    make : callable
        Makes the run.
    **about : any
        What else its record says, for people.
    """
    done = record(run)
    run.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{run}.lock"):
        if not done.exists():
            begin = time.perf_counter()
            make()
            about["seconds"] = time.perf_counter() - begin
            part = done.with_suffix(".part")
            part.write_text(json.dumps(about))
            os.replace(part, done)
        return float(json.loads(done.read_text())["seconds"])
