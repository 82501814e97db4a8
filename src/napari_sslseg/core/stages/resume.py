"""Going on with a run: its record, the scans that it learns from, and whether they are the same."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_sslseg.core.common.errors import CheckpointError, ConfigError, SslsegError
from napari_sslseg.core.runs.provenance import entries, file_hash
from napari_sslseg.core.runs.run import Kind, Run
from napari_sslseg.core.samples.store import hash_scan
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.slice_ranges import ALL_SLICES, parse_ranges
from napari_sslseg.core.scans.sources import without_labels
from napari_sslseg.core.segmentation.unlabelled import UNLABELLED

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore

Scan = TypeVar("Scan", bound=Any)


def open_earlier(out: Path, kind: Kind) -> Run:
    """Open the run to go on with.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged or of another kind.
    """
    run = Run.open(out, kind)
    entries(run)
    return run


def is_finished(run: Run) -> bool:
    """Whether there is nothing left to do."""
    return run.record.get("status") == "finished" and run.weights.is_file()


def same_scans(run: Run, scans: Sequence[Scan]) -> list[Scan]:
    """Scans of a run among those given, in its order, matched by name.

    Raises
    ------
    CheckpointError
        If one is missing.
    """
    given: dict[str, list[Scan]] = {}
    for scan in scans:
        given.setdefault(scan.name, []).append(scan)
    labelled = run.kind == "finetune"
    found = []
    for entry in entries(run):
        named = given.get(entry.name, [])
        needs_labels = labelled and entry.role != UNLABELLED
        fit = [scan for scan in named if not needs_labels or isinstance(scan, LabelledScan)]
        if len(fit) > 1:
            # Of several with one name, such as T1 of each patient, the contents tell which it is.
            fit.sort(key=lambda scan: hash_scan(scan) != entry.content)
        if not fit:
            what = "labels of the scan" if named else "scan"
            hint = "put them back" if named else "put it back"
            if entry.role == UNLABELLED and all(isinstance(s, LabelledScan) for s in scans):
                hint = "give --unlabelled again (in Python unlabelled=...)"
            raise CheckpointError(
                f"The {what} {entry.name}, from which {run.folder} learns, "
                f"{'are' if named else 'is'} not among what was given; {hint}, or start again "
                "without."
            )
        found.append(fit[0])
        named.remove(fit[0])
    return found


def same_labelled(
    run: Run, scans: Sequence[Scan], *, volumes: bool
) -> tuple[list[LabelledScan], list[LabelledScan], list[Any]]:
    """Scans of a run: for training and for validation, with the slices it learnt from, and others.

    Raises
    ------
    CheckpointError
        If one is missing, or the record is damaged.
    """
    parts: tuple[list[LabelledScan], list[LabelledScan], list[Any]] = [], [], []
    for entry, item in zip(entries(run), same_scans(run, scans), strict=True):
        if entry.role == UNLABELLED:
            parts[2].append(without_labels(item))
            continue
        if entry.annotated is not None and not volumes:
            try:
                every = entry.annotated == ALL_SLICES
                if every:
                    item = replace(item, annotated=None)
                else:
                    # As many as the scan has along its longest side, whatever the plane.
                    end = max(item.geometry.shape)
                    item = replace(item, annotated=parse_ranges(entry.annotated, end))
            except ValueError as error:
                raise CheckpointError(
                    f"The record of {run.folder} is damaged (annotated slices of {entry.name}); "
                    "use another run."
                ) from error
        parts[entry.role == "validation"].append(item)
    return parts


def check_same(run: Run, store: "SampleStore") -> None:
    """Refuse scans or labels that are no longer what a run learnt from.

    Raises
    ------
    CheckpointError
        It names the first that was changed.
    """
    for entry, scan in zip(entries(run), store.scans, strict=True):
        for what, before, now in (
            ("scan", entry.content, scan.content),
            ("labels of", entry.labels, scan.labels),
        ):
            if before and now and before != now:
                verb = "was" if what == "scan" else "were"
                raise CheckpointError(
                    f"The {what} {entry.name} {verb} changed since {run.folder} began, so it "
                    "cannot go on; put it back as it was, or start again with --overwrite."
                )


def recorded_start(run: Run, init: Run | str | Path | None, kind: Kind | None = None) -> Run | None:
    """Open the run that a run started from: as recorded, or where it is said to be now.

    Raises
    ------
    CheckpointError
        If it is not there, or its weights have changed.
    """
    start = run.record.get("start")
    if not isinstance(start, Mapping):
        if run.record.get("init") != "scratch":
            raise CheckpointError(f"The record of {run.folder} lacks its start; start again.")
        return None
    folder = str(start.get("folder"))
    try:
        if not init and folder.replace("\\", "/").startswith("//"):
            # To ask another machine would tell it who asks.
            raise CheckpointError("it would be on another machine")
        found = Run.open(init or run.folder / folder, kind)
    except SslsegError as error:
        raise CheckpointError(
            f"{run.folder} starts from {run.record.get('init')}, which is not where it was "
            f"({error}); say with --init where it is."
        ) from error
    if file_hash(found.weights) != start.get("weights"):
        raise CheckpointError(
            f"The weights of {found.folder} have changed since {run.folder} started from them; "
            "start again with --overwrite."
        )
    return found


def refuse_settings(**given: Any) -> None:
    """Refuse what a run that goes on takes from its record.

    Raises
    ------
    ConfigError
        It names what is to be left out.
    """
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise ConfigError(
            f"A run goes on with its own settings; leave out {' and '.join(named)}, or start anew."
        )
