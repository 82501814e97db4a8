"""Small pieces of a segmentation that hang together with nothing."""

import numpy as np

from napari_sslseg.core.common.errors import ConfigError


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
    """Take back what was said of small loose pieces.

    Parameters
    ----------
    labels : ndarray, shape (S, H, W), int
        Class indices of a scan; ``count`` where nothing is said.
    count : int
        Number of classes with the background.
    least_part : float
        Share of the largest piece of a class, 0…1, below which a piece of it is small. A small
        piece is loose unless it hangs together, through other classes, with more than that. Pieces
        hang together by their sides.

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
    together = np.bincount(whole.ravel())
    for value in range(1, count):
        pieces, number = ndimage.label(labels == value)
        if not number:
            continue
        # Of each piece one voxel, which tells what the piece is a part of.
        _, one, sizes = np.unique(pieces, return_index=True, return_counts=True)
        # The first is all else, unless the class is everywhere.
        one, sizes = one[-number:], sizes[-number:]
        limit = least_part * sizes.max()
        loose = (sizes < limit) & (together[whole.ravel()[one]] < limit)
        found[np.isin(pieces, 1 + np.flatnonzero(loose))] = count
    return found
