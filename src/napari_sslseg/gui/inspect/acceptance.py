"""Copy predictions into the labels layer, as one undoable step."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.model.predictions import only_values

if TYPE_CHECKING:
    from napari.layers import Labels


def accept_slice(
    labels: "Labels",
    predicted: np.ndarray,
    axis: int,
    index: int,
    values: Collection[int] | None = None,
) -> int:
    """Replace a slice of the labels by the prediction.

    Parameters
    ----------
    labels : napari.layers.Labels
        Layer with the labels of the user.
    predicted : ndarray
        Label values on the same grid.
    axis, index : int
        Axis and number of the slice.
    values : collection of int, optional
        Values of the structures of the project; others, which were removed from it, become
        background.

    Returns
    -------
    int
        Number of changed pixels.
    """
    return _accept(labels, _take(predicted, axis, index, values), axis, index, None)


def accept_region(
    labels: "Labels",
    predicted: np.ndarray,
    axis: int,
    place: Sequence[float],
    values: Collection[int] | None = None,
) -> int:
    """Copy one connected component of a predicted structure on a slice.

    Parameters
    ----------
    labels, predicted, axis, values
        As in :func:`accept_slice`.
    place : sequence of float
        A voxel of the component, in the display grid.

    Returns
    -------
    int
        Number of changed pixels; -1 if no structure is predicted there.
    """
    from skimage.measure import label

    at = [round(float(number)) for number in place]
    if any(not 0 <= number < size for number, size in zip(at, predicted.shape, strict=True)):
        return -1
    index = at.pop(axis)
    shown = _take(predicted, axis, index, values)
    value = shown[tuple(at)]
    if value == 0:
        return -1
    parts = label(shown == value, connectivity=1)
    return _accept(labels, shown, axis, index, parts == parts[tuple(at)])


def _take(
    predicted: np.ndarray, axis: int, index: int, values: Collection[int] | None
) -> np.ndarray:
    """A slice of a prediction, with the values of these structures only."""
    shown = take_slices(predicted, index, axis)
    return shown if values is None else only_values(shown, values)


def _accept(
    labels: "Labels", wanted: np.ndarray, axis: int, index: int, within: np.ndarray | None
) -> int:
    differs = take_slices(labels.data, index, axis) != wanted
    if within is not None:
        differs &= within
    places = np.nonzero(differs)
    count = len(places[0])
    if count == 0:
        return 0
    where = list(places)
    where.insert(axis, np.full(count, index))
    values = wanted[places].astype(labels.data.dtype)
    with labels.block_history():
        labels.data_setitem(tuple(where), values)
    return count


def next_slice(doubt: np.ndarray, done: Sequence[int], now: int) -> int | None:
    """Return the slice to correct next: the most uncertain one, or after it the next one.

    Parameters
    ----------
    doubt : ndarray
        Mean uncertainty of each slice.
    done : sequence of int
        Slices that are done, which are skipped.
    now : int
        The current slice.

    Returns
    -------
    int or None
        None if all slices are done.
    """
    finished = set(done)
    order = [int(i) for i in np.argsort(-doubt, kind="stable") if int(i) not in finished]
    if not order:
        return None
    return order[(order.index(now) + 1) % len(order)] if now in order else order[0]
