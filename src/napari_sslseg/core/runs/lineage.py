"""Which scans and patients a run has seen, itself and in the runs that it started from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.runs.provenance import entries
from napari_sslseg.core.runs.run import Run

LONGEST_CHAIN = 20


@dataclass(frozen=True)
class Seen:
    """Scans and patients, each by what a run made of them.

    Attributes
    ----------
    learnt : set of str
        Those whose labels were learnt from: contents of scans (their hashes), and patients.
    kept_out : set of str
        Those whose labels chose the best weights, and no more.
    unlabelled : set of str
        Those that were seen without labels, in a pretraining before or beside labelled ones.
    whole : bool
        Whether all runs of the chain are still there to tell.
    """

    learnt: set[str] = field(default_factory=set)
    kept_out: set[str] = field(default_factory=set)
    unlabelled: set[str] = field(default_factory=set)
    whole: bool = True


def scan_key(content: str) -> str:
    """How :class:`Seen` names a scan."""
    return f"scan {content}"


def patient_key(subject: str) -> str:
    """How :class:`Seen` names a patient."""
    return f"patient {subject}"


def seen_by(run: Run) -> Seen:
    """Collect what a run, and those that it started from, say of their scans.

    Raises
    ------
    CheckpointError
        If the record of the run itself does not tell.
    """
    learnt, kept_out, unlabelled = set[str](), set[str](), set[str]()
    earlier: Run | None = run
    whole = True
    for _ in range(LONGEST_CHAIN):
        if earlier is None:
            break
        for role, keys in _scans(earlier):
            if earlier.kind == "pretrain" or role == "unlabelled":
                unlabelled.update(keys)
            else:
                (kept_out if role == "validation" else learnt).update(keys)
        try:
            earlier = _start(earlier)
            if earlier is not None:
                entries(earlier)  # Whether it tells.
        except CheckpointError:
            earlier, whole = None, False
    return Seen(learnt, kept_out - learnt, unlabelled, whole and earlier is None)


def _scans(run: Run) -> Iterator[tuple[str, list[str]]]:
    """Role of each scan, and how it and its patient are named."""
    data: Any = run.record.get("data")
    for entry, said in zip(entries(run), data, strict=True):
        keys = [scan_key(entry.content)] if entry.content else []
        subject = said.get("subject")
        yield entry.role, [*keys, patient_key(subject if isinstance(subject, str) else entry.name)]


def _start(run: Run) -> Run | None:
    """The run that a run started from; None if it began from scratch.

    Raises
    ------
    CheckpointError
        If it is not where it was.
    """
    start = run.record.get("start")
    folder = start.get("folder") if isinstance(start, Mapping) else None
    if isinstance(folder, str):
        return Run.open(Path(run.folder) / folder)
    if run.record.get("init", "scratch") == "scratch":
        return None
    raise CheckpointError(f"The record of {run.folder} does not say where it started from.")
