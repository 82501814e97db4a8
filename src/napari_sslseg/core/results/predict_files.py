"""Segment scans in files and folders, and write label files beside each other."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path

from napari_sslseg.core.common.atomic import TemporaryFolder, remove_leftovers
from napari_sslseg.core.common.errors import (
    ConfigError,
    DataError,
    GeometryError,
    StorageError,
    VolumeError,
)
from napari_sslseg.core.common.events import (
    Done,
    Event,
    Message,
    Progress,
    StopFlag,
)
from napari_sslseg.core.common.text import count_phrase, join_names, printable
from napari_sslseg.core.results.predict import Segmenter, load_segmenter, predict
from napari_sslseg.core.results.prediction.journal import (
    JOURNAL,
    PredictionJournal,
    scan_stamp,
    staging_folder,
)
from napari_sslseg.core.results.prediction.memory import (
    check_memory,
    memory_message,
    prediction_memory,
)
from napari_sslseg.core.results.prediction.possible_names import (
    nameable_scans,
    refuse_folder_of_scans,
)
from napari_sslseg.core.results.prediction.refused import LABEL_MAP, NO_DICOM, describe_refused
from napari_sslseg.core.results.prediction.write_prediction import write_prediction
from napari_sslseg.core.runs.lineage import FLATTERED
from napari_sslseg.core.runs.provenance import file_hash, recorded_label_files
from napari_sslseg.core.runs.record import is_run
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.run_files import remark_unfinished
from napari_sslseg.core.scans.classes.segment import refuse_equal_names
from napari_sslseg.core.scans.classes.write_class_list import (
    check_class_list,
    inherited_names,
)
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.formats.registry import stores_classes
from napari_sslseg.core.scans.labelled import as_volume
from napari_sslseg.core.scans.labels import DICOM_SUFFIX
from napari_sslseg.core.scans.matching.label_guess import looks_like_labels
from napari_sslseg.core.scans.matching.sequences import choose_sequence, has_several_sequences
from napari_sslseg.core.scans.names import check_folder_name
from napari_sslseg.core.scans.replacement import refuse_to_replace_scan
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Modality, Volume, reason_of_modality
from napari_sslseg.core.segmentation.small_components import (
    check_least_part,
)

NOTHING_FOUND = (
    " If there should be some, train for more steps, or check that the labels of the training are "
    "on its scans, and that these scans are of the same kind."
)
"""What to do if no class is found in any scan."""

LARGE = 2**30
"""Bytes of memory of a prediction from which it is announced."""


def iter_predict(
    run: Run | str | Path,
    scans: Iterable[str | Path],
    *,
    out: str | Path,
    suffix: str = ".nii.gz",
    sequence: str | None = None,
    classes: Mapping[int, str] | None = None,
    device: str = "auto",
    modality: Modality | None = None,
    overwrite: bool = False,
    tta: bool = False,
    least_part: float = 0.0,
    stop: StopFlag | None = None,
    resume: bool = False,
) -> Iterator[Event]:
    """Segment scans in files and folders, and write label files with the names of the scans.

    Parameters
    ----------
    run : Run or path-like
        A fine-tuning run.
    scans : iterable of path-like
        Scans, and folders of scans.
    out : path-like
        Folder for the label files, which are on the grids of their scans.
    suffix : str
        Format of the labels, see :func:`~napari_sslseg.core.scans.labels.save_labels`.
    sequence : str, optional
        End of the names of the scans to use if each case has several, such as ``T1w``; that of the
        run by default.
    classes : mapping of int to str, optional
        Names of the label values; those of the run by default. DICOM SEG and NRRD store them, for
        other formats they are written as ``classes.json`` beside the label files.
    device, modality, tta, least_part
        As in :func:`predict`.
    overwrite : bool
        Whether to replace existing labels in ``out``. By default this is an error, since they may
        be labels that somebody drew. Scans are never replaced.
    stop : StopFlag, optional
        Stops after the current scan.
    resume : bool
        Whether to keep complete files of an interrupted prediction with the same run, options and
        scans, and to predict the others. Any other file that exists is an error.

    Yields
    ------
    Event
        Progress, and last Done with two lists: the files written or kept, and one sentence for each
        scan that could not be segmented. Other scans are still segmented.

    Raises
    ------
    ConfigError
        If both ``resume`` and ``overwrite`` are given, or ``classes`` names no class of the run.
    StorageError
        If a file exists, see ``overwrite`` and ``resume``, or one cannot be written.
    SslsegError
        If something is wrong with the run, the scans or an option.
    """
    import torch

    from napari_sslseg.core.common.compute.devices import device_message

    check_least_part(least_part)
    if resume and overwrite:
        raise ConfigError("Either resume a prediction, or overwrite its files; leave one out.")
    check_folder_name(Path(out))
    # First, since it may be the folder of the scans if both are swapped.
    scans = [scans] if isinstance(scans, str | Path) else list(scans)
    swapped = [path for path in scans if isinstance(path, str | Path) and is_run(Path(path))]
    if swapped and isinstance(run, str | Path) and not is_run(Path(run)):
        raise ConfigError(
            f"{swapped[0]} is a run and {run} is not; give the run first, then the scans."
        )
    run = Run.open(run, "finetune")
    series = [item for item in list_series(scans) if item.is_scan]
    if not series:
        raise DataError("There is no scan to segment; choose at least one.")
    refuse_folder_of_scans(series, Path(out))
    series = yield from _of_sequence(series, sequence, run.sequence)
    total = len(series)
    series, failed = nameable_scans(series, Path(out), suffix)
    targets = _targets(series, Path(out), suffix, overwrite=overwrite, resume=resume)
    _refuse_to_replace_truth(run, targets)
    segmenter = load_segmenter(run, device)
    names = segmenter.class_names
    if classes is not None:
        names = classes
        yield from _compare_names(classes, segmenter)
    settings = {
        "weights": file_hash(run.weights),
        "modality": modality,
        "class names": {str(value): name for value, name in names.items()},
        "tta": tta,
        "least part": least_part,
    }
    journal = PredictionJournal(Path(out), settings)
    kept = _complete(journal, targets) if resume else set()
    if names and not stores_classes(f"labels{suffix}"):
        refuse_equal_names(names)
        check_class_list(
            Path(out), names, [*targets], values=segmenter.classes, overwrite=overwrite
        )
    needs = {
        item.name: prediction_memory(
            item.geometry, segmenter.preprocessing, 1 + len(segmenter.classes)
        )
        for item in series
        if item.geometry is not None
    }
    yield Message(device_message(torch.device(segmenter.device), device, torch.get_num_threads()))
    if max(needs.values(), default=0) > LARGE:
        yield Message(memory_message(needs))
    yield Message(
        f"{count_phrase(len(targets), 'scan')} to segment; the network was trained on "
        f"{segmenter.preprocessing.modality} scans with the classes "
        f"{_spoken(segmenter.classes, names)}."
    )
    if remark := remark_unfinished(run.folder):
        yield Message(remark)
    for note in () if names else inherited_names(Path(out), segmenter.classes):
        yield Message(f"{note[0].upper()}{note[1:]}")
    if resume:
        yield Message(f"{len(kept)} of {len(targets)} scans are segmented already.")
    remove_leftovers(Path(out))
    written: list[Path] = []
    empty: list[str] = []
    refused: dict[tuple[str, str], list[str]] = {}
    said = False
    staging: TemporaryFolder | None = None
    try:
        for number, (target, item) in enumerate(targets.items()):
            if stop is not None and stop.is_set:
                break
            if target in kept:
                written.append(target)
                continue
            try:
                if suffix == DICOM_SUFFIX and not is_dicom(item.files[0]):
                    refused.setdefault(NO_DICOM, []).append(str(item.path))
                    continue
                # Before the scan is read.
                check_memory(item.name, needs.get(item.name, 0))
                stamp = scan_stamp(item)
                volume = as_volume(item, modality)
                if looks_like_labels(volume):
                    refused.setdefault(LABEL_MAP, []).append(str(item.path))
                    continue
                if not said:
                    said = True
                    yield Message(_modality_message(item, volume, modality))
                prediction = predict(
                    segmenter,
                    volume,
                    probabilities=False,
                    uncertainty=False,
                    tta=tta,
                    least_part=least_part,
                )
                staging = staging or staging_folder(Path(out))
                write_prediction(
                    prediction,
                    target,
                    journal,
                    staging,
                    stamp=stamp,
                    names=names,
                    values=segmenter.classes,
                    files=[*targets],
                    use=prediction.use,
                    overwrite=overwrite,
                )
                written.append(target)
                if not prediction.labels.any():
                    empty.append(item.name)
            except (VolumeError, GeometryError, DataError) as error:
                failed.append(str(error))
            yield Progress("Predicting", number + 1, len(targets))
    finally:
        if staging is not None:
            staging.remove()
    n_refused = sum(map(len, refused.values()))
    stopped = len(written) + len(failed) + n_refused < total
    failed += [describe_refused(paths, *words) for words, paths in refused.items()]
    if empty:
        yield Message(
            f"No class was found in {len(empty)} of {len(written)} scans: {join_names(empty)}."
            + NOTHING_FOUND * (len(empty) == len(written))
        )
    learnt = [targets[file].name for file in written if journal.use(file) in FLATTERED]
    if learnt:
        others = len(learnt) < len(written)
        yield Message(
            f"The run learnt from labels of {len(learnt)} of {count_phrase(len(written), 'scan')}, "
            f"or of their patients: {join_names(learnt)}. "
            + (
                "The means of evaluate leave these predictions out."
                if others
                else "Their scores would be too high; predict scans of other patients as well."
            )
        )
    yield Done((written, failed), stopped=stopped)


def _compare_names(names: Mapping[int, str], segmenter: Segmenter) -> Iterator[Message]:
    """Compare given class names with the classes of a network.

    Raises
    ------
    ConfigError
        If they name none of its classes.
    """
    own = _spoken(segmenter.classes, segmenter.class_names)
    foreign = sorted(set(names) - {0, *segmenter.classes})
    nameless = [value for value in segmenter.classes if value not in names]
    if len(nameless) == len(segmenter.classes):
        listed = join_names([str(value) for value in sorted(names)], 20) or "no value"
        raise ConfigError(
            f"The class names are for {listed}, but the network has the classes {own}; name these "
            "values, or leave the names out."
        )
    for values, what in (
        (foreign, "The network has no class for the names"),
        (nameless, "The class names leave out"),
    ):
        if values:
            yield Message(f"{what} {_spoken(values, names)}; the classes of the network are {own}.")


def _spoken(classes: Iterable[int], names: Mapping[int, str]) -> str:
    """Classes with their names, such as "1 liver, 2 spleen"."""
    spoken = [f"{value} {names[value]}" if value in names else str(value) for value in classes]
    return printable(join_names(spoken, 20))


def _modality_message(item: Series, volume: Volume, given: Modality | None) -> str:
    """Say as what the first scan is read, and why."""
    reason = "as given" if given is not None else reason_of_modality(item)
    return f"Modality: {volume.modality}, {reason}."


def _targets(
    series: Iterable[Series], out: Path, suffix: str, *, overwrite: bool, resume: bool
) -> dict[Path, Series]:
    """Return the file of each prediction with its scan, before anything is written.

    Raises
    ------
    DataError
        If two scans have the same name, or a prediction would replace its scan.
    StorageError
        If a file exists although it may not, or is another scan.
    """
    targets: dict[Path, Series] = {}
    for item in series:
        target = out / f"{item.name}{suffix}"
        if target in targets:
            raise DataError(
                f"{targets[target].path} and {item.path} have the same name, so one prediction "
                "would overwrite the other; use a separate folder for each."
            )
        if target.resolve() in (path.resolve() for path in item.files):
            raise DataError(
                f"The prediction would overwrite the scan {target}; choose another --out."
            )
        if overwrite:
            refuse_to_replace_scan(target)
        elif target.exists() and not resume:
            raise StorageError(_why_not_written(target))
        targets[target] = item
    return targets


def _refuse_to_replace_truth(run: Run, targets: Iterable[Path]) -> None:
    """Refuse to replace what may be labels that the run learnt from.

    Raises
    ------
    StorageError
        If a file has their name, in a folder of their name that has no predictions.
    """
    learnt = recorded_label_files(run)
    for target in targets:
        name = f"{target.absolute().parent.name}/{target.name}"
        if name in learnt and target.exists() and not (target.parent / JOURNAL).is_file():
            raise StorageError(
                f"{target} is no prediction, and the run learnt from {name}, so it is not "
                "replaced; choose another folder."
            )


def _why_not_written(target: Path) -> str:
    """Say what to do about a file in the place of a prediction; it may be labels of the user."""
    if not (target.parent / JOURNAL).is_file():
        return (
            f"{target} exists already, and is no prediction of this program; choose a new or an "
            "empty folder."
        )
    return (
        f"{target} exists already; choose another folder, or pass --resume to continue an "
        "interrupted prediction, or --overwrite (in Python resume=True, overwrite=True)."
    )


def _of_sequence(
    series: list[Series], sequence: str | None, recorded: str | None
) -> Generator[Message, None, list[Series]]:
    """Choose the sequence that is given, or that of the training if patients have several."""
    if sequence:
        return choose_sequence(series, sequence)
    if not recorded or not has_several_sequences(series):
        return series
    trained = f"The network was trained on scans whose names end with {recorded}"
    try:
        chosen = choose_sequence(series, recorded)
    except DataError:
        yield Message(
            f"{trained}, but no name here ends so; all {len(series)} scans are segmented. Choose "
            "scans with --sequence END (in Python sequence=)."
        )
        return series
    others = [scan.name for scan in series if scan not in chosen]
    if others:
        yield Message(
            f"{trained}, so {count_phrase(len(others), 'other scan')} "
            f"{'is' if len(others) == 1 else 'are'} left out ({join_names(others)}). Choose others "
            "with --sequence END (in Python sequence=)."
        )
    return chosen


def _complete(journal: PredictionJournal, targets: Mapping[Path, Series]) -> set[Path]:
    """Find the files of an interrupted prediction that are complete.

    Raises
    ------
    StorageError
        If a file exists that this prediction has not written.
    """
    kept = set()
    for target, item in targets.items():
        if not target.exists():
            continue
        try:
            reason = journal.why_not_complete(target, item)
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
        if reason is not None:
            raise StorageError(
                f"{target} {reason}, so it is neither kept nor replaced; move it away, or choose "
                "another folder."
            )
        kept.add(target)
    return kept
