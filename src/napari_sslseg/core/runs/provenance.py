"""Provenance of a run: scans and slices, the run it started from, the machine and the program."""

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_files import open_regular
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.segment import clean_name
from napari_sslseg.core.scans.labelled import LabelledScan, label_file_names
from napari_sslseg.core.scans.slices.ranges import ALL_SLICES, format_ranges
from napari_sslseg.core.scans.volume import Volume

if TYPE_CHECKING:
    import torch

    from napari_sslseg.core.samples.store import SampleStore

GIT_SECONDS = 5

DEFAULT_MEANING: dict[str, Any] = {"ignore": None, "background": 0, "labelled_classes": None}
"""Fields of a LabelledScan that say what its labels mean, where nothing is unknown."""


def data_record(
    store: "SampleStore",
    training: np.ndarray,
    validation: np.ndarray,
    held_out: Iterable[int] = (),
    unlabelled: Iterable[int] = (),
    labelled: Sequence[LabelledScan] = (),
) -> list[dict[str, Any]]:
    """Every scan of a store, with hashes of its contents and the samples used for training.

    Parameters
    ----------
    store : SampleStore
        The samples.
    training, validation : ndarray
        Indices of the samples used for each.
    held_out, unlabelled : iterable of int
        Numbers of the scans used for validation only, and of those used without labels.
    labelled : sequence of LabelledScan
        The first scans of the store. The record names their label files, and says which classes
        their label values are, if they are not the classes themselves, and what is unknown in the
        labels.

    Returns
    -------
    list of dict
        Samples are numbered within the scan and given as ranges such as ``0-8, 12``; annotated
        samples are ``all`` if none is left out.
    """
    roles = dict.fromkeys(held_out, "validation") | dict.fromkeys(unlabelled, "unlabelled")
    meanings = dict(enumerate(map(label_meaning, labelled)))
    in_training, in_validation = np.zeros((2, len(store)), bool)
    in_training[training] = in_validation[validation] = True
    found = []
    for number, scan in enumerate(store.scans):
        own = slice(scan.start, scan.start + scan.n_slices)
        entry: dict[str, Any] = {
            "name": scan.name,
            "subject": scan.subject,
            "role": roles.get(number, "training"),
            "content": scan.content,
            "labels": scan.labels,
            "training": format_ranges(np.flatnonzero(in_training[own])),
            "validation": format_ranges(np.flatnonzero(in_validation[own])),
        }
        if store.labelled:
            known = store.annotated[own]
            entry["annotated"] = ALL_SLICES if known.all() else format_ranges(np.flatnonzero(known))
        entry |= meanings.get(number, {})
        if names := _names_of_classes(labelled[number], store) if number < len(labelled) else {}:
            entry["names"] = names
        if files := label_file_names(labelled[number]) if number < len(labelled) else []:
            entry["label_files"] = files
        found.append(entry)
    return found


def label_meaning(item: LabelledScan) -> dict[str, Any]:
    """What the labels of a scan mean, as fields of a LabelledScan that are not the default."""
    fields = {name: getattr(item, name) for name in DEFAULT_MEANING}
    found = {name: value for name, value in fields.items() if value != DEFAULT_MEANING[name]}
    if item.labelled_classes is not None:
        found["labelled_classes"] = list(item.labelled_classes)
    if item.values is not None:
        found["values"] = {str(value): item.values[value] for value in sorted(item.values)}
    return found


def label_names(item: LabelledScan) -> dict[int, str]:
    """Names of the values in the label file of a scan, as they are in the file or beside it now.

    Empty if nothing names them, as for labels in memory without names of classes.

    Raises
    ------
    SslsegError
        If the file or the list of names cannot be read.
    """
    if not isinstance(item.labels, Volume):
        found = {s.value: s.name or s.code for s in read_segments(item.labels)}
        if found:
            return found
    names = item.class_names or {}
    values = item.values or {value: value for value in names}
    return {value: names[kind] for value, kind in values.items() if kind in names}


def _names_of_classes(item: LabelledScan, store: "SampleStore") -> dict[str, str]:
    """Names of the values that are classes, by value as JSON has it."""
    kinds = item.values or {}
    return {
        str(value): name
        for value, name in sorted(label_names(item).items())
        if kinds.get(value, value) in store.classes and name
    }


