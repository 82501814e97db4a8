"""Compare predicted labels with the truth: Dice and HD95 in mm, per class and per volume.

Each class is compared as a binary mask, so class values may be any whole numbers. For empty masks
see :data:`~napari_sslseg.core.results.scores.EMPTY_RULE`. Voxels whose class is unknown in the
truth are left out: they are removed from prediction and truth.
"""

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from napari_sslseg.core.common.errors import DataError, GeometryError, ScanWarning
from napari_sslseg.core.common.sizes import MOST_CLASSES
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.results.scores import ClassScore, Evaluation, VolumeScores
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.classes.matching import (
    ClassMatch,
    LabelFile,
    match_segments,
    why_no_class,
)
from napari_sslseg.core.scans.classes.partial_labels import (
    LabelledClasses,
    are_single_slices,
    check_unknown_value,
    class_values,
    refuse_likely_unknown,
)
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.renumber import renumber_array, values_in
from napari_sslseg.core.scans.classes.segment import Segment
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.labelled import Annotated, annotated_slices
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.matching.pairing import match_files
from napari_sslseg.core.scans.matching.patients import Patients, with_patients
from napari_sslseg.core.scans.matching.subjects import guess_subjects
from napari_sslseg.core.scans.names import label_paths
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import HasLabels, Volume

Labels = Volume | HasLabels | np.ndarray | str | Path
"""Labels to compare: a label volume, a prediction, an array, or a file."""


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
    prediction, truth : Volume, Prediction, ndarray or path-like
        Labels in the display grid, 2D or 3D; files are loaded. An array is assumed to be on the
        grid of the other one. Classes of files and of a prediction are matched by name, if they
        have names, and get the values of the prediction. A Volume or an array has no names, and
        its values are the classes.
    classes : sequence of int, optional
        Classes to score; by default all values except 0 in either label map.
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
        Classes that are labelled in the truth; all if not given. Others are not scored (None).
    annotated : tuple of int, "labelled" or "all", optional
        Axial slices on which the truth is labelled, by number from 0, or those with any label; all
        by default. Other slices are left out of Dice, HD95 and volumes.

    Returns
    -------
    VolumeScores
        Dice, HD95 in mm and volumes in ml per class.

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
    said = Said(ignore, background, labelled_classes, annotated)
    match = _match([(prediction, truth)], class_map, said)
    return _evaluate(prediction, truth, match.values, match.names, classes, said, spacing)


class Said(NamedTuple):
    """What was said about the truth, see :func:`evaluate`."""

    ignore: int | None = None
    background: int = 0
    labelled_classes: Sequence[int] | None = None
    annotated: Annotated = None

    def known(self, labels: Labels) -> tuple[Labels, np.ndarray | None]:
        """Labels with 0 for the background and the unknown voxels, and which these are."""
        everywhere = self.annotated in (None, "all")
        if self.ignore is None and not self.background and everywhere:
            return labels, None
        values, scan = _values(labels, "truth")
        unknown = None if self.ignore is None else values == self.ignore
        if not everywhere:
            if values.ndim != 3:
                raise DataError(
                    "Annotated slices need labels with three axes; leave them out for a single "
                    "slice."
                )
            left_out = np.zeros(values.shape, bool)
            name = "the truth" if scan is None else scan.name
            left_out[~annotated_slices(values, self.annotated, name)] = True
            unknown = left_out if unknown is None else unknown | left_out
        cleared = values == self.background
        values = np.where(cleared if unknown is None else cleared | unknown, 0, values)
        return values if scan is None else replace(scan, data=values), unknown

    def check(self, true: np.ndarray, name: str) -> None:
        """Refuse a class that is said not to be labelled."""
        if self.labelled_classes is None:
            return
        found = np.setdiff1d(np.unique(true), [0, *self.labelled_classes])
        if found.size:
            raise DataError(
                f"The class {found[0]} occurs in {name}, although it is said not to be labelled "
                "there; correct the list of labelled classes."
            )

    def scores(self, value: int) -> bool:
        """Whether a class is labelled in the truth."""
        return self.labelled_classes is None or value in self.labelled_classes


