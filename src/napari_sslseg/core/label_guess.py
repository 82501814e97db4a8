"""Tell label maps from scans by their values."""

import re

import numpy as np

from napari_sslseg.core.volumes import Volume

LABEL_MODALITIES = ("SEG", "RTSTRUCT")
"""Modalities that a DICOM header gives to what is no scan but labels of one."""

MAX_LABELS = 1024
"""No anatomical scheme in use names more structures in one map; a scan has more grey values."""

# Share of neighbouring voxels, both not background, that have the same value. Label maps reach
# more than 0.8 of it and scans less than 0.3; probability maps stored as 0 … 255 lie near 0.5.
SAME_AS_NEIGHBOUR = 0.7
SAME_WITH_NAME = 0.6

_LABEL_WORDS = re.compile(
    r"(?:^|[\W_\d])(?:seg|segs|segmentation|segmented|dseg|label|labels|labelled|mask|masks|msk"
    r"|annotation|annotations|groundtruth|gt)(?:$|[\W_\d])",
    re.IGNORECASE,
)


def looks_like_labels(volume: Volume) -> bool:
    """Whether a volume is a label map rather than a scan.

    A label map holds whole, non-negative numbers, few different ones, that stay the same from a
    voxel to the next within a structure. A name such as ``liver_seg`` counts a little; the values
    decide.

    Parameters
    ----------
    volume : Volume
        As :func:`~napari_sslseg.core.volumes.load_volume` gives it.
    """
    return labels_by_values(volume.data, named=bool(_LABEL_WORDS.search(volume.name)))


def labels_by_values(data: np.ndarray, *, named: bool = False) -> bool:
    """Whether values are those of a label map; ``named`` if their file is named like one.

    Parameters
    ----------
    data : ndarray
        Values on three axes.
    named : bool
        Lowers the share of equal neighbours that is asked for.
    """
    found: set[int] = set()
    pairs = same = 0
    # Plane by plane: for most scans the first one with tissue in it ends the search.
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
    # Without neighbours these are single marked points, or labels that nobody has drawn yet.
    return pairs == 0 or same / pairs > (SAME_WITH_NAME if named else SAME_AS_NEIGHBOUR)
