"""Scores of predictions, per class, per volume and over volumes, and the rule for empty masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sslseg.core.common.text import count_phrase
from napari_sslseg.core.runs.lineage import FLATTERED, Use

EMPTY_RULE = (
    "A class absent from prediction and truth of a volume is not scored there (null) and left out "
    "of the means. A class absent from exactly one of them scores Dice 0 there; its HD95 is "
    "undefined (null), left out of the mean HD95 and counted in hd95_undefined. A volume's "
    "mean_dice is the mean over its scored classes; the overall mean_dice is the mean over "
    "classes of each class's mean over volumes."
)
"""How empty masks and means are treated; written with every result."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class in one volume.

    Parameters
    ----------
    dice : float or None
        Dice overlap, 0…1; None if the class is absent from prediction and truth.
    hd95_mm : float or None
        Symmetric 95th-percentile Hausdorff distance in mm; None if it is undefined or the voxel
        size is unknown.
    truth_voxels, prediction_voxels : int
        Number of voxels of the class.
    truth_ml, prediction_ml : float or None
        Volume of the class in ml; None if the voxel size is unknown.
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
        Names of the scan and of its subject.
    classes : dict of int to ClassScore
        Scores of all requested classes, including absent ones.
    class_names : mapping of int to str
        Names of the classes, as far as they are known.
    on_single_slices : bool
        Whether the truth has labels on single slices, so that others may not be annotated.
    named : tuple of int or None
        Classes that the file of the truth names; None if it names none. Others are not scored.
    use : str or None
        How the run that made the prediction had used the scan, if that is known.
    """

    name: str
    subject: str
    classes: dict[int, ClassScore]
    class_names: Mapping[int, str] = field(default_factory=dict)
    on_single_slices: bool = False
    named: tuple[int, ...] | None = None
    use: Use | None = None

    @property
    def flattered(self) -> bool:
        """Whether the network learnt from labels of this patient, so that scores are too high."""
        return self.use in FLATTERED

    @property
    def nameless(self) -> tuple[int, ...]:
        """Classes that are not scored because the truth names other structures only."""
        return tuple(c for c in self.classes if self.named is not None and c not in self.named)

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the scored classes; None if none is scored."""
        return mean_of(score.dice for score in self.classes.values())

    def __str__(self) -> str:
        lines = [f"{self.name}: mean Dice {_format(self.mean_dice, 3)}"]
        lines += [
            f"  {self.class_names.get(value, f'class {value}')}: Dice {_format(score.dice, 3)}, "
            f"HD95 {_format(score.hd95_mm, 1)} mm"
            for value, score in self.classes.items()
        ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Scores as JSON-safe values."""
        return {
            "name": self.name,
            "subject": self.subject,
            "use": self.use,
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
        Number of these volumes without HD95, because prediction or truth is empty.
    """

    dice: float | None
    hd95_mm: float | None
    n: int
    hd95_undefined: int


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of several volumes and their means.

    Parameters
    ----------
    volumes : tuple of VolumeScores
        One entry per compared volume.
    unpredicted : tuple of str
        Names of scans without a prediction, which are not part of the means.
    class_names : mapping of int to str
        Names of the classes, as far as they are known.
    """

    volumes: tuple[VolumeScores, ...]
    unpredicted: tuple[str, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def counted(self) -> tuple[VolumeScores, ...]:
        """Volumes that the means are over: none that the network learnt from, if there are others.

        A prediction of a scan whose labels, or whose patient's labels, were used for training is
        better than that of a new patient.
        """
        return tuple(volume for volume in self.volumes if not volume.flattered) or self.volumes

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the volumes that are not in the means."""
        counted = self.counted
        return tuple(volume.name for volume in self.volumes if volume not in counted)

    @property
    def classes(self) -> dict[int, ClassSummary]:
        """Mean scores of each class over the counted volumes in which it is scored."""
        return _summaries(self.counted)

    @property
    def mean_dice(self) -> float | None:
        """Mean over classes of each class's mean Dice over volumes; None if none is scored."""
        return mean_of(summary.dice for summary in self.classes.values())

    @property
    def mean_dice_all(self) -> float | None:
        """As ``mean_dice``, over all volumes."""
        return mean_of(summary.dice for summary in _summaries(self.volumes).values())

    def __str__(self) -> str:
        lines = [
            f"{count_phrase(len(self.volumes), 'volume')}: mean Dice {_format(self.mean_dice, 3)}"
        ]
        if self.left_out:
            lines[0] += f" without {len(self.left_out)} that the run learnt from"
        lines += [
            f"  {self.class_names.get(value, f'class {value}')}: Dice {_format(found.dice, 3)}, "
            f"HD95 {_format(found.hd95_mm, 1)} mm, {count_phrase(found.n, 'volume')}"
            for value, found in self.classes.items()
        ]
        return "\n".join([*lines, *map(str, self.volumes)])

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-safe values; undefined scores are None, never NaN."""
        return {
            "classes": {str(c): vars(summary).copy() for c, summary in self.classes.items()},
            "class_names": {str(c): name for c, name in self.class_names.items()},
            "mean_dice": self.mean_dice,
            "mean_dice_all": self.mean_dice_all,
            "left_out": list(self.left_out),
            "volumes": [volume.as_dict() for volume in self.volumes],
            "unpredicted": list(self.unpredicted),
            "empty_rule": EMPTY_RULE,
        }


def _summaries(volumes: Sequence[VolumeScores]) -> dict[int, ClassSummary]:
    found = sorted({c for volume in volumes for c in volume.classes})
    return {c: _summary([v.classes[c] for v in volumes if c in v.classes]) for c in found}


def _summary(scores: Sequence[ClassScore]) -> ClassSummary:
    return ClassSummary(
        dice=mean_of(score.dice for score in scores),
        hd95_mm=mean_of(score.hd95_mm for score in scores),
        n=sum(score.dice is not None for score in scores),
        hd95_undefined=sum(score.hd95_undefined for score in scores),
    )


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None if there are none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _format(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
