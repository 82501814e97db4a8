"""Scans with few labelled slices, like the first labels of a user."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.scans.labelled import LabelledScan


def with_few_slices(
    labelled: Sequence[LabelledScan], count: int, classes: Sequence[int], plane: Plane
) -> list[LabelledScan]:
    """Keep the labels of ``count`` slices of each scan.

    They are evenly spaced among the slices that show a structure, as a user would choose them. If
    fewer slices show one, all of these are kept; scans without any are left out.

    Parameters
    ----------
    labelled : sequence of LabelledScan
        Scans with all slices labelled.
    count : int
        Number of slices of each scan.
    classes : sequence of int
        Values of the structures.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    """
    found = []
    for pair in labelled:
        truth = np.isin(pair.load()[1].data, classes)
        shown = np.flatnonzero(np.moveaxis(truth, PLANE_AXIS[plane], 0).any(axis=(1, 2)))
        if shown.size:
            chosen = shown[((np.arange(count) + 0.5) / count * shown.size).astype(int)]
            found.append(replace(pair, annotated=tuple(np.unique(chosen).tolist())))
    return found
