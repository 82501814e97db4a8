"""Annotated slices: those of a scan on which all structures are labelled."""

from pathlib import Path
from typing import Literal

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.scans.scan_lists import read_scan_list

Annotated = tuple[int, ...] | Literal["labelled", "all"] | None
"""Annotated slices: their numbers, those that show any label, or all; None is all by default."""


def annotated_slices(slices: np.ndarray, annotated: Annotated, name: str) -> np.ndarray:
    """Return which slices are annotated, shape (S,), bool.

    Parameters
    ----------
    slices : ndarray, shape (S, H, W)
        Label values, slice by slice.
    annotated : tuple of int, "labelled", "all" or None
        As in :class:`LabelledScan`.
    name : str
        Name of the scan, for messages.

    Raises
    ------
    DataError
        If a slice does not exist.
    """
    n_slices = len(slices)
    if annotated is None or annotated == "all":
        return np.ones(n_slices, bool)
    if annotated == "labelled":
        return np.asarray(slices.any(axis=(1, 2)))
    bad = [index for index in annotated if not 0 <= index < n_slices]
    if bad:
        raise DataError(
            f"Slice {bad[0]} of {name} is marked as annotated, but its slices are numbered 0 to "
            f"{n_slices - 1}; correct the list of annotated slices."
        )
    mask = np.zeros(n_slices, bool)
    mask[list(annotated)] = True
    return mask


def are_single_slices(labelled: int, runs: int, slices: int) -> bool:
    """Whether labels seem to be on single slices, since structures extend over adjacent ones.

    Parameters
    ----------
    labelled, runs, slices : int
        Number of slices with labels, of runs of adjacent ones, and of all slices.
    """
    return 0 < labelled < 2 * runs and 2 * labelled < slices


def read_annotated(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Read a list of annotated slices.

    Parameters
    ----------
    path : path-like
        JSON file, such as ``{"patient_07": [3, 9, 12]}``: indices of the annotated slices, from 0,
        along the slicing plane of the display grid (for axial slices, 0 is the most superior).

    Raises
    ------
    DataError
        If the file is missing or malformed, or names a scan twice.
    """
    found = read_scan_list(
        path,
        "annotated slices",
        'slice numbers by scan, such as {"patient_07": [3, 9, 12]}',
        is_value=lambda slices: (
            isinstance(slices, list) and all(type(index) is int for index in slices)
        ),
    )
    return {name: tuple(slices) for name, slices in found.items()}
