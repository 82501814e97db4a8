"""Restrict training to the middle slices of each scan, where abdominal organs are (PolyCL)."""

from collections.abc import Iterator
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.common.events import Message

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore


def middle_mask(store: "SampleStore", fraction: float) -> np.ndarray:
    """Return which slices of a store are in the middle of their scan.

    Parameters
    ----------
    store : SampleStore
        Slices of scans.
    fraction : float
        See :func:`~napari_sslseg.core.samples.middle_slices.middle_slices`; 1 selects all slices.

    Returns
    -------
    ndarray of bool, shape (slices,)
    """
    middle = np.full(len(store), fraction == 1)
    if fraction < 1:
        for scan in store.scans:
            kept = middle_slices(scan.n_slices, fraction)
            middle[scan.start + kept.start : scan.start + kept.stop] = True
    return middle


def check_middle(fraction: float, dimensions: int) -> None:
    """Check that only networks of slices are restricted to middle slices.

    Raises
    ------
    ConfigError
        If ``fraction`` is below 1 and ``dimensions`` is 3.
    """
    if fraction < 1 and dimensions == 3:
        raise ConfigError(
            "A middle share selects slices, but this network is trained on volumes; leave it out."
        )


def annotated_middle(store: "SampleStore", fraction: float) -> np.ndarray:
    """Return the indices of the annotated slices in the middle of their scan.

    Raises
    ------
    DataError
        If there are annotated slices, but none in the middle.
    """
    chosen = np.flatnonzero(store.annotated & middle_mask(store, fraction))
    if store.annotated.any() and not len(chosen):
        raise DataError(
            f"No annotated slice is in the middle {fraction:.0%} of its scan, which is used for "
            "training; annotate slices there, or set the middle share to 1."
        )
    return chosen


def describe_middle(store: "SampleStore", fraction: float) -> Iterator[Message]:
    """Report how many slices are used for training, if only middle slices are."""
    if fraction < 1:
        kept = int(middle_mask(store, fraction).sum())
        yield Message(
            f"Only the middle {fraction:.0%} of each scan is used: {kept:,} of {len(store):,} "
            "slices."
        )


def middle_slices(n: int, fraction: float = 0.3) -> range:
    """Return the slices in the middle of a scan, where abdominal organs are.

    PolyCL uses the middle 30 %: from ⌈(n − 1)/2 · 0.7⌉ to ⌊(n − 1)/2 · 1.3⌋. Its code excludes the
    last of these, as is done here.

    Parameters
    ----------
    n : int
        Number of slices of the scan.
    fraction : float
        Fraction of slices to return; at least one slice is returned.
    """
    half = (n - 1) / 2
    # Rounded to 9 digits: 0.7 times a whole number may exceed the exact product slightly.
    first = ceil(round(half * (1 - fraction), 9))
    last = floor(round(half * (1 + fraction), 9))
    return range(first, max(last, first + 1)) if n else range(0)
