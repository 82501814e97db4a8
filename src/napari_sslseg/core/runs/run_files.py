"""The files of a run folder: which folder may become one, and what may be removed from it.

Nothing is removed but files of these names, and only from a folder that has a record or a plan.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.atomic import is_leftover, remove_leftovers
from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.common.lock import LOCK
from napari_sslseg.core.common.safe_files import HISTORY, is_link, refuse_links
from napari_sslseg.core.common.safe_json import read_json
from napari_sslseg.core.common.sync import make_folder
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.runs.record import KINDS, METRICS, MOST_RECORD, PLAN, RECORD
from napari_sslseg.core.runs.states.state_files import FOLDER, remove_states
from napari_sslseg.core.scans.names import check_folder_name

WEIGHTS = [f"{name}.{suffix}" for name in ("best", "last") for suffix in ("safetensors", "json")]
SAMPLES = "slices"
"""Folder of preprocessed slices or crops, in which each store has a folder."""

FAILED = "ended with an error"

HARMLESS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that a desktop puts into every folder that it shows."""


def claim(folder: Path, *, overwrite: bool = False, planned: bool = False) -> None:
    """Refuse an output folder that cannot be used, before hours of work.

    Parameters
    ----------
    folder : Path
        The output folder.
    overwrite : bool
        Whether the folder may contain a run.
    planned : bool
        Whether the folder belongs to a run of several stages whose plan is written already.

    Raises
    ------
    StorageError
        If the folder contains a run or plan that it may not contain, or anything else; cannot be
        written to; has less than 100 MB free; or has links where files are replaced and removed.
    """
    refuse_links(folder)
    check_folder_name(folder)
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file, but a folder is needed; choose another name.")
    occupied = (folder / RECORD).exists() or (not planned and (folder / PLAN).exists())
    if occupied and not overwrite:
        raise StorageError(f"{folder} already contains a run{_what_to_do(folder)}")
    if occupied:
        _refuse_foreign_record(folder)
    elif not planned:
        _refuse_other_files(folder)
    created = not folder.exists()
    try:
        make_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StorageError(
            f"Could not write to {folder}: {error.strerror or error}; choose another folder, or "
            "make this one writable."
        ) from error
    if created:
        folder.rmdir()  # So that nothing is left if the work fails before it starts.
    if free < 100 * 1024**2:
        raise StorageError(f"Less than 100 MB are free in {folder}; free some space first.")


def _what_to_do(folder: Path) -> str:
    """Say how to continue the run of a folder if it is not finished, or how to replace it."""
    other = "choose another folder, or pass --overwrite (in Python overwrite=True)."
    state = describe_unfinished(folder)
    if not state or state.startswith(FAILED):
        return f"; {other}"
    return f" that {state}; continue it with --resume (in Python resume=True), {other}"


def describe_unfinished(folder: Path) -> str:
    """Say that the run of a folder is not finished, such as "was stopped at step 120 of 400".

    Empty if it is finished, or its record does not say it.
    """
    record = _read_entries(folder / RECORD)
    states = {"stopped": "was stopped", "interrupted": "was interrupted"}
    states |= {"running": "has not finished", "failed": FAILED}
    state = states.get(str(record.get("status")))
    if state is None:
        return ""
    step = _read_entries(folder / "last.json").get("step")
    if not isinstance(step, int):
        return state
    settings = record.get("settings")
    training = settings.get("training") if isinstance(settings, dict) else None
    steps = training.get("steps") if isinstance(training, dict) else None
    return f"{state} at step {step:,}" + (f" of {steps:,}" if isinstance(steps, int) else "")


def remark_unfinished(folder: Path) -> str:
    """Say that a run whose weights are used is not finished, and what to do; empty if it is."""
    state = describe_unfinished(folder)
    if not state:
        return ""
    hint = "; continue it with --resume (in Python resume=True) for its final ones"
    if state.startswith(FAILED):  # Resuming may lead to the same error.
        hint = ""
    return f"The run {folder} {state}, and its weights so far are used{hint}."


def _read_entries(path: Path) -> dict[str, Any]:
    """Entries of a JSON file; empty if it cannot be read."""
    try:
        found = read_json(path, MOST_RECORD)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_foreign_record(folder: Path) -> None:
    """Refuse to overwrite a folder whose record or plan is not that of a run."""
    for name, keys in ((RECORD, ("kind", "settings")), (PLAN, ("id", "preset"))):
        found = _read_entries(folder / name)
        is_record = all(key in found for key in keys)
        if is_record and (name == PLAN or found["kind"] in KINDS):
            return
    name = RECORD if (folder / RECORD).exists() else PLAN
    raise StorageError(
        f"{folder / name} is damaged or not that of a run, so nothing in {folder} is replaced; "
        "choose another folder."
    )


def _refuse_other_files(folder: Path) -> None:
    """Refuse a folder that has files of the user and no run, since a run would replace some."""
    names = sorted(path.name for path in _other_files(folder))
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        listed = ", ".join(printable(name, 60) for name in names[:3])
        raise StorageError(
            f"{folder} is not empty ({listed}{more}) and is not the folder of a run; choose a new "
            "or an empty folder."
        )


def _other_files(folder: Path) -> Iterator[Path]:
    """Everything in a folder that no run which ended before its record was written has left."""
    # Imported here, since listing runs loads no NumPy.
    from napari_sslseg.core.samples.files.slice_files import is_store

    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in (LOCK, *HARMLESS) or is_leftover(path):
            continue
        samples = path.name == SAMPLES and path.is_dir() and not is_link(path)
        if not (samples and all(is_leftover(p) or is_store(p) for p in path.iterdir())):
            yield path


def remove_run_files(folder: Path, *, keep: tuple[str, ...] = ()) -> None:
    """Remove the files of a run, the record first.

    Raises
    ------
    StorageError
        If there is a link where files are removed.
    OSError
        If a file cannot be removed.
    """
    refuse_links(folder)
    for name in (RECORD, METRICS, HISTORY, *WEIGHTS):
        if name not in keep:
            (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder / FOLDER, alone=True)
    remove_states(folder)
    remove_leftovers(folder, alone=True)


def remove_samples(folder: Path) -> None:
    """Remove the preprocessed slices of a run, but no other files beside them."""
    from napari_sslseg.core.samples.files.slice_files import is_store, remove_store

    samples = folder / SAMPLES
    if samples.is_dir() and not is_link(samples):
        remove_leftovers(samples, alone=True)
        for store in samples.iterdir():
            if is_store(store):
                remove_store(store)
        if not any(samples.iterdir()):
            samples.rmdir()
