"""Compare predicted labels with the truth: Dice and HD95 in mm, per class and per volume.

Each class is compared as a binary mask, so class values may be any whole numbers. For empty masks
see :data:`~napari_sslseg.core.results.scores.EMPTY_RULE`. Voxels whose class is unknown in the
truth are left out: they are removed from prediction and truth.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_sslseg.core.common.errors import (
    PATH,
    CallError,
    DataError,
    GeometryError,
    ScanWarning,
    check_type,
)
from napari_sslseg.core.common.sizes import MOST_CLASSES, format_size
from napari_sslseg.core.common.text import count_phrase, join_names, printable
from napari_sslseg.core.results.compared_classes import match_compared, named_classes
from napari_sslseg.core.results.compared_labels import (
    Labels,
    label_values,
    open_both,
    refuse_folder,
    renumbered,
    warn_about_truth_of_other,
)
from napari_sslseg.core.results.folder_pairs import pair_folders
from napari_sslseg.core.results.overlap import class_score
from napari_sslseg.core.results.prediction.journal import JOURNAL, use_in, written_lines
from napari_sslseg.core.results.scores import ClassScore, Evaluation, VolumeScores
from napari_sslseg.core.results.truth_options import TruthOptions
from napari_sslseg.core.runs.lineage import Use
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.classes.partial_labels import (
    LabelledClasses,
    check_unknown_value,
    class_values,
    refuse_likely_unknown,
)
from napari_sslseg.core.scans.matching.label_guess import refuse_scan
from napari_sslseg.core.scans.matching.patients import Patients
from napari_sslseg.core.scans.scan_lists import by_scan
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.slices.annotated import (
    Annotated,
    annotated_of_all,
    are_single_slices,
    as_annotated,
)

LEARNT = "The run learnt from labels of"


def evaluate(
    prediction: Labels,
    truth: Labels,
    *,
    classes: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    class_map: ClassMapLike = None,
    ignore: int | None = None,
    background: int = 0,
    labelled_classes: Sequence[int] | None = None,
    annotated: Annotated = None,
) -> VolumeScores:
    """Score one predicted label map against the truth.

    For empty masks see :data:`~napari_sslseg.core.results.scores.EMPTY_RULE`: a class absent from
    both is not scored (None); for a class absent from one of them, Dice is 0 and HD95 is undefined
    (None).

    Parameters
    ----------
    prediction, truth : Volume, Prediction, ndarray, path-like or tuple of Path
        Labels in the display grid, 2D or 3D; files are loaded. Several files contain one structure
        each. An array is assumed to be on the grid of the other one. Classes of files and of a
        prediction are matched by name, if they have names, and get the values of the prediction.
        A Volume or an array has no names, and its values are the classes.
    classes : sequence of int, optional
        Classes to score; by default all values except 0 in either label map. A warning says if
        none of them occurs although others do.
    spacing : sequence of float, optional
        Voxel size in mm for each axis, used if both are arrays; otherwise it is that of the scan.
        Without a voxel size, HD95 and volumes in ml are None.
    class_map : ClassMap, path-like or mapping, optional
        Which structure in the files is which class, where their names do not say it; see
        :func:`~napari_sslseg.core.scans.classes.matching.match_segments`.
    ignore : int, optional
        Value in the truth of voxels whose class is unknown, such as 255. They are left out of Dice,
        HD95 and volumes.
    background : int
        Value of the background in the truth, besides 0 unless that is unknown.
    labelled_classes : sequence of int, optional
        Classes that are labelled in the truth. Others are not scored (None). If not given, those
        that the file of the truth names, or all if it names none; a warning says which class is
        not scored for that reason.
    annotated : tuple of int, "labelled" or "all", optional
        Axial slices on which the truth is labelled, by number from 0, or those with any label; all
        by default. Other slices are left out of Dice, HD95 and volumes.

    Returns
    -------
    VolumeScores
        Dice, HD95 in mm and volumes in ml per class. A warning says if the run that made the
        prediction learnt from labels of the patient, or if the names are of different patients.

    Raises
    ------
    GeometryError
        If the two lie on different grids, or ``spacing`` does not fit them.
    DataError
        If the values are not labels, or the truth has a class that is said not to be labelled.
    ClassesError
        If it is not clear which structure is which class.
    """
    check_unknown_value(ignore, background)
    _check_classes(classes)
    refuse_folder(prediction, "prediction")
    refuse_folder(truth, "truth")
    said = TruthOptions(ignore, background, labelled_classes, as_annotated(annotated))
    match = match_compared([(prediction, truth)], class_map, said)
    scores = _evaluate(prediction, truth, match.values, match.names, classes, said, spacing)
    scores = replace(scores, use=_known_use(prediction))
    if scores.flattered:
        warnings.warn(f"{LEARNT} this patient, so the scores are too high.", ScanWarning, 2)
    warn_about_truth_of_other(prediction, truth)
    _warn_about_classes_without_name([scores], match.names)
    if classes and all(score.dice is None for score in scores.classes.values()):
        every = _evaluate(prediction, truth, match.values, match.names, None, said, spacing)
        missing = set(classes) - set(match.names) - set(every.classes)
        if missing == set(classes) and every.classes:
            warnings.warn(
                _describe_missing_classes(missing, set(every.classes)), ScanWarning, stacklevel=2
            )
    return scores


def _evaluate(
    prediction: Labels,
    truth: Labels,
    values: Sequence[Mapping[int, int] | None],
    names: Mapping[int, str],
    classes: Sequence[int] | None,
    said: TruthOptions,
    spacing: Sequence[float] | None = None,
    on: Series | None = None,
) -> VolumeScores:
    """Score a label map whose values, and those of its truth, are converted to classes first."""
    named = named_classes(truth, values[1]) if said.labelled_classes is None else None
    prediction, truth = open_both(prediction, truth, on)
    prediction = renumbered(prediction, values[0], "prediction")
    known, unknown = said.known(truth)
    truth = renumbered(known, values[1], "truth")
    predicted, prediction_scan = label_values(prediction, "prediction")
    true, truth_scan = label_values(truth, "truth")
    scan = prediction_scan or truth_scan
    voxel_ml = None
    if scan:
        spacing = scan.spacing
        voxel_ml = scan.geometry.voxel_ml
    elif spacing is not None:
        spacing = tuple(float(size) for size in spacing)
        if len(spacing) != true.ndim or not all(0 < size < np.inf for size in spacing):
            raise GeometryError(
                f"The spacing {format_size(spacing)} mm does not fit labels of shape "
                f"{format_size(true.shape)}; give one "
                "voxel size in mm above 0 per axis."
            )
        voxel_ml = float(np.prod(spacing)) / 1000 if true.ndim == 3 else None
    if unknown is not None:
        predicted = np.where(unknown, 0, predicted)
    said.check(true, scan.name if scan else "the truth")
    if classes is None:
        both = {"prediction": predicted, "truth": true}
        found = {role: np.unique(labels).tolist() for role, labels in both.items()}
        for role, labels in both.items():
            where = f"The {role}{f' of {scan.name}' if scan else ''}"
            refuse_scan(labels, len(found[role]), where)
        classes = sorted({int(c) for values in found.values() for c in values} - {0})
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"{scan.name if scan else 'The labels'}: {len(classes)} different values are too many "
            "for classes; check that both folders contain labels and not scans."
        )
    return VolumeScores(
        name=scan.name if scan else "scan",
        subject=scan.subject if scan else "unknown",
        classes={
            int(c): class_score(predicted == c, true == c, spacing, voxel_ml)
            if said.scores(c) and (named is None or c in named)
            else ClassScore()
            for c in sorted(classes)
        },
        class_names=names,
        named=named,
        on_single_slices=_on_single_slices(true),
    )


def summarize(volumes: Iterable[VolumeScores], *, unpredicted: Iterable[str] = ()) -> Evaluation:
    """Combine the scores of several volumes.

    Parameters
    ----------
    volumes : iterable of VolumeScores
        One per scan.
    unpredicted : iterable of str, optional
        Names of scans with a truth but without a prediction.
    """
    volumes = tuple(volumes)
    names = {value: name for item in volumes for value, name in item.class_names.items()}
    return Evaluation(volumes, tuple(unpredicted), names)


def evaluate_folders(
    predictions: str | Path,
    truth: str | Path,
    *,
    images: str | Path | None = None,
    sequence: str | None = None,
    classes: Sequence[int] | None = None,
    patients: Patients | None = None,
    class_map: ClassMapLike = None,
    ignore: int | None = None,
    background: int = 0,
    labelled_classes: LabelledClasses | None = None,
    annotated: Mapping[str, Sequence[int]] | Literal["labelled", "all"] | None = None,
) -> Evaluation:
    """Score all predictions in a folder against their truths.

    Parameters
    ----------
    predictions, truth : path-like
        Label files, or folders of label files in any layout that
        :func:`~napari_sslseg.core.scans.matching.pair_scans.pair_scans` takes as labels. Two single
        files are compared whatever their names; else the truth of a prediction is found as the
        labels of a scan with the name of the prediction.
    images : path-like, optional
        The scans, if the names of the truths fit only together with them, as for DICOM; scans that
        lie beside the truths are found without it.
    sequence : str, optional
        End of the names of the predictions to score if each case has several, such as ``T1w``.
    classes : sequence of int, optional
        Classes to score; by default all values except 0 in any of the compared files.
    patients : path-like, mapping or callable, optional
        The patient of each prediction by name, see
        :func:`~napari_sslseg.core.scans.matching.patients.with_patients`; guessed from the names
        of all predictions by default.
    class_map : ClassMap, path-like or mapping, optional
        Which structure in the files is which class, as in :func:`evaluate`.
    ignore, background : int
        As in :func:`evaluate`.
    labelled_classes : mapping of str to sequence of int or str, optional
        Classes, by value or name, that are labelled in the truth of a prediction, by its name; all
        in those that are not named, or those that the file of the truth names, see
        :func:`evaluate`.
    annotated : mapping of str to sequence of int, "labelled" or "all", optional
        Axial slices on which the truth is labelled, by the name of the prediction, or a word as in
        :func:`evaluate`; all of those that are not named. Without it, a warning names truths whose
        labels are on single slices.

    Returns
    -------
    Evaluation
        Truths without a prediction are listed in ``unpredicted``; a warning names predictions
        without a truth, which are not scored. If the predictions were written by
        :func:`~napari_sslseg.core.results.predict_files.iter_predict`, scans of patients that the
        run learnt from are not in the means, unless there are no others; a warning says so.

    Raises
    ------
    DataError
        If no prediction has a truth, or one has a name similar to that of a truth, two files
        exist, a value of the truth seems to mean that the class is unknown, or none of
        ``classes`` occurs in any file.
    GeometryError
        If a prediction is not on the grid of its truth.
    """
    check_unknown_value(ignore, background)
    _check_classes(classes)
    for name, path in (("predictions", predictions), ("truth", truth)):
        check_type(path, PATH, name, "a folder or a file (core.evaluate compares arrays)")
    by_name: dict[str, Annotated] | None = None
    of_all: Annotated = None
    if isinstance(annotated, Mapping):
        by_name = {name: as_annotated(slices, name) for name, slices in annotated.items()}
    else:
        of_all = annotated_of_all(annotated)
    found, unpredicted = pair_folders(
        Path(predictions),
        Path(truth),
        None if images is None else Path(images),
        sequence=sequence,
        patients=patients,
    )
    names = [pair.scan.name for pair in found]
    pairs = [(pair.prediction, pair.truth) for pair in found]
    match = match_compared(pairs, class_map, TruthOptions(ignore, background))
    for note in match.notes:
        warnings.warn(note, ScanWarning, stacklevel=2)
    every = {*names, *unpredicted}
    labelled = class_values(labelled_classes or {}, match.names, every)
    if by_name is not None:
        by_name = by_scan(by_name, every, "annotated slices")
    lines, are_predictions = _predicted(pair.prediction for pair in found)
    predicted_truths, swapped = _predicted(pair.truth for pair in found)
    if swapped and not are_predictions:
        raise DataError(
            f"{next(iter(predicted_truths))} is a prediction, by {JOURNAL} beside it, but it is "
            "given as the truth; swap the two folders."
        )

    def score(number: int, classes: Sequence[int] | None) -> VolumeScores:
        scan = found[number].scan
        values = match.values[2 * number : 2 * number + 2]
        here = of_all if by_name is None else by_name.get(scan.name)
        said = TruthOptions(ignore, background, labelled.get(scan.name), here)
        on = None if scan.image is None else scan
        return _evaluate(*pairs[number], values, match.names, classes, said, on=on)

    volumes = []
    for number, pair in enumerate(found):
        scan, scores = pair.scan, score(number, classes)
        use = use_in(lines.get(pair.prediction) if isinstance(pair.prediction, Path) else None)
        volumes.append(replace(scores, name=scan.name, subject=scan.subject, use=use))
    missing = set(classes or ()) - set(match.names)
    missing -= {c for v in volumes for c, s in v.classes.items() if s.dice is not None}
    if missing:
        # They may occur where they are not scored, so the files are read again.
        occurring = {c for number in range(len(found)) for c in score(number, None).classes}
        _say_missing_classes(missing - occurring, occurring, set(classes or ()))
    _warn_about_classes_without_name(volumes, match.names)
    _warn_about_absent_classes([v for v in volumes if v.name not in labelled], match.names)
    if annotated is None:
        _warn_about_single_slices(volumes)
    if classes is None:
        # Also if another value was said to be unknown, perhaps by a typing error.
        scored = [item for volume in volumes for item in volume.classes.items()]
        shown = {value for value, score in scored if score.truth_voxels}
        if shown and max(shown) not in {v for v, score in scored if score.prediction_voxels}:
            refuse_likely_unknown(shown)
    if classes is None:
        # Classes that occur only in other volumes are not scored, so no file is read twice.
        found_classes = sorted({c for volume in volumes for c in volume.classes})
        volumes = [
            replace(v, classes={c: v.classes.get(c, ClassScore()) for c in found_classes})
            for v in volumes
        ]
    evaluation = summarize(volumes, unpredicted=unpredicted)
    _warn_about_learnt(evaluation)
    return evaluation


def _known_use(prediction: Labels) -> Use | None:
    """How the run had used the scan of a prediction; None if that is not known."""
    if isinstance(prediction, str | Path):
        path = Path(prediction)
        return use_in(written_lines([path]).get(path))
    return getattr(prediction, "use", None)


def _warn_about_learnt(evaluation: Evaluation) -> None:
    """Warn about scans whose patients the run learnt from, and say whether the means are of them.

    It is known only if predict wrote the predictions.
    """
    left, count = evaluation.left_out, len(evaluation.volumes)
    if left:
        total = evaluation.mean_dice_all
        warnings.warn(
            f"Not in the means: {len(left)} of {count_phrase(count, 'scan')}, since the run learnt "
            f"from labels of these patients ({join_names(left)})."
            + ("" if total is None else f" Mean Dice of all: {total:.4f}."),
            ScanWarning,
            stacklevel=3,
        )
    elif any(volume.flattered for volume in evaluation.volumes):
        patients = "this patient" if count == 1 else "all these patients"
        warnings.warn(f"{LEARNT} {patients}, so the scores are too high.", ScanWarning, 3)
    chose = [v.name for v in evaluation.volumes if v.use == "validation"]
    if chose:
        warnings.warn(
            f"The best weights were chosen with {count_phrase(len(chose), 'scan')} in the means "
            f"({join_names(chose)}), so that their scores are slightly too high.",
            ScanWarning,
            stacklevel=3,
        )


def _predicted(files: Iterable[Any]) -> tuple[dict[Path, Mapping[str, Any]], bool]:
    """Journal lines of the files that are predictions, and whether all are."""
    paths = [file for file in files if isinstance(file, Path)]
    lines = written_lines(paths)
    return lines, bool(paths) and len(lines) == len(set(paths))


def _check_classes(classes: Any) -> None:
    """Refuse classes that are not several label values."""
    if classes is None:
        return
    several = isinstance(classes, Iterable) and not isinstance(classes, str)
    if not several or not all(isinstance(value, Integral) for value in classes):
        raise CallError(
            f"classes is {printable(repr(classes), 100)}; write the label values of the classes, "
            "such as (1, 2). class_map= matches names."
        )


def _say_missing_classes(missing: set[int], occurring: set[int], wanted: set[int]) -> None:
    """Refuse classes if none of them occurs in any file; warn if some do."""
    if not missing:
        return
    sentence = _describe_missing_classes(missing, occurring)
    if missing == wanted:
        raise DataError(f"{sentence[:-1]}; choose others with --classes (in Python classes=).")
    warnings.warn(sentence, ScanWarning, stacklevel=3)


def _describe_missing_classes(missing: set[int], occurring: set[int]) -> str:
    numbers = join_names([str(value) for value in sorted(missing)])
    are = f"class {numbers} occurs" if len(missing) == 1 else f"classes {numbers} occur"
    there = join_names([str(value) for value in sorted(occurring)], 20) or "none"
    return f"The {are} in neither the predictions nor the truth; the classes there are {there}."


def _warn_about_classes_without_name(
    volumes: Sequence[VolumeScores], names: Mapping[int, str]
) -> None:
    """Warn about classes that are not scored where the truth names other structures only."""
    lacking: dict[int, list[str]] = {}
    for volume in volumes:
        for value in volume.nameless:
            lacking.setdefault(value, []).append(volume.name)
    if lacking:
        listed = _by_class(lacking, names, len(volumes))
        warnings.warn(
            f"Not named in the truth, so not scored: {listed}. If a class is labelled there and "
            "the patient has none, say so with --labelled-classes FILE (in Python "
            "labelled_classes=).",
            ScanWarning,
            stacklevel=3,
        )


def _warn_about_absent_classes(volumes: Sequence[VolumeScores], names: Mapping[int, str]) -> None:
    """Warn about classes that occur in some truths only, as they may not be labelled in others."""
    occurring = sorted({c for v in volumes for c, s in v.classes.items() if s.truth_voxels})
    lacking: dict[int, list[str]] = {}
    for value in occurring if len(occurring) > 1 else ():
        for volume in volumes:
            score = volume.classes.get(value, ClassScore())
            known = volume.named is None or value in volume.named
            if known and not score.truth_voxels:
                lacking.setdefault(value, []).append(volume.name)
    if lacking:
        listed = _by_class(lacking, names, len(volumes))
        warnings.warn(
            f"Some classes are missing in some truths: {listed}. They are scored as absent there "
            "(Dice 0 where they are predicted). If a truth does not have them labelled, say so "
            "with --labelled-classes FILE (in Python labelled_classes=).",
            ScanWarning,
            stacklevel=3,
        )


def _by_class(lacking: Mapping[int, Sequence[str]], names: Mapping[int, str], of: int) -> str:
    """List classes with the scans that lack them."""
    parts = [
        f"{printable(names.get(value, f'class {value}'), 60)} in {len(scans)} of "
        f"{count_phrase(of, 'scan')} ({join_names(scans)})"
        for value, scans in sorted(lacking.items())
    ]
    more = f"; and {len(parts) - 5} more classes" if len(parts) > 5 else ""
    return "; ".join(parts[:5]) + more


def _warn_about_single_slices(volumes: Sequence[VolumeScores]) -> None:
    """Warn about truths whose labels are on single slices, whose others count as background."""
    sparse = [item.name for item in volumes if item.on_single_slices]
    if sparse:
        warnings.warn(
            f"The truth of {len(sparse)} of {len(volumes)} scans has labels on single slices with "
            f"empty slices beside them ({join_names(sparse)}). The empty slices are scored as "
            "background. If only slices with labels are annotated, give --annotated labelled (in "
            'Python annotated="labelled"); if all are, --annotated all says so.',
            ScanWarning,
            stacklevel=3,
        )


def _on_single_slices(true: np.ndarray) -> bool:
    if true.ndim != 3:
        return False
    shown = np.asarray(true.any(axis=(1, 2)))
    runs = int(np.count_nonzero(np.diff(shown.astype(np.int8), prepend=0) == 1))
    return are_single_slices(int(shown.sum()), runs, len(shown))
