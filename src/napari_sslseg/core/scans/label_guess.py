"""Distinguish label maps from scans by their values and file names."""

import re
from pathlib import Path

import numpy as np

from napari_sslseg.core.scans.class_codes import is_structure
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.volume import Volume

LABEL_MODALITIES = ("SEG", "RTSTRUCT")
"""DICOM modalities of label files."""

MAX_LABELS = 1024
"""No anatomical scheme in use has more structures in one map; scans have more intensities."""

# Fraction of neighbouring voxel pairs, both not background, with equal values: above 0.8 in label
# maps, below 0.3 in scans, and about 0.5 in probability maps stored as 0…255.
SAME_AS_NEIGHBOUR = 0.7
SAME_WITH_NAME = 0.6

_WORDS = (
    r"(?:[a-z]*(?:segs?|segmentations?|segmented|masks?)|labels?|labels(?:tr|ts|val)|labelled|msk"
    r"|annotations?|groundtruth|gt)"
)
_LABEL_WORDS = re.compile(rf"(?:^|[\W_\d]){_WORDS}(?:$|[\W_\d])", re.IGNORECASE)
_ONE_WORD = re.compile(rf"\d*{_WORDS}\d*", re.IGNORECASE)


def has_label_name(path: Path) -> bool:
    """Return whether the name of a file, or of its folder, is typical of labels.

    Such names contain words like seg, mask or labels (also in folders such as ``labelsTr``), or
    consist of the name of an organ, such as ``kidney_left``. Scans may have such names too, so the
    name alone is not sufficient.
    """
    name = scan_name(path)
    return bool(
        _LABEL_WORDS.search(name) or _LABEL_WORDS.search(path.absolute().parent.name)
    ) or is_structure(name)


def count_matching_parts(labels: str, scan: str) -> int:
    """Count the parts of a label name that match the name of a scan; 0 for another scan.

    Words for labels are ignored, and so is the channel number of nnU-Net in the name of the scan.
    The matching parts must not be followed by a number, which would belong to another scan.

    Examples
    --------
    >>> begins_with("liver_01-seg", "liver_01"), begins_with("liver_01_2_seg", "liver_01")
    (2, 0)
    """
    whole = _split(scan)
    channel = len(whole) > 1 and re.fullmatch(r"\d{4}", whole[-1])
    if channel and without_label_words(labels) == whole[:-1]:
        return len(whole) - 1
    for parts in (_split(labels), without_label_words(labels)):
        after = parts[len(whole) :]
        if whole and parts[: len(whole)] == whole and not (after and after[0].isdigit()):
            return len(whole)
    return 0


def without_label_words(name: str) -> list[str]:
    """Split a name into its parts, without words for labels.

    Examples
    --------
    >>> bare_parts("Liver_01-seg")
    ['liver', '01']
    """
    return [part for part in _split(name) if not _ONE_WORD.fullmatch(part)]


def _split(name: str) -> list[str]:
    return [part for part in re.split(r"[\W_]+", name.lower()) if part]


def looks_like_labels(volume: Volume) -> bool:
    """Return whether a volume is a label map rather than a scan.

    A label map contains few different values, all whole and non-negative, and neighbouring voxels
    of a structure are equal. A name such as ``liver_seg`` lowers the threshold slightly.

    Parameters
    ----------
    volume : Volume
        A loaded volume.
    """
    return has_label_values(volume.data, named=bool(_LABEL_WORDS.search(volume.name)))


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
