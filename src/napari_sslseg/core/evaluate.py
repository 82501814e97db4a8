"""Compare predicted with true labels: Dice and HD95 in mm, per class and per volume.

Every class is compared on its own, as the binary question "is the label equal to this class?", so
class ids may be any whole numbers. How empty masks count is :data:`EMPTY_RULE`.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sslseg.core.errors import DataError, GeometryError
from napari_sslseg.core.scan_files import expand_paths, scan_name
from napari_sslseg.core.volumes import HasLabels, Volume, load_labels

Labels = Volume | HasLabels | np.ndarray | str | Path
"""Labels to compare: a label volume, a prediction, an array, or a file."""

EMPTY_RULE = (
    "A class absent from prediction and truth of a volume is not scored there (null) and left out "
    "of the means. A class absent from exactly one of them scores Dice 0 there; its HD95 is "
    "undefined (null), left out of the mean HD95 and counted in hd95_undefined. A volume's "
    "mean_dice is the mean over its scored classes; the overall mean_dice is the mean over "
    "classes of each class's mean over volumes."
)
"""How empty masks and means are treated; written beside every result."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class in one volume.

    Parameters
    ----------
    dice : float or None
        Dice overlap, 0 to 1; None where neither prediction nor truth holds the class.
    hd95_mm : float or None
        Symmetric 95th-percentile Hausdorff distance in mm; None where it is undefined or the
        voxel size is unknown.
    truth_voxels, prediction_voxels : int
        Number of voxels of the class.
    truth_ml, prediction_ml : float or None
        Volume of the class in ml; None where the voxel size is unknown.
    """

    dice: float | None = None
    hd95_mm: float | None = None
    truth_voxels: int = 0
    prediction_voxels: int = 0
    truth_ml: float | None = None
    prediction_ml: float | None = None

    @property
    def hd95_undefined(self) -> bool:
        """Whether exactly one of prediction and truth is empty, so that no distance exists."""
        return (self.truth_voxels == 0) != (self.prediction_voxels == 0)

    def as_dict(self) -> dict[str, Any]:
        """Scores as JSON-safe values."""
        return {
            "dice": self.dice,
            "hd95_mm": self.hd95_mm,
            "hd95_undefined": self.hd95_undefined,
            "truth_ml": self.truth_ml,
            "prediction_ml": self.prediction_ml,
        }


@dataclass(frozen=True)
class VolumeScores:
    """Scores of one volume.

    Parameters
    ----------
    name, subject : str
        The scan and its patient.
    classes : dict of int to ClassScore
        Every class that was asked for, also one that is absent.
    """

    name: str
    subject: str
    classes: dict[int, ClassScore]

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the scored classes; None if none is scored."""
        return _mean(score.dice for score in self.classes.values())

    def as_dict(self) -> dict[str, Any]:
        """Scores as JSON-safe values."""
        return {
            "name": self.name,
            "subject": self.subject,
            "classes": {str(c): score.as_dict() for c, score in self.classes.items()},
            "mean_dice": self.mean_dice,
        }


@dataclass(frozen=True)
class ClassSummary:
    """Scores of one class over several volumes.

    Parameters
    ----------
    dice : float or None
        Mean Dice over the ``n`` volumes in which the class is scored.
    hd95_mm : float or None
        Mean HD95 in mm over the volumes where it is defined.
    n : int
        Number of volumes in which the class is scored.
    hd95_undefined : int
        How many of them have no HD95 because prediction or truth is empty.
    """

    dice: float | None
    hd95_mm: float | None
    n: int
    hd95_undefined: int


