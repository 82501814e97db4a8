"""Arrays of one example, for figures of a pretext task or of a prediction."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_sslseg.core.common.sizes import Plane


@dataclass(frozen=True, eq=False)
class PretextPreview:
    """Input and output of a pretext task for some images, as copies.

    Arrays have shape (N, C, H, W) for slices and (N, C, D, H, W) for volumes.

    Parameters
    ----------
    original : ndarray, shape (N, C, …)
        Preprocessed slices or volumes.
    corrupted : ndarray, shape (N, C, …)
        Input of the network.
    mask : ndarray of bool, shape (N, 1, …)
        Pixels that were replaced.
    restored : ndarray, shape (N, C, …), or None
        Output of the network; None without a network. If the loss covers only the masked pixels,
        the other pixels are those of the original. With ``levels``, the predicted levels, shape
        (N, 1, …).
    error : ndarray, shape (N, C, …), or None
        Absolute difference of restored and original, in units of the preprocessed intensities;
        with ``levels``, difference of the levels, shape (N, 1, …).
    captions : mapping of str to str
        Captions of the arrays, by name. Arrays without a caption are not drawn.
    partner : ndarray, shape (N, C, …), or None
        Images that were fused in, for a task that fuses images.
    levels : ndarray, shape (N, 1, …), or None
        Weight of the partner at each pixel, from 0 to 1.
    notes : tuple of str
        A line below each row, such as the side and the distance of a pair; none if empty.
    sources : tuple of str
        Scan, plane and slice of each row; none if empty.
    orientation : str
        Sides of the patient at the borders of the pictures.
    boxes : mapping of str to ndarray, shape (N, R, 4)
        Regions to outline, by name of the array: top, left, height and width in pixels. Only for
        slices. Region r of one array corresponds to region r of another.
    matrix : ndarray, shape (M, K), or None
        Cosine similarities, or distances, of examples in the embedding of a trained network.
    separate_scans : bool
        Whether the arrays of a row show different scans, each with its own intensity range.
    matrix_title : str
        Title of the matrix.
    matrix_labels : tuple of str
        Labels of its M rows.
    matrix_columns : tuple of str
        Labels of its K columns; those of the rows if empty.
    matrix_distances : bool
        Whether it holds distances (0 and above) rather than cosine similarities (−1…1).
    """

    original: np.ndarray
    corrupted: np.ndarray
    mask: np.ndarray
    restored: np.ndarray | None
    error: np.ndarray | None
    captions: Mapping[str, str]
    partner: np.ndarray | None = None
    levels: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    orientation: str = ""
    boxes: Mapping[str, np.ndarray] = field(default_factory=dict)
    matrix: np.ndarray | None = None
    separate_scans: bool = False
    matrix_title: str = ""
    matrix_labels: tuple[str, ...] = ()
    matrix_columns: tuple[str, ...] = ()
    matrix_distances: bool = False


@dataclass(frozen=True, eq=False)
class SlicePrediction:
    """Prediction of a network in training for one slice.

    Attributes
    ----------
    scan : str
        Name of the scan.
    plane : Plane
        Slicing plane.
    index : int
        Index of the slice in the display grid.
    labels : ndarray, shape (H, W)
        Label values, 0 for the background, on the pixels of the scan.
    uncertainty : ndarray, shape (H, W), float32
        Entropy divided by its largest possible value, 0…1.
    """

    scan: str
    plane: Plane
    index: int
    labels: np.ndarray
    uncertainty: np.ndarray
