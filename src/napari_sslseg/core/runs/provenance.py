"""What a run was made of: the scans and the slices of them, the start, the machine, the program."""

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_files import open_regular
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.scans.slice_ranges import ALL_SLICES, format_ranges

if TYPE_CHECKING:
    import torch

    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.samples.store import SampleStore

GIT_SECONDS = 5


def data_record(
    store: "SampleStore",
    training: np.ndarray,
    validation: np.ndarray,
    held_out: Iterable[int] = (),
    unlabelled: Iterable[int] = (),
) -> list[dict[str, Any]]:
    """Every scan of a store, with hashes of its contents and the samples that were learnt from.

    Parameters
    ----------
    store : SampleStore
        The samples.
    training, validation : ndarray
        Indices of those used for each.
    held_out, unlabelled : iterable of int
        Numbers of the scans that are for the validation alone, and of those without labels.

    Returns
    -------
    list of dict
        Samples are numbers within the scan, as ranges such as ``0-8, 12``; annotated ones are
        ``all`` where none is left out.
    """
    roles = dict.fromkeys(held_out, "validation") | dict.fromkeys(unlabelled, "unlabelled")
    found = []
    for number, scan in enumerate(store.scans):
        own = np.arange(scan.start, scan.start + scan.n_slices)
        entry = {
            "name": scan.name,
            "subject": scan.subject,
            "role": roles.get(number, "training"),
            "content": scan.content,
            "labels": scan.labels,
            "training": format_ranges(np.intersect1d(own, training) - scan.start),
            "validation": format_ranges(np.intersect1d(own, validation) - scan.start),
        }
        if store.labelled:
            known = store.annotated[own]
            entry["annotated"] = ALL_SLICES if known.all() else format_ranges(np.flatnonzero(known))
        found.append(entry)
    return found


def machine_record(device: "torch.device", threads: int) -> dict[str, Any]:
    """Device, threads of the CPU, and the state of the program, if it is one of a checkout."""
    from napari_sslseg.core.common.compute.devices import device_name

    return {
        "device": str(device),
        "device_name": device_name(device),
        "threads": threads,
        "source": package_state(),
    }


def start_record(start: "Run | None", out: Path) -> dict[str, Any]:
    """Where the run to start from lies, as seen from the new run, and a hash of its weights."""
    if start is None:
        return {}
    try:
        folder = os.path.relpath(start.folder.resolve(), out.resolve())
    except ValueError:  # Another drive of Windows.
        folder = str(start.folder.resolve())
    return {"start": {"folder": Path(folder).as_posix(), "weights": file_hash(start.weights)}}


def file_hash(path: Path) -> str:
    """Hash of a file; empty if there is none."""
    if not path.is_file():
        return ""
    with open_regular(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def package_state() -> dict[str, Any] | None:
    """Commit of the checkout that the program runs from, and whether it was changed since.

    None if it is installed otherwise, or git is not there.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return None
    found = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *command],
                capture_output=True,
                text=True,
                timeout=GIT_SECONDS,
                check=True,
                env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        found.append(done.stdout.strip())
    return {"commit": found[0], "changed": bool(found[1])}


@dataclass(frozen=True)
class Entry:
    """What a run says of one of its scans, see ``data_record``."""

    name: str
    role: str
    content: str
    labels: str
    annotated: str | None


def entries(run: Run) -> list[Entry]:
    """Scans of a run, in order.

    Raises
    ------
    CheckpointError
        If the record does not tell them, since it is damaged or of an older version.
    """
    names = ("name", "role", "content", "labels", "annotated")
    found = run.record.get("data")
    if isinstance(found, Sequence) and found and all(isinstance(e, Mapping) for e in found):
        values = [{name: entry.get(name) for name in names} for entry in found]
        if all(
            isinstance(v, str) or (k == "annotated" and v is None)
            for value in values
            for k, v in value.items()
        ):
            return [Entry(**value) for value in values]
    if run.kind == "pretrain" and run.record.get("task") is None and "transfer" in run.record:
        raise CheckpointError(
            f"{run.folder} was imported, so there is nothing to go on with; start from it with "
            "--init."
        )
    raise CheckpointError(
        f"The record of {run.folder} does not say which scans it learnt from, so it cannot go on; "
        "start again with --overwrite (in Python overwrite=True)."
    )