def _evaluate(
    prediction: Labels,
    truth: Labels,
    values: Sequence[Mapping[int, int] | None],
    names: Mapping[int, str],
    classes: Sequence[int] | None,
    said: Said,
    spacing: Sequence[float] | None = None,
) -> VolumeScores:
    """Score a label map whose values, and those of its truth, are converted to classes first."""
    both = _open_both(prediction, truth)
    prediction = _renumbered(both[0], values[0], "prediction")
    known, unknown = said.known(both[1])
    truth = _renumbered(known, values[1], "truth")
    predicted, prediction_scan = _values(prediction, "prediction")
    true, truth_scan = _values(truth, "truth")
    scan = prediction_scan or truth_scan
    if predicted.shape != true.shape:
        raise GeometryError(
            f"The prediction has shape {predicted.shape} but the truth {true.shape}, both in the "
            "display grid; compare labels of the same scan, or resample one onto the other."
        )
    if prediction_scan and truth_scan and not prediction_scan.geometry.matches(truth_scan.geometry):
        raise GeometryError(
            f"The prediction {prediction_scan.name} has another grid than the truth "
            f"{truth_scan.name}: "
            f"{prediction_scan.geometry.difference(truth_scan.geometry)}; compare labels of the "
            "same scan, or resample one onto the other."
        )
    voxel_ml = None
    if scan:
        spacing = scan.spacing
        voxel_ml = abs(float(np.linalg.det(scan.geometry.affine[:3, :3]))) / 1000
    elif spacing is not None:
        spacing = tuple(float(size) for size in spacing)
        if len(spacing) != true.ndim or not all(0 < size < np.inf for size in spacing):
            raise GeometryError(
                f"The spacing {spacing} does not fit labels of shape {true.shape}; give one "
                "voxel size in mm above 0 per axis."
            )
        voxel_ml = float(np.prod(spacing)) / 1000 if true.ndim == 3 else None
    if unknown is not None:
        predicted = np.where(unknown, 0, predicted)
    said.check(true, scan.name if scan else "the truth")
    if classes is None:
        classes = sorted({int(c) for labels in (predicted, true) for c in np.unique(labels)} - {0})
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"{scan.name if scan else 'The labels'}: {len(classes)} different values are too many "
            "for classes; check that both folders contain labels and not scans."
        )
    return VolumeScores(
        name=scan.name if scan else "scan",
        subject=scan.subject if scan else "unknown",
        classes={
            int(c): _score(predicted == c, true == c, spacing, voxel_ml)
            if said.scores(c)
            else ClassScore()
            for c in sorted(classes)
        },
        class_names=names,
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
    classes: Sequence[int] | None = None,
    patients: Patients | None = None,
    class_map: ClassMapLike = None,
    ignore: int | None = None,
    background: int = 0,
    labelled_classes: LabelledClasses | None = None,
    annotated: Mapping[str, Sequence[int]] | Literal["labelled", "all"] | None = None,
) -> Evaluation:
    """Score all predictions in a folder against the truth files of the same names.

    Parameters
    ----------
    predictions, truth : path-like
        Label files, or folders of label files. Two single files are compared whatever their
        names; files in folders are paired by name without the suffix, where the truth may have
        words for labels (``p0_seg``) and a prediction the channel of its scan (``p0_0000``).
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
        in those that are not named.
    annotated : mapping of str to sequence of int, "labelled" or "all", optional
        Axial slices on which the truth is labelled, by the name of the prediction, or a word as in
        :func:`evaluate`; all of those that are not named. Without it, a warning names truths whose
        labels are on single slices.

    Returns
    -------
    Evaluation
        Truths without a prediction are listed in ``unpredicted``.

    Raises
    ------
    DataError
        If a prediction has no truth, two files in a folder have the same name, a path does not
        exist, or a value of the truth seems to mean that the class is unknown.
    GeometryError
        If a prediction is not on the grid of its truth.
    """
    check_unknown_value(ignore, background)
    predictions, truth = Path(predictions), Path(truth)
    predicted, true = label_paths(predictions), label_paths(truth)
    if predictions.is_file() and truth.is_file():
        true = dict.fromkeys(predicted, truth)
    else:
        true = _by_prediction(true, list(predicted))
    if missing := [name for name in predicted if name not in true]:
        raise DataError(
            f"No truth in {truth} for {len(missing)} of {len(predicted)} predictions, such as "
            f"{missing[0]}; add a label file of the same name, or remove the prediction."
        )
    pairs = [(path, true[name]) for name, path in predicted.items()]
    match = _match(pairs, class_map, Said(ignore, background))
    for note in match.notes:
        warnings.warn(note, ScanWarning, stacklevel=2)
    labelled = class_values(labelled_classes or {}, match.names, {*predicted, *true})
    subjects = _subjects(predicted, patients)
    volumes = []
    for number, (name, pair) in enumerate(zip(predicted, pairs, strict=True)):
        values = match.values[2 * number : 2 * number + 2]
        here: Any = annotated.get(name) if isinstance(annotated, Mapping) else annotated
        said = Said(ignore, background, labelled.get(name), here)
        scores = _evaluate(*pair, values, match.names, classes, said)
        volumes.append(replace(scores, name=name, subject=subjects[name]))
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
        every = sorted({c for volume in volumes for c in volume.classes})
        volumes = [
            replace(v, classes={c: v.classes.get(c, ClassScore()) for c in every}) for v in volumes
        ]
    return summarize(volumes, unpredicted=[name for name in true if name not in predicted])