@dataclass(frozen=True)
class Evaluation:
    """Scores of several volumes and their means.

    Parameters
    ----------
    volumes : tuple of VolumeScores
        One entry per compared volume.
    unpredicted : tuple of str
        Names of truths without a prediction; they are in no mean.
    """

    volumes: tuple[VolumeScores, ...]
    unpredicted: tuple[str, ...] = ()

    @property
    def classes(self) -> dict[int, ClassSummary]:
        """Per class, the means over the volumes in which it is scored."""
        found = sorted({c for volume in self.volumes for c in volume.classes})
        return {c: self._summary(c) for c in found}

    @property
    def mean_dice(self) -> float | None:
        """Mean over classes of each class's mean Dice over volumes; None if none is scored."""
        return _mean(summary.dice for summary in self.classes.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-safe values: what is undefined is None, never NaN."""
        return {
            "classes": {str(c): vars(summary).copy() for c, summary in self.classes.items()},
            "mean_dice": self.mean_dice,
            "volumes": [volume.as_dict() for volume in self.volumes],
            "unpredicted": list(self.unpredicted),
            "empty_rule": EMPTY_RULE,
        }

    def _summary(self, class_id: int) -> ClassSummary:
        scores = [v.classes[class_id] for v in self.volumes if class_id in v.classes]
        return ClassSummary(
            dice=_mean(score.dice for score in scores),
            hd95_mm=_mean(score.hd95_mm for score in scores),
            n=sum(score.dice is not None for score in scores),
            hd95_undefined=sum(score.hd95_undefined for score in scores),
        )


def evaluate(
    prediction: Labels,
    truth: Labels,
    *,
    classes: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
) -> VolumeScores:
    """Score one predicted label map against the truth.

    Empty masks follow :data:`EMPTY_RULE`: absent from both, a class is not scored (None); absent
    from exactly one, its Dice is 0 and its HD95 undefined (None).

    Parameters
    ----------
    prediction, truth : Volume, Prediction, ndarray or path-like
        Labels in the display grid, 2D or 3D; files are loaded into it. An array is taken to lie
        on the grid of the other one.
    classes : sequence of int, optional
        Classes to score; by default every value but 0 in either label map.
    spacing : sequence of float, optional
        Voxel size in mm, one number per axis, where both are arrays; a scan's own size comes
        before it. Without any, HD95 and volumes in ml are None.

    Returns
    -------
    VolumeScores
        Dice, HD95 in mm and volumes in ml per class.

    Raises
    ------
    GeometryError
        If the two lie on different grids, or ``spacing`` does not fit them.
    DataError
        If values are no labels.
    """
    predicted, prediction_scan = _open(prediction, "prediction")
    true, truth_scan = _open(truth, "truth")
    scan = prediction_scan or truth_scan
    if predicted.shape != true.shape:
        raise GeometryError(
            f"The prediction has shape {predicted.shape} but the truth {true.shape}, both in the "
            "display grid; compare labels of the same scan, or resample one onto the other."
        )
    if prediction_scan and truth_scan and not prediction_scan.geometry.matches(truth_scan.geometry):
        raise GeometryError(
            f"The prediction {prediction_scan.name} and the truth {truth_scan.name} have one shape "
            "but lie in different places; compare labels of the same scan, or resample one onto "
            "the other."
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
    if classes is None:
        classes = sorted({int(c) for labels in (predicted, true) for c in np.unique(labels)} - {0})
    return VolumeScores(
        name=scan.name if scan else "scan",
        subject=scan.subject if scan else "unknown",
        classes={
            int(c): _score(predicted == c, true == c, spacing, voxel_ml) for c in sorted(classes)
        },
    )


def summarize(volumes: Iterable[VolumeScores], *, unpredicted: Iterable[str] = ()) -> Evaluation:
    """Combine the scores of several volumes.

    Parameters
    ----------
    volumes : iterable of VolumeScores
        One per scan.
    unpredicted : iterable of str, optional
        Names of scans that have a truth but no prediction.
    """
    return Evaluation(tuple(volumes), tuple(unpredicted))


def evaluate_folders(
    predictions: str | Path, truth: str | Path, *, classes: Sequence[int] | None = None
) -> Evaluation:
    """Score every prediction in a folder against the truth of the same name.

    Parameters
    ----------
    predictions, truth : path-like
        A label file or a folder of label files each. Two files are compared whatever their
        names; otherwise files pair by name without the suffix.
    classes : sequence of int, optional
        Classes to score; by default every value but 0 in any of the compared files.

    Returns
    -------
    Evaluation
        Truths without a prediction are listed in ``unpredicted``.

    Raises
    ------
    DataError
        If a prediction has no truth, two files in one folder have the same name, or a path does
        not exist.
    GeometryError
        If a prediction lies on another grid than its truth.
    """
    predictions, truth = Path(predictions), Path(truth)
    predicted, true = _by_name(predictions), _by_name(truth)
    if predictions.is_file() and truth.is_file():
        true = dict.fromkeys(predicted, truth)
    if missing := [name for name in predicted if name not in true]:
        raise DataError(
            f"No truth in {truth} for {len(missing)} of {len(predicted)} predictions, such as "
            f"{missing[0]}; add a label file of the same name, or take the prediction away."
        )
    volumes = [evaluate(path, true[name], classes=classes) for name, path in predicted.items()]
    if classes is None:
        # Seen in another volume but absent from both here: not scored, so no file is read twice.
        every = sorted({c for volume in volumes for c in volume.classes})
        volumes = [
            VolumeScores(v.name, v.subject, {c: v.classes.get(c, ClassScore()) for c in every})
            for v in volumes
        ]
    return summarize(volumes, unpredicted=[name for name in true if name not in predicted])


def _open(labels: Labels, role: str) -> tuple[np.ndarray, Volume | None]:
    if isinstance(labels, str | Path):
        labels = load_labels(labels)
    if isinstance(labels, Volume):
        values, scan = labels.data, labels
    elif isinstance(labels, np.ndarray):
        values, scan = labels, None
    else:
        values, scan = labels.labels, labels.volume
    # NaN is unequal to its rounded self, so it is refused here as well.
    if values.dtype.kind not in "biu" and not np.array_equal(values, np.round(values)):
        raise DataError(
            f"The {role}{f' {scan.name}' if scan else ''} holds values that are not whole numbers; "
            "pass labels, not a scan or probabilities."
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
    """Larger of the two directed 95th percentiles of surface distances between filled masks.

    The surface is every voxel of the mask with a face neighbour outside it, or outside the scan.
    Distances run between voxel centres, along orthogonal axes.
    """
    import torch
    from monai.metrics.utils import get_edge_surface_distance

    # In a single slice every voxel would be surface, and the interior would dilute the distances.
    axes = [i for i, n in enumerate(true.shape) if n > 1] or [0]
    shape = [true.shape[i] for i in axes]
    with warnings.catch_warnings():
        # MONAI deprecates an argument that it passes to itself.
        warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
        _, distances, _ = get_edge_surface_distance(
            torch.from_numpy(predicted.reshape(shape)),
            torch.from_numpy(true.reshape(shape)),
            spacing=[spacing[i] for i in axes],
            symmetric=True,
        )
    # MONAI's own HD95 takes torch.quantile, which refuses surfaces of more than 2**24 voxels.
    return float(max(np.percentile(directed.numpy(), 95) for directed in distances))


def _by_name(path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in expand_paths([path]):
        other = found.setdefault(scan_name(file), file)
        if other != file:
            raise DataError(
                f"{other.name} and {file.name} in {path} have the same name but for the suffix; "
                "keep one of them."
            )
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
