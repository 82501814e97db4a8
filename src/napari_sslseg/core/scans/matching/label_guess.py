"""Distinguish label maps from scans by their values."""

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.scans.matching.label_names import has_label_words
from napari_sslseg.core.scans.volume import Volume

MANY_VALUES = 32
"""Different values from which a label map is checked not to be a scan."""

LABEL_MODALITIES = ("SEG", "RTSTRUCT")
"""DICOM modalities of label files."""

MAX_LABELS = 1024
"""No anatomical scheme in use has more structures in one map; scans have more intensities."""

# Fraction of neighbouring voxel pairs, both not background, with equal values: above 0.8 in label
# maps, below 0.3 in scans, and about 0.5 in probability maps stored as 0…255.
SAME_AS_NEIGHBOUR = 0.7
SAME_WITH_NAME = 0.6


def looks_like_labels(volume: Volume) -> bool:
    """Return whether a volume is a label map rather than a scan.

    A label map contains few different values, all whole and non-negative, and neighbouring voxels
    of a structure are equal. A name such as ``liver_seg`` lowers the threshold slightly.

    Parameters
    ----------
    volume : Volume
        A loaded volume.
    """
    return has_label_values(volume.data, named=has_label_words(volume.name))


def has_label_values(data: np.ndarray, *, named: bool = False) -> bool:
    """Return whether an array has the values of a label map.

    Parameters
    ----------
    data : ndarray
        Values on three axes.
    named : bool
        Whether the file has a label name, which lowers the required fraction of equal neighbours.
    """
    found: set[int] = set()
    pairs = same = 0
    # Plane by plane: for most scans the first plane with tissue decides.
    for plane in data:
        if plane.min() < 0 or (plane.dtype.kind == "f" and not (plane == np.round(plane)).all()):
            return False
        found.update(np.unique(plane).tolist())
        if len(found) > MAX_LABELS:
            return False
        for one, next_to_it in ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])):
            inside = (one != 0) & (next_to_it != 0)
            pairs += int(np.count_nonzero(inside))
            same += int(np.count_nonzero(inside & (one == next_to_it)))
    # Without such pairs, the file contains single marked points or empty labels.
    return pairs == 0 or same / pairs > (SAME_WITH_NAME if named else SAME_AS_NEIGHBOUR)


def refuse_scan(data: np.ndarray, count: int, where: object) -> None:
    """Refuse the values of a scan where labels are needed.

    Parameters
    ----------
    data : ndarray
        Values on three axes.
    count : int
        Number of different values.
    where : object
        Where they come from, for the message.

    Raises
    ------
    DataError
        If there are many values, and few neighbouring voxels with the same.
    """
    if count > MANY_VALUES and data.ndim == 3 and not has_label_values(data):
        raise DataError(
            f"{where} contains {count} different values, as a scan does, and few neighbouring "
            "voxels with the same one; choose label maps, and check that scans and labels are not "
            "swapped."
        )
