"""Scores over those slices of a scan that a person finished, and which of them came out worst.

Slices that nobody finished are no truth, so they are left out. Finished ones need not be
neighbours, so distances are measured within each slice and never across the gaps between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.results.evaluate import evaluate
from napari_sslseg.core.results.scores import ClassScore, VolumeScores, mean_of

SLICE_RULE = (
    "Only slices marked as done are scored. Dice counts the pixels of all done slices of a scan "
    "together. HD95 is measured within each slice, in mm, and averaged over the slices that hold "
    "the structure in both labels and prediction. A structure that is in neither is not scored; "
    "one that is in only one of them scores Dice 0 and has no HD95."
)
"""How scores of slices are made; written beside them."""


@dataclass(frozen=True)
class SliceScores:
    """Scores of one scan over its finished slices.

    Attributes
    ----------
    volume : VolumeScores
        Dice over all slices together; HD95 in mm, the mean over slices. No volumes in ml.
    slices : tuple of int
        Numbers of the slices that were scored.
    by_slice : tuple of float or None
        Mean Dice of each; None where neither prediction nor truth holds anything.
    """

    volume: VolumeScores
    slices: tuple[int, ...]
    by_slice: tuple[float | None, ...]

    @property
    def worst(self) -> int | None:
        """Number of the slice of the lowest mean Dice; the first scored one of several."""
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
) -> SliceScores:
    """Score predicted labels on some slices.

    Parameters
    ----------
    predicted, truth : ndarray
        Label values in the display grid of one scan.
    slices : sequence of int
        Numbers of the slices along ``plane``.
    plane : {"axial", "coronal", "sagittal"}
        Along which slices are counted.
    spacing : sequence of float
        Voxel size in mm along the display axes.
    name, subject : str
        Of the scan.

    Returns
    -------
    SliceScores
        Every class that occurs on the slices.

    Raises
    ------
    SslsegError
        If shapes differ, or values are no labels.
    """
    axis, numbers = PLANE_AXIS[plane], sorted(slices)
    within = [mm for place, mm in enumerate(spacing) if place != axis]
    ours, theirs = (np.take(data, numbers, axis) for data in (predicted, truth))
    together = evaluate(ours, theirs).classes
    parts = [
        evaluate(a, b, classes=list(together), spacing=within).classes
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
