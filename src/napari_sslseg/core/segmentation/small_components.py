"""Remove small connected components from a segmentation."""

import numpy as np

from napari_sslseg.core.common.errors import ConfigError


def check_least_part(least_part: float) -> None:
    """Refuse a size limit that is not a fraction.

    Raises
    ------
    ConfigError
        If it is not in 0…1.
    """
    if not 0 <= least_part <= 1:
        raise ConfigError(
            f"The smallest part is {least_part:g}, which is not a fraction of the largest "
            "component of a class; choose a number from 0 to 1, such as 0.1."
        )


def remove_small_components(labels: np.ndarray, count: int, least_part: float) -> np.ndarray:
    """Mark small connected components of each class as unknown.

    A component is removed if it is smaller than a fraction of the largest component of its class,
    unless it touches other classes and the component of all of them together is larger than that.
    Voxels are connected if they share a face.

    Parameters
    ----------
    labels : ndarray, shape (S, H, W), int
        Class indices of a scan; ``count`` where the class is unknown.
    count : int
        Number of classes, including the background.
    least_part : float
        Fraction of the size of the largest component of a class, 0…1; 0 removes nothing.

    Returns
    -------
    ndarray, shape (S, H, W), int
        With ``count`` at the removed components.
    """
    from scipy import ndimage

    if least_part == 0:
        return labels
    found = labels.copy()
    # Components of the foreground, over all classes.
    foreground, _ = ndimage.label((labels > 0) & (labels < count))
    foreground_sizes = np.bincount(foreground.ravel())
    for value in range(1, count):
        components, number = ndimage.label(labels == value)
        if not number:
            continue
        # Index of one voxel of each component, to look up its foreground component.
        _, voxels, sizes = np.unique(components, return_index=True, return_counts=True)
        # The first entry is everything else, unless the class fills the scan.
        voxels, sizes = voxels[-number:], sizes[-number:]
        limit = least_part * sizes.max()
        small = (sizes < limit) & (foreground_sizes[foreground.ravel()[voxels]] < limit)
        found[np.isin(components, 1 + np.flatnonzero(small))] = count
    return found
