"""Combine files that contain one structure each, as TotalSegmentator writes them."""

import warnings
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.common.text import count_phrase
from napari_sslseg.core.scans.volume import Volume

LARGEST_BYTE = 255


def merge_structures(masks: Iterable[Volume]) -> Volume:
    """Combine masks of one structure each into a label map.

    Parameters
    ----------
    masks : iterable of Volume
        Label maps on one grid, with 0 and at most one other value. They are read one after the
        other.

    Returns
    -------
    Volume
        Values 1, 2, … in the order given. A voxel of several structures has the first of them; a
        warning counts such voxels.

    Raises
    ------
    VolumeError
        If a mask has several values other than 0.
    GeometryError
        If the masks have different grids.
    """
    merged: Volume | None = None
    data = np.zeros(0, np.uint8)
    overlaps: dict[str, int] = {}
    for value, mask in enumerate(masks, 1):
        found = np.unique(mask.data)
        if len(found[found != 0]) > 1:
            raise VolumeError(
                f"{mask.path} contains {len(found[found != 0])} structures, but is one of several "
                "label files of a scan, which contain one each; keep this file alone, or move it."
            )
        if merged is None:
            merged = mask
            data = np.zeros(mask.data.shape, np.uint8)
        values = mask.geometry.onto(mask.data, merged.geometry)
        if values is None:
            raise GeometryError(
                f"The labels {mask.path} have another grid than {merged.path}; use files of one "
                "scan."
            )
        inside = values != 0
        if value > LARGEST_BYTE:
            data = data.astype(np.uint16)
        both = int(np.count_nonzero(inside & (data != 0)))
        if both:
            overlaps[mask.name] = both
        data[inside & (data == 0)] = value
    if merged is None:
        raise VolumeError("There are no label files to combine; give at least one.")
    if overlaps:
        most = max(overlaps, key=lambda name: overlaps[name])
        place = merged.path.parent if merged.path else merged.name
        warnings.warn(
            f"Several structures share {count_phrase(sum(overlaps.values()), 'voxel')} in {place}, "
            f"most of them in {most} ({overlaps[most]:,}); each has the structure that comes first "
            "by file name.",
            ScanWarning,
            stacklevel=3,
        )
    return replace(merged, data=data)
