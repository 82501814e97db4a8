"""Resume a run: open it, and find the scans that it was trained on."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_sslseg.core.common.errors import CheckpointError, ConfigError, SslsegError, StorageError
from napari_sslseg.core.common.events import Event, Message, Progress
from napari_sslseg.core.common.text import count_phrase, join_names, printable
from napari_sslseg.core.runs.provenance import (
    DEFAULT_MEANING,
    ScanRecord,
    file_hash,
    label_names,
    scan_records,
)
from napari_sslseg.core.runs.record import is_run
from napari_sslseg.core.runs.run import Kind, Run
from napari_sslseg.core.runs.run_files import claim
from napari_sslseg.core.samples.store import hash_scan, load_scan
from napari_sslseg.core.scans.classes.segment import fold_class
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.matching.patients import with_subject
from napari_sslseg.core.scans.slices.ranges import ALL_SLICES, parse_ranges
from napari_sslseg.core.scans.sources import without_labels
from napari_sslseg.core.segmentation.unlabelled import UNLABELLED
from napari_sslseg.core.settings.stages import FinetuneSettings

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore

Scan = TypeVar("Scan", bound=Any)


def open_resumed(out: Path, kind: Kind) -> Run:
    """Open the run to resume.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged, or of another kind.
    """
    if not any(is_run(path) for path in (out, *out.glob("*/"))) and not _has_files(out):
        raise CheckpointError(
            f"There is no run in {out} to resume, as if it was stopped before its first step; "
            "start it without --resume (in Python resume=False), or check the path."
        )
    run = Run.open(out, kind)
    scan_records(run)
    if run.record["settings"].get("preprocessing") is None:
        raise CheckpointError(
            f"The record of {run.folder} lacks its preprocessing, so it cannot be resumed; start "
            "again with --overwrite (in Python overwrite=True)."
        )
    return run


def _has_files(folder: Path) -> bool:
    """Whether a folder has other files than those of a run that ended before its first step."""
    try:
        claim(folder)
    except StorageError:
        return True
    return False


def is_finished(run: Run) -> bool:
    """Whether a run is finished and has its weights."""
    return run.record.get("status") == "finished" and run.weights.is_file()


def same_scans(run: Run, scans: Sequence[Scan]) -> list[Scan]:
    """Find the scans of a run among those given, by name, in the order of the run.

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
    for entry in scan_records(run):
        named = given.get(entry.name, [])
        needs_labels = labelled and entry.role != UNLABELLED
        fit = [scan for scan in named if not needs_labels or isinstance(scan, LabelledScan)]
        if len(fit) > 1:
            # Scans of the same name, such as the T1 of each patient, are distinguished by content.
            fit.sort(key=lambda scan: hash_scan(scan) != entry.content)
        if not fit:
            what = "labels of the scan" if named else "scan"
            hint = "put them back" if named else "put it back"
            if entry.role == UNLABELLED and all(isinstance(s, LabelledScan) for s in scans):
                hint = "give --unlabelled again (in Python unlabelled=...)"
            raise CheckpointError(
                f"The {what} {entry.name}, used by {run.folder}, {'are' if named else 'is'} not "
                f"among the scans given; {hint}, or start again without."
            )
        # The patients of the run decide its split, also where names are guessed anew.
        found.append(with_subject(fit[0], entry.subject) if entry.subject else fit[0])
        named.remove(fit[0])
    return found


def same_labelled(
    run: Run, scans: Sequence[Scan], *, volumes: bool
) -> tuple[list[LabelledScan], list[LabelledScan], list[Any]]:
    """Find the scans of a fine-tuning run among those given.

    Parameters
    ----------
    run : Run
        The run to resume.
    scans : sequence of Scan
        Scans to choose from, with and without labels.
    volumes : bool
        Whether the network takes volumes, which are always annotated as a whole.

    Returns
    -------
    list of LabelledScan, list of LabelledScan, list
        Training scans and validation scans, with the slices and the classes that the run used,
        and unlabelled scans.

    Raises
    ------
    CheckpointError
        If one is missing, the names of its labels were changed, or the record is damaged.
    """
    parts: tuple[list[LabelledScan], list[LabelledScan], list[Any]] = [], [], []
    for entry, item in zip(scan_records(run), same_scans(run, scans), strict=True):
        if entry.role == UNLABELLED:
            parts[2].append(without_labels(item))
            continue
        parts[entry.role == "validation"].append(_as_before(run, entry, item, volumes=volumes))
    return parts


