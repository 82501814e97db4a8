"""Tell label maps from scans by their values."""

import re
from pathlib import Path

import numpy as np

from napari_sslseg.core.scans.class_codes import is_structure
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.volume import Volume

LABEL_MODALITIES = ("SEG", "RTSTRUCT")
"""Modalities that a DICOM header gives to what is no scan but labels of one."""

MAX_LABELS = 1024
"""No anatomical scheme in use names more structures in one map; a scan has more grey values."""

# Share of neighbouring voxels, both not background, that have the same value. Label maps reach
# more than 0.8 of it and scans less than 0.3; probability maps stored as 0 … 255 lie near 0.5.
SAME_AS_NEIGHBOUR = 0.7
SAME_WITH_NAME = 0.6

_WORDS = (
    r"(?:[a-z]*(?:segs?|segmentations?|segmented|masks?)|labels?|labels(?:tr|ts|val)|labelled|msk"
    r"|annotations?|groundtruth|gt)"
)
_LABEL_WORDS = re.compile(rf"(?:^|[\W_\d]){_WORDS}(?:$|[\W_\d])", re.IGNORECASE)
_ONE_WORD = re.compile(rf"\d*{_WORDS}\d*", re.IGNORECASE)


def has_label_name(path: Path) -> bool:
    """Whether the name of a file, or of its folder, says that it holds labels.

    Words such as seg, mask and labels do, also those of folders such as ``labelsTr``, and so does
    the bare name of an organ, such as ``kidney_left``. Scans have such names too, so a name alone
    decides nothing.
    """
    name = scan_name(path)
    return bool(
        _LABEL_WORDS.search(name) or _LABEL_WORDS.search(path.absolute().parent.name)
    ) or is_structure(name)


def count_matching_parts(labels: str, scan: str) -> int:
    """How many parts of a name of labels are the name of a scan; 0 if it is another one's.

    Words for labels do not count, nor does a channel of the scan, as nnU-Net numbers them. What
    follows must not be a number, which would be that of another scan.

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
    """Parts of the name of labels, but for words for labels.

    Examples
    --------
    >>> bare_parts("Liver_01-seg")
    ['liver', '01']
    """
    return [part for part in _split(name) if not _ONE_WORD.fullmatch(part)]


def _split(name: str) -> list[str]:
    return [part for part in re.split(r"[\W_]+", name.lower()) if part]


def looks_like_labels(volume: Volume) -> bool:
    """Whether a volume is a label map rather than a scan.

    A label map holds whole, non-negative numbers, few different ones, that stay the same from a
    voxel to the next within a structure. A name such as ``liver_seg`` counts a little; the values
    decide.

    Parameters
    ----------
    volume : Volume
        As :func:`~napari_sslseg.core.scans.volume.load_volume` gives it.
    """
    return has_label_values(volume.data, named=bool(_LABEL_WORDS.search(volume.name)))


def has_label_values(data: np.ndarray, *, named: bool = False) -> bool:
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