def _by_prediction(true: Mapping[str, Path], predicted: Sequence[str]) -> dict[str, Path]:
    """Truth by the name of its prediction, and that without a prediction by its own name."""
    found = match_files(true, predicted)
    used = set(found.values())
    return found | {name: path for name, path in true.items() if path not in used}


def _subjects(files: Mapping[str, Path], patients: Patients | None) -> dict[str, str]:
    """Patients by the name of the prediction."""
    if patients is None:
        return dict(zip(files, guess_subjects(files.values()).subjects, strict=True))
    scans = [Series(name, name, path, (path,)) for name, path in files.items()]
    return {scan.name: scan.subject for scan in with_patients(scans, patients)}


def _match(
    pairs: Sequence[tuple[Labels, Labels]], class_map: ClassMapLike, said: Said
) -> ClassMatch:
    """Match the classes of predictions and truths: two entries of ``values`` for each pair."""
    if class_map is None and any(_has_no_names(labels) for pair in pairs for labels in pair):
        return ClassMatch({}, (None,) * 2 * len(pairs))
    # Predictions first, since they have the values of the run.
    roles = ("prediction", "truth")
    others: tuple[set[int], set[int]] = set(), {v for v in (said.ignore, said.background) if v}
    files = [
        _label_file(pair[n], role, others[n]) for n, role in enumerate(roles) for pair in pairs
    ]
    match = match_segments(files, class_map)
    both = zip(match.values[: len(pairs)], match.values[len(pairs) :], strict=True)
    return replace(match, values=tuple(values for pair in both for values in pair))


def _has_no_names(labels: Labels) -> bool:
    """Whether labels are in memory and cannot have names."""
    return not isinstance(labels, str | Path) and getattr(labels, "class_names", None) is None


def _label_file(labels: Labels, role: str, others: Collection[int]) -> LabelFile:
    """Labels with the names of their structures, without ``others``, which are no structures."""
    if isinstance(labels, str | Path):
        path = Path(labels)
        name = f"{path.absolute().parent.name}/{path.name}"
        segments = tuple(item for item in read_segments(path) if item.value not in others)
        if role == "prediction":
            # The list of a folder of predictions may name them, but no network predicts them.
            segments = tuple(item for item in segments if not why_no_class(item, name))
        return LabelFile(
            name,
            segments,
            lambda: [v for v in values_in(load_labels(path).data) if v not in others],
        )
    names = getattr(labels, "class_names", None) or {}
    segments = tuple(Segment(value, name) for value, name in names.items() if value not in others)
    return LabelFile(
        f"the {role}",
        segments,
        lambda: [v for v in values_in(_values(labels, role)[0]) if v not in others],
    )


