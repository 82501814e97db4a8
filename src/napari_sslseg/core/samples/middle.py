"""Learning from the middle of each scan alone, where abdominal organs lie (PolyCL)."""

from collections.abc import Iterator
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.common.events import Message

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore


def middle_mask(store: "SampleStore", share: float) -> np.ndarray:
    """Which slices of a store lie in the middle of their scan.

    Parameters
    ----------
    store : SampleStore
        Slices of several scans, one scan after another.
    share : float
        See :func:`~napari_sslseg.core.samples.middle.middle_slices`; with 1 all slices do.

    Returns
    -------
    ndarray of bool, shape (slices,)
    """
    middle = np.full(len(store), share == 1)
    if share < 1:
        for scan in store.scans:
            kept = middle_slices(scan.n_slices, share)
            middle[scan.start + kept.start : scan.start + kept.stop] = True
    return middle


def check_middle(share: float, dimensions: int) -> None:
    """Refuse a share of the slices where volumes are learnt from.

    Raises
    ------
    ConfigError
        If it is below 1 and ``dimensions`` is 3.
    """
    if share < 1 and dimensions == 3:
        raise ConfigError(
            "A middle share is one of slices, but this network learns from volumes; leave it out."
        )


def annotated_middle(store: "SampleStore", share: float) -> np.ndarray:
    """Annotated slices in the middle of their scan, as an array of indices.

    Raises
    ------
    DataError
        If slices are annotated, but none there.
    """
    chosen = np.flatnonzero(store.annotated & middle_mask(store, share))
    if store.annotated.any() and not len(chosen):
        raise DataError(
            f"No annotated slice lies in the middle {share:.0%} of its scan, from which alone the "
            "network is to learn; annotate slices there, or set the middle share to 1."
        )
    return chosen


def describe_middle(store: "SampleStore", share: float) -> Iterator[Message]:
    """Say that slices far from the middle of their scans are left out, if they are."""
    if share < 1:
        kept = int(middle_mask(store, share).sum())
        yield Message(
            f"Only the middle {share:.0%} of each scan takes part: {kept:,} of {len(store):,} "
            "slices."
        )


def middle_slices(n: int, share: float = 0.3) -> range:
    """Slices in the middle of a scan, where abdominal organs lie.

    PolyCL takes the middle 30 %: from ⌈(n − 1)/2 · 0.7⌉ to ⌊(n − 1)/2 · 1.3⌋, of which its code
    leaves the last one out, as here.

    Parameters
    ----------
    n : int
        Slices of the scan.
    share : float
        Share to keep; at least one slice is.
    """
    half = (n - 1) / 2
    # Rounded, or 0.7 times a whole number might land above it.
    first = ceil(round(half * (1 - share), 9))
    last = floor(round(half * (1 + share), 9))
    return range(first, max(last, first + 1)) if n else range(0)
