"""Small pieces of a segmentation that hang together with nothing."""

import numpy as np

from napari_sslseg.core.errors import ConfigError


def check_least_part(least_part: float) -> None:
    """Refuse what is no share.

    Raises
    ------
    ConfigError
        If it is not in 0…1.
    """
    if not 0 <= least_part <= 1:
        raise ConfigError(
            f"The smallest part is {least_part:g}, which is no share of the largest piece of a "
            "structure; choose one from 0 to 1, such as 0.1."
        )


def without_loose_parts(labels: np.ndarray, count: int, least_part: float) -> np.ndarray:
    """Take back what was said of small pieces that hang together with nothing.

    Parameters
    ----------
    labels : ndarray, shape (S, H, W), int
        Class indices of a scan; ``count`` where nothing is said.
    count : int
        Number of classes with the background.
    least_part : float
        A piece of a class that is smaller than this share of its largest piece is loose, unless it
        touches another structure. Pieces hang together by their sides.

    Returns
    -------
    ndarray
        With ``count`` at loose pieces.
    """
    from scipy import ndimage

    if least_part == 0:
        return labels
    found = labels.copy()
    whole, _ = ndimage.label((labels > 0) & (labels < count))
    sizes = np.bincount(whole.ravel())
    for value in range(1, count):
        own = labels == value
        if not own.any():
            continue
        # By the size of all that it hangs together with, so that parts of one organ stay.
        pieces = np.unique(whole[own])
        small = pieces[sizes[pieces] < least_part * sizes[pieces].max()]
        found[own & np.isin(whole, small)] = count
    return found