def _renumbered(labels: Labels, values: Mapping[int, int] | None, role: str) -> Labels:
    """Labels with the values of their classes."""
    if values is None:
        return labels
    data, scan = _values(labels, role)
    data = renumber_array(data, values, f"the {role}{f' {scan.name}' if scan else ''}")
    return data if scan is None else replace(scan, data=data)


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


def _open_both(prediction: Labels, truth: Labels) -> tuple[Labels, Labels]:
    """Load labels that are files; the second one is loaded on the grid of the first."""
    loaded: dict[str, Labels] = {}
    both = {"prediction": prediction, "truth": truth}
    # DICOM labels have no grid of their own, so the other one is loaded first.
    for role in sorted(both, key=lambda role: _is_dicom(both[role])):
        labels = both[role]
        if isinstance(labels, str | Path):
            other = next(iter(loaded.values()), None)
            scan = other if isinstance(other, Volume) else getattr(other, "volume", None)
            labels = load_labels(labels, like=scan)
        loaded[role] = labels
    return loaded["prediction"], loaded["truth"]


def _is_dicom(labels: Labels) -> bool:
    return isinstance(labels, str | Path) and is_dicom(Path(labels))


def _values(labels: Labels, role: str) -> tuple[np.ndarray, Volume | None]:
    assert not isinstance(labels, str | Path)
    if isinstance(labels, Volume):
        values, scan = labels.data, labels
    elif isinstance(labels, np.ndarray):
        values, scan = labels, None
    else:
        values, scan = labels.labels, labels.volume
    # NaN is refused here as well, since it is not equal to itself.
    if values.dtype.kind not in "biu" and not np.array_equal(values, np.round(values)):
        raise DataError(
            f"The {role}{f' {scan.name}' if scan else ''} contains values that are not whole "
            "numbers; pass labels, not a scan or probabilities."
        )
    return values, scan


def _score(
    predicted: np.ndarray,
    true: np.ndarray,
    spacing: Sequence[float] | None,
    voxel_ml: float | None,
) -> ClassScore:
    n_predicted, n_true = int(predicted.sum()), int(true.sum())
    dice = hd95 = None
    if n_predicted or n_true:
        dice = 2 * int((predicted & true).sum()) / (n_predicted + n_true)
    if n_predicted and n_true and spacing is not None:
        hd95 = _hd95_mm(predicted, true, spacing)
    return ClassScore(
        dice=dice,
        hd95_mm=hd95,
        truth_voxels=n_true,
        prediction_voxels=n_predicted,
        truth_ml=None if voxel_ml is None else n_true * voxel_ml,
        prediction_ml=None if voxel_ml is None else n_predicted * voxel_ml,
    )


def _hd95_mm(predicted: np.ndarray, true: np.ndarray, spacing: Sequence[float]) -> float:
    """Symmetric HD95: the larger of the two directed 95th percentiles of surface distances.

    The surface consists of the voxels of a mask with a face neighbour outside the mask or outside
    the scan. Distances are between voxel centres, for orthogonal axes. Neither mask is empty.
    """
    import torch
    from monai.metrics.utils import get_edge_surface_distance

    # Axes with one slice are dropped, since all voxels of a single slice would be surface.
    axes = [i for i, n in enumerate(true.shape) if n > 1] or [0]
    shape = [true.shape[i] for i in axes]
    with warnings.catch_warnings():
        # MONAI passes a deprecated argument to itself.
        warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
        _, distances, _ = get_edge_surface_distance(
            torch.from_numpy(predicted.reshape(shape)),
            torch.from_numpy(true.reshape(shape)),
            spacing=[spacing[i] for i in axes],
            symmetric=True,
        )
    # HD95 of MONAI uses torch.quantile, which fails for surfaces of more than 2**24 voxels.
    return float(max(np.percentile(directed.numpy(), 95) for directed in distances))
