"""Slices of test scans with their true labels and the predictions of each arm."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.volume import Modality

BRIGHTNESS = (0.5, 0.8)
"""Least and most brightness of the brightest labelled structures in the picture, 0 to 1."""


@dataclass
class PredictedScan:
    """A test scan, and its predictions in little memory.

    Attributes
    ----------
    item : LabelledScan
        The scan, which is read again when it is drawn.
    dice : dict of str to float or None
        Dice of the whole volume, by arm.
    """

    item: LabelledScan
    dice: dict[str, float | None] = field(default_factory=dict)
    _packed: dict[str, bytes] = field(default_factory=dict)

    def add(self, arm: str, labels: np.ndarray, dice: float | None) -> None:
        """Keep a prediction (display grid) and the Dice of the whole volume."""
        self.dice[arm] = dice
        # Label maps shrink to about a hundredth.
        self._packed[arm] = zlib.compress(np.ascontiguousarray(labels, np.int32).tobytes(), 1)

    def prediction(self, arm: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a prediction that was kept."""
        return np.frombuffer(zlib.decompress(self._packed[arm]), np.int32).reshape(shape)


@dataclass(frozen=True)
class DrawnSlice:
    """One slice of a scan.

    Attributes
    ----------
    name, rank : str
        Name of the scan, and why it is drawn.
    which : str
        Why this slice is drawn.
    index : int
        Number of the slice.
    image, truth : ndarray, (rows, columns)
        Intensities and true labels.
    limits : tuple of float
        Intensities that are drawn black and white.
    aspect : float
        Height of a pixel divided by its width.
    predictions : dict of str to ndarray
        Predicted labels by arm.
    dice, scan_dice : dict of str to float or None
        Dice of this slice, and of the whole scan, by arm.
    """

    name: str
    rank: str
    which: str
    index: int
    image: np.ndarray
    truth: np.ndarray
    limits: tuple[float, float]
    aspect: float
    predictions: dict[str, np.ndarray]
    dice: dict[str, float | None]
    scan_dice: dict[str, float | None]


def slice_dice(predicted: np.ndarray, truth: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Mean Dice of each slice along the first axis, over the classes that occur in it.

    Parameters
    ----------
    predicted, truth : ndarray, (slices, rows, columns)
        Label values.
    classes : sequence of int
        Values that are scored.

    Returns
    -------
    ndarray, (slices,)
        NaN where no class occurs.
    """
    sums = np.zeros(len(truth))
    counts = np.zeros(len(truth))
    for value in classes:
        ours, theirs = predicted == value, truth == value
        total = ours.sum((1, 2)) + theirs.sum((1, 2))
        both = (ours & theirs).sum((1, 2))
        there = total > 0
        sums[there] += 2 * both[there] / total[there]
        counts += there
    with np.errstate(invalid="ignore"):
        return sums / np.where(counts > 0, counts, np.nan)


def draw_slices(
    scan: PredictedScan,
    rank: str,
    arm: str,
    classes: Sequence[int],
    plane: Plane,
    modality: Modality | None,
) -> list[DrawnSlice]:
    """Take the worst and the best slice of a scan, by the Dice of one arm.

    Parameters
    ----------
    scan : PredictedScan
        The scan, with predictions of all arms.
    rank : str
        Why the scan is drawn.
    arm : str
        The arm that decides which slices are worst and best.
    classes : sequence of int
        Values that are scored.
    plane : {"axial", "coronal", "sagittal"}
        Plane of the slices.
    modality : {"MR", "CT"}, optional
        Modality of the scan, if its file does not say.
    """
    volume, labels = scan.item.load(modality)
    axis = PLANE_AXIS[plane]
    image, truth = (np.moveaxis(data, axis, 0) for data in (volume.data, labels.data))
    found = {
        kind: np.moveaxis(scan.prediction(kind, volume.data.shape), axis, 0) for kind in scan.dice
    }
    by_slice = {kind: slice_dice(data, truth, classes) for kind, data in found.items()}
    deciding = by_slice[arm]
    if np.isnan(deciding).all():
        chosen = {"middle slice": len(deciding) // 2}
    else:
        # Of slices with the same Dice, the one with the most labels shows the most.
        size = (truth > 0).sum((1, 2))
        order = np.lexsort((-size, np.where(np.isnan(deciding), np.inf, deciding)))
        best = np.lexsort((-size, np.where(np.isnan(deciding), np.inf, -deciding)))
        chosen = {"worst slice": int(order[0]), "best slice": int(best[0])}
    rows, columns = (volume.spacing[a] for a in range(3) if a != axis)
    limits = _limits(image, truth)
    return [
        DrawnSlice(
            name=volume.name,
            rank=rank,
            which=which,
            index=index,
            image=image[index].astype(np.float32),
            truth=truth[index].copy(),
            limits=limits,
            aspect=rows / columns,
            predictions={kind: data[index].copy() for kind, data in found.items()},
            dice={
                kind: None if np.isnan(score[index]) else float(score[index])
                for kind, score in by_slice.items()
            },
            scan_dice=dict(scan.dice),
        )
        for which, index in chosen.items()
    ]


def _limits(image: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Contrast limits for the labelled structures, which bright fat elsewhere would make dark."""
    low, high = np.percentile(image, (1, 99))
    labelled = image[truth > 0]
    if labelled.size:
        extent = np.percentile(labelled, 98) - low
        high = low + np.clip(high - low, extent / BRIGHTNESS[1], extent / BRIGHTNESS[0])
    return float(low), float(max(high, np.nextafter(low, np.inf, dtype=np.float32)))


def ranked(scans: Sequence[PredictedScan], arm: str) -> list[tuple[str, PredictedScan]]:
    """Choose the scans with the lowest, middle and highest Dice of an arm, not only good ones."""

    def dice(scan: PredictedScan) -> float:
        found = scan.dice[arm]
        return -1.0 if found is None else found

    order = sorted(scans, key=dice)
    if len(order) < 3:
        return [("test scan", scan) for scan in order]
    ranks = (f"lowest Dice of {arm}", f"middle Dice of {arm}", f"highest Dice of {arm}")
    return list(zip(ranks, (order[0], order[len(order) // 2], order[-1]), strict=True))
