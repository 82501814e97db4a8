"""Scores of a prediction on the annotated slices of a scan.

Slices that are not annotated have no truth and are left out. Annotated slices need not be adjacent,
so distances are measured within slices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.results.evaluate import evaluate
from napari_sslseg.core.results.scores import ClassScore, VolumeScores, mean_of

SLICE_RULE = (
    "Only slices marked as done are scored. Dice counts the pixels of all done slices of a scan "
    "together. HD95 is measured within each slice, in mm, and averaged over the slices that show "
    "the structure in both labels and prediction. A structure that is in neither is not scored; "
    "for one that is in only one of them Dice is 0 and there is no HD95."
)
"""How scores of slices are computed; written with the scores."""


@dataclass(frozen=True)
class SliceScores:
    """Scores of one scan over its annotated slices.

    Attributes
    ----------
    volume : VolumeScores
        Dice over all slices together, and mean HD95 of the slices in mm; no volumes in ml.
    slices : tuple of int
        Numbers of the scored slices.
    by_slice : tuple of float or None
        Mean Dice of each slice; None if no class occurs in prediction or truth.
    """

    volume: VolumeScores
    slices: tuple[int, ...]
    by_slice: tuple[float | None, ...]

    @property
    def worst(self) -> int | None:
        """Number of the slice with the lowest mean Dice; the first of several."""
        scored = [(d, i) for d, i in zip(self.by_slice, self.slices, strict=True) if d is not None]
        return min(scored)[1] if scored else next(iter(self.slices), None)


def score_slices(
    predicted: np.ndarray,
    truth: np.ndarray,
    slices: Sequence[int],
    *,
    plane: Plane,
    spacing: Sequence[float],
    name: str = "scan",
    subject: str = "unknown",
    ignore: int | None = None,
    labelled_classes: Sequence[int] | None = None,
) -> SliceScores:
    """Score predicted labels on some slices.

    Parameters
    ----------
    predicted, truth : ndarray
        Label values in the display grid of one scan.
    slices : sequence of int
        Numbers of the slices along ``plane``.
    plane : {"axial", "coronal", "sagittal"}
        Plane of the slices.
    spacing : sequence of float
        Voxel size in mm along the display axes.
    name, subject : str
        Names of the scan and of its subject.
    ignore : int, optional
        Value in ``truth`` of voxels whose class is unknown, which are left out.
    labelled_classes : sequence of int, optional
        Classes that are labelled in the scan; all if not given. Others are not scored (None).

    Returns
    -------
    SliceScores
        Scores of all classes that occur on the slices.

    Raises
    ------
    SslsegError
        If the shapes differ, or the values are not labels.
    """
    axis, numbers = PLANE_AXIS[plane], sorted(slices)
    within = [mm for other, mm in enumerate(spacing) if other != axis]
    ours, theirs = (np.take(data, numbers, axis) for data in (predicted, truth))
    unknown: dict[str, Any] = {"ignore": ignore, "labelled_classes": labelled_classes}
    together = evaluate(ours, theirs, **unknown).classes
    parts = [
        evaluate(a, b, classes=list(together), spacing=within, **unknown).classes
        for a, b in zip(np.moveaxis(ours, axis, 0), np.moveaxis(theirs, axis, 0), strict=True)
    ]
    classes: dict[int, ClassScore] = {
        value: replace(score, hd95_mm=mean_of(part[value].hd95_mm for part in parts))
        for value, score in together.items()
    }
    return SliceScores(
        VolumeScores(name, subject, classes),
        tuple(numbers),
        tuple(mean_of(score.dice for score in part.values()) for part in parts),
    )
