"""Scans and patients that were used by a run and by the runs that it started from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.runs.provenance import scan_records
from napari_sslseg.core.runs.run import Run

LONGEST_CHAIN = 20

Use = Literal["unseen", "without labels", "validation", "same patient", "training"]
"""How a run used a scan; scores of the first are the most informative."""

FLATTERED: tuple[Use, ...] = ("training", "same patient")
"""Uses whose scores are too high, since labels of the patient were learnt."""


@dataclass(frozen=True)
class DataUse:
    """Scans and patients by how they were used; see :func:`scan_key` and :func:`patient_key`.

    Attributes
    ----------
    training : set of str
        Used for training with their labels.
    validation : set of str
        Their labels were only used to choose the best weights.
    unlabelled : set of str
        Used without labels, in a pretraining or in addition to labelled scans.
    complete : bool
        Whether the records of all runs of the chain could be read.
    """

    training: set[str] = field(default_factory=set)
    validation: set[str] = field(default_factory=set)
    unlabelled: set[str] = field(default_factory=set)
    complete: bool = True


def scan_key(content: str) -> str:
    """Key of a scan in :class:`DataUse`, from the hash of its contents."""
    return f"scan {content}"


def patient_key(subject: str) -> str:
    """Key of a patient in :class:`DataUse`."""
    return f"patient {subject}"


def use_of(seen: DataUse, content: str, subject: str) -> Use:
    """How a scan was used, by the hash of its contents, since names may be reused."""
    own, patient = scan_key(content), patient_key(subject)
    if own in seen.training:
        return "training"
    if patient in seen.training:
        return "same patient"
    if own in seen.validation or patient in seen.validation:
        return "validation"
    if own in seen.unlabelled or patient in seen.unlabelled or not seen.complete:
        return "without labels"
    return "unseen"


def find_data_use(run: Run) -> DataUse:
    """Collect the scans in the records of a run and of the runs that it started from.

    Raises
    ------
    CheckpointError
        If the record of the run itself does not list its scans.
    """
    training, validation, unlabelled = set[str](), set[str](), set[str]()
    earlier: Run | None = run
    complete = True
    for _ in range(LONGEST_CHAIN):
        if earlier is None:
            break
        for role, keys in _scans(earlier):
            if earlier.kind == "pretrain" or role == "unlabelled":
                unlabelled.update(keys)
            else:
                (validation if role == "validation" else training).update(keys)
        try:
            earlier = _start(earlier)
            if earlier is not None:
                scan_records(earlier)  # Raises if it does not list its scans.
        except CheckpointError:
            earlier, complete = None, False
    return DataUse(training, validation - training, unlabelled, complete and earlier is None)


def _scans(run: Run) -> Iterator[tuple[str, list[str]]]:
    """Role of each scan, and the keys of scan and patient."""
    data: Any = run.record.get("data")
    for scan, values in zip(scan_records(run), data, strict=True):
        keys = [scan_key(scan.content)] if scan.content else []
        subject = values.get("subject")
        yield scan.role, [*keys, patient_key(subject if isinstance(subject, str) else scan.name)]


def _start(run: Run) -> Run | None:
    """The run that a run started from; None if it began from scratch.

    Raises
    ------
    CheckpointError
        If that run is missing.
    """
    start = run.record.get("start")
    folder = start.get("folder") if isinstance(start, Mapping) else None
    if isinstance(folder, str):
        return Run.open(Path(run.folder) / folder)
    if run.record.get("init", "scratch") == "scratch":
        return None
    raise CheckpointError(f"The record of {run.folder} does not say where it started from.")
