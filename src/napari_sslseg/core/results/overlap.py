"""Scores of one class: the overlap of two masks, and the distance of their surfaces."""

import warnings
from collections.abc import Sequence

import numpy as np

from napari_sslseg.core.results.scores import ClassScore


def class_score(
    predicted: np.ndarray,
    true: np.ndarray,
    spacing: Sequence[float] | None,
    voxel_ml: float | None,
) -> ClassScore:
    """Score the mask of one class.

    Parameters
    ----------
    predicted, true : ndarray of bool
        The masks, of one shape.
    spacing : sequence of float, optional
        Voxel size in mm for each axis, for HD95.
    voxel_ml : float, optional
        Volume of a voxel in ml.
    """
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
