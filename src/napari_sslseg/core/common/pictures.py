"""TODO."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_sslseg.core.common.sizes import Plane


@dataclass(frozen=True, eq=False)
class PretextPreview:
    """What a pretext task does to some images: copies, safe to keep while training goes on.

    Arrays are of shape (N, C, H, W) for slices and (N, C, D, H, W) for volumes.

    Parameters
    ----------
    original : ndarray, shape (N, C, …)
        Preprocessed slices or volumes.
    corrupted : ndarray, shape (N, C, …)
        What the network sees.
    mask : ndarray of bool, shape (N, 1, …)
        Pixels that were replaced.
    restored : ndarray, shape (N, C, …), or None
        What the network makes of it; None without a network. Where the loss sees the masked
        pixels alone, the original stands at the others. With ``levels``, the levels that the
        network tells, shape (N, 1, …).
    error : ndarray, shape (N, C, …), or None
        Absolute difference of restored and original, in units of the preprocessed intensities;
        with ``levels``, of the levels, shape (N, 1, …).
    captions : mapping of str to str
        Plain words for the arrays, by name. One without a caption is not worth a picture.
    partner : ndarray, shape (N, C, …), or None
        The images that were fused in, for a task that fuses images.
    levels : ndarray, shape (N, 1, …), or None
        How strongly each pixel shows the partner, from 0 to 1.
    notes : tuple of str
        One line below each row, such as the side and the distance of a pair; none if empty.
    boxes : mapping of str to ndarray, shape (N, R, 4)
        Regions to outline, by the array that they lie in: top, left, height and width in pixels.
        On slices alone. Region r of one array belongs to region r of another.
    matrix : ndarray, shape (M, K), or None
        How alike a trained network finds examples: cosine similarities, or distances.
    separate_scans : bool
        Whether the arrays of a row show other scans, each on a grey scale of its own.
    matrix_title : str
        What the matrix holds.
    matrix_labels : tuple of str
        What its M rows are.
    matrix_columns : tuple of str
        What its K columns are; as the rows if empty.
    matrix_distances : bool
        Whether it holds distances, from 0 up, rather than cosine similarities, −1…1.
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
    boxes: Mapping[str, np.ndarray] = field(default_factory=dict)
    matrix: np.ndarray | None = None
    separate_scans: bool = False
    matrix_title: str = ""
    matrix_labels: tuple[str, ...] = ()
    matrix_columns: tuple[str, ...] = ()
    matrix_distances: bool = False


@dataclass(frozen=True, eq=False)
class SlicePrediction:
    """What a network in training makes of one slice.

    Attributes
    ----------
    scan : str
        Name of the scan.
    plane : Plane
        Along which its slices are counted.
    index : int
        Number of the slice in the display grid.
    labels : ndarray, shape (H, W)
        Label values, 0 for the background, on the pixels of the scan.
    uncertainty : ndarray, shape (H, W), float32
        Entropy over its largest value, 0…1.
    """

    scan: str
    plane: Plane
    index: int
    labels: np.ndarray
    uncertainty: np.ndarray