def _as_before(run: Run, entry: ScanRecord, item: LabelledScan, *, volumes: bool) -> LabelledScan:
    """Labels with the slices, the classes and the meaning of values that a run used."""
    _check_names(run, entry, item)
    if entry.annotated is not None and not volumes:
        try:
            if entry.annotated == ALL_SLICES:
                item = replace(item, annotated=None)
            else:
                # The plane is not known here, so the longest side is the limit.
                end = max(item.geometry.shape)
                item = replace(item, annotated=parse_ranges(entry.annotated, end))
        except ValueError as error:
            raise CheckpointError(
                f"The record of {run.folder} is damaged (annotated slices of {entry.name}); "
                "use another run."
            ) from error
    return replace(item, **{**DEFAULT_MEANING, **entry.meaning, "values": entry.values})


def describe_changed_labels(run: Run, labelled: Sequence[LabelledScan]) -> Iterator[Event]:
    """Name the scans whose labels a finished run does not know, and say what to do.

    Parameters
    ----------
    run : Run
        A finished fine-tuning run.
    labelled : sequence of LabelledScan
        Labels that were given to resume it.
    """
    settings = run.settings(FinetuneSettings)
    assert settings.preprocessing is not None
    volumes = settings.network.dimensions == 3
    entries = {entry.name: entry for entry in scan_records(run) if entry.role != UNLABELLED}
    often = Counter(item.name for item in labelled)
    new = [item.name for item in labelled if item.name not in entries]
    changed = []
    for number, item in enumerate(labelled):
        entry = entries.get(item.name)
        if entry is None or not entry.labels or often[item.name] > 1:
            continue
        try:
            before = _as_before(run, entry, item, volumes=volumes)
            loaded = load_scan(
                before,
                settings.preprocessing.plane,
                settings.classes or (),
                settings.preprocessing.modality,
                whole=volumes,
            )
            if loaded.digests()[1] != entry.labels:
                changed.append(item.name)
        except SslsegError:  # Such as a new class, or values with other names.
            changed.append(item.name)
        yield Progress("Comparing labels", number + 1, len(labelled))
    said = [
        f"the labels of {count_phrase(len(names), 'scan')} {what} ({join_names(names)})"
        for names, what in ((changed, "changed since it was trained"), (new, "are new"))
        if names
    ]
    if said:
        yield Message(
            f"The run does not know all of these labels: {' and '.join(said)}. To learn from them, "
            "train into another folder, or again with --overwrite (in Python overwrite=True)."
        )


def _check_names(run: Run, entry: ScanRecord, item: LabelledScan) -> None:
    """Refuse labels whose values have other names than when the run began."""
    now = label_names(item) if entry.names else {}
    for value, name in entry.names.items():
        if fold_class(now.get(value, name)) != fold_class(name):
            raise CheckpointError(
                f"The names of the labels of {entry.name} were changed since {run.folder} began: "
                f"the value {value} was {printable(name, 60)} and is {printable(now[value], 60)} "
                "now, so the run cannot be resumed; restore the names, or start again with "
                "--overwrite (in Python overwrite=True)."
            )


def check_same(run: Run, store: "SampleStore") -> None:
    """Refuse scans or labels that changed since a run began.

    Raises
    ------
    CheckpointError
        It names the first that changed.
    """
    for entry, scan in zip(scan_records(run), store.scans, strict=True):
        for what, before, now in (
            ("scan", entry.content, scan.content),
            ("labels of", entry.labels, scan.labels),
        ):
            if before and now and before != now:
                verb = "was" if what == "scan" else "were"
                raise CheckpointError(
                    f"The {what} {entry.name} {verb} changed since {run.folder} began, so the run "
                    "cannot be resumed; restore the file, or start again with --overwrite."
                )


def recorded_start(run: Run, init: Run | str | Path | None, kind: Kind | None = None) -> Run | None:
    """Open the run that a run started from: at ``init`` if given, else where it is recorded.

    Raises
    ------
    CheckpointError
        If it is not there, or its weights changed.
    """
    start = run.record.get("start")
    if not isinstance(start, Mapping):
        if run.record.get("init") != "scratch":
            raise CheckpointError(f"The record of {run.folder} lacks its start; start again.")
        return None
    folder = str(start.get("folder"))
    try:
        if not init and folder.replace("\\", "/").startswith("//"):
            # Opening a network path would reveal the user to the other machine.
            raise CheckpointError("it would be on another machine")
        found = Run.open(init or run.folder / folder, kind)
    except SslsegError as error:
        raise CheckpointError(
            f"{run.folder} starts from {run.record.get('init')}, which cannot be opened "
            f"({error}); give its folder with --init."
        ) from error
    if file_hash(found.weights) != start.get("weights"):
        raise CheckpointError(
            f"The weights of {found.folder} changed after {run.folder} started from them; "
            "start again with --overwrite."
        )
    return found


def refuse_settings(**given: Any) -> None:
    """Refuse arguments that a resumed run takes from its record.

    Raises
    ------
    ConfigError
        It names the arguments to leave out.
    """
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise ConfigError(
            f"A resumed run keeps its settings; leave out {' and '.join(named)}, or start anew."
        )