def machine_record(device: "torch.device", threads: int) -> dict[str, Any]:
    """Device, CPU threads, and the commit of the program if it runs from a checkout."""
    from napari_sslseg.core.common.compute.devices import device_name

    return {
        "device": str(device),
        "device_name": device_name(device),
        "threads": threads,
        "source": package_state(),
    }


def start_record(start: "Run | None", out: Path) -> dict[str, Any]:
    """Path from the new run to the one that it starts from, and a hash of the weights."""
    if start is None:
        return {}
    try:
        folder = os.path.relpath(start.folder.resolve(), out.resolve())
    except ValueError:  # Another drive on Windows.
        folder = str(start.folder.resolve())
    return {"start": {"folder": Path(folder).as_posix(), "weights": file_hash(start.weights)}}


def file_hash(path: Path) -> str:
    """Hash of a file; empty if it is missing."""
    if not path.is_file():
        return ""
    with open_regular(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def package_state() -> dict[str, Any] | None:
    """Commit of the checkout that the program runs from, and whether files differ from it.

    None if the program does not run from a checkout, or git is not installed.
    """
    root = Path(__file__).resolve().parents[4]
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
class ScanRecord:
    """A scan in the record of a run, see :func:`data_record`.

    ``meaning`` are fields of its LabelledScan, see :func:`label_meaning`; ``names`` are those of
    :func:`label_names` when the run began.
    """

    name: str
    role: str
    content: str
    labels: str
    annotated: str | None
    subject: str | None = None
    values: Mapping[int, int] | None = None
    meaning: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)


def _label_values(entry: Mapping[str, Any]) -> dict[int, int] | None:
    """Classes of the label values of a scan; None if the values are the classes."""
    found = entry.get("values")
    if not isinstance(found, Mapping):
        return None
    return {
        int(value): kind
        for value, kind in found.items()
        if str(value).isdecimal() and type(kind) is int and kind >= 0
    }


def _recorded_names(entry: Mapping[str, Any]) -> dict[int, str]:
    """Names of label values in the record of a scan; runs of early versions have none."""
    found = entry.get("names")
    if not isinstance(found, Mapping):
        return {}
    return {
        int(value): clean_name(name)
        for value, name in found.items()
        if str(value).isdecimal() and isinstance(name, str)
    }


def recorded_label_files(run: Run) -> set[str]:
    """Names, with their folders, of the label files that a run learnt from, as far as recorded."""
    data = run.record.get("data")
    entries = [e for e in data if isinstance(e, Mapping)] if isinstance(data, list) else []
    lists = [entry.get("label_files") for entry in entries]
    return {name for names in lists if isinstance(names, list) for name in map(str, names)}


def scan_records(run: Run) -> list[ScanRecord]:
    """Scans of a run, in order.

    Raises
    ------
    CheckpointError
        If the record does not list them, since it is damaged or of an older version.
    """
    names = ("name", "role", "content", "labels", "annotated", "subject")
    found = run.record.get("data")
    if isinstance(found, Sequence) and found and all(isinstance(e, Mapping) for e in found):
        values = [{name: entry.get(name) for name in names} for entry in found]
        if all(
            isinstance(v, str) or (k in ("annotated", "subject") and v is None)
            for value in values
            for k, v in value.items()
        ):
            meanings = [_recorded_meaning(entry) for entry in found]
            if None not in meanings:
                return [
                    ScanRecord(
                        **value,
                        values=_label_values(entry),
                        meaning=meaning or {},
                        names=_recorded_names(entry),
                    )
                    for value, entry, meaning in zip(values, found, meanings, strict=True)
                ]
    if run.kind == "pretrain" and run.record.get("task") is None and "transfer" in run.record:
        raise CheckpointError(
            f"{run.folder} was imported and cannot be resumed; start from its weights with --init."
        )
    raise CheckpointError(
        f"The record of {run.folder} does not list the scans that it was trained on, so it cannot "
        "be resumed; start again with --overwrite (in Python overwrite=True)."
    )


def _recorded_meaning(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Fields of :func:`label_meaning` in the record of a scan; None if they are damaged."""
    found = {name: entry[name] for name in DEFAULT_MEANING if name in entry}
    classes = found.pop("labelled_classes", None)
    if isinstance(classes, list):
        numbers = [*found.values(), *classes]
    elif classes is None:
        numbers = list(found.values())
    else:
        return None
    if not all(type(number) is int and 0 <= number < 2**31 for number in numbers):
        return None
    return found | ({} if classes is None else {"labelled_classes": tuple(classes)})
