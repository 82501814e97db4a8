"""A copy of labels that follows what is drawn, a few slices at a time.

napari tells of a stroke, but not of what undo, redo and other plugins change, nor of what happens
to a layer that is hidden. So all slices are compared with the copy again and again, each time for
a few milliseconds. What is written to the disk is the copy, which no other thread draws on.
"""

import threading
import time

import numpy as np


class LabelCopy:
    """Copy of the labels of a scan, and which of its slices have any.

    Parameters
    ----------
    data : ndarray
        Labels with three axes.
    version : int
        To begin with.

    Attributes
    ----------
    version : int
        Rises with each change that was noticed.
    """

    def __init__(self, data: np.ndarray, version: int = 0) -> None:
        self._copy = np.array(data, order="C", copy=True)
        self._taking = threading.Lock()
        count, rows, columns = data.shape
        self._rows = np.zeros((count, rows), bool)
        self._columns = np.zeros((count, columns), bool)
        self._at = 0
        self._left = count
        self._unread = np.ones(count, bool)
        self._differed = tuple(np.zeros(size, bool) for size in data.shape)
        self.version = version

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels."""
        return self._copy.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the labels."""
        return self._copy.dtype

    @property
    def sure(self) -> bool:
        """Whether all slices were compared since the last doubt."""
        return self._left == 0

    def doubt(self) -> None:
        """Something may have changed anywhere."""
        self._left = len(self._copy)

    def taken(self) -> tuple[int, np.ndarray]:
        """Version, and a copy of it; may be called from any thread."""
        with self._taking:
            return self.version, self._copy.copy()

    def erase(self, value: int) -> None:
        """Make background of a value."""
        with self._taking:
            places = self._copy == value
            self._copy[places] = 0
            self._unread[:] = True
            self.version += bool(places.any())

    def follow(self, data: np.ndarray, seconds: float) -> bool:
        """Compare slices for so long; whether the copy, or what is known of it, changed.

        Call it from one thread alone. While another one takes the copy, nothing is done.
        """
        wait = seconds == float("inf")
        if not self._taking.acquire(blocking=wait):
            return False
        try:
            return self._compare(data, seconds)
        finally:
            self._taking.release()

    def _compare(self, data: np.ndarray, seconds: float) -> bool:
        end = time.perf_counter() + seconds
        differed = found = False
        for _ in range(len(self._copy)):
            index = self._at
            if not np.array_equal(data[index], self._copy[index]):
                self._note(index, data[index] != self._copy[index])
                self._copy[index] = data[index]
                self._unread[index] = differed = True
            if self._unread[index]:
                self._read(index)
                found = True
            self._at = (index + 1) % len(self._copy)
            self._left = max(self._left - 1, 0)
            if time.perf_counter() > end:
                break
        self.version += differed
        return differed or found

    def _note(self, index: int, differs: np.ndarray) -> None:
        slices, rows, columns = self._differed
        slices[index] = True
        rows |= differs.any(axis=1)
        columns |= differs.any(axis=0)

    def differed(self, axis: int) -> list[int]:
        """Slices along an axis that changed since this was asked last, as far as was seen."""
        found = np.flatnonzero(self._differed[axis]).tolist()
        for slices in self._differed:
            slices[:] = False
        return found

    def _read(self, index: int) -> None:
        """Note where a slice has labels."""
        layer = self._copy[index]
        self._unread[index] = False
        self._rows[index] = layer.max(axis=1) != 0
        self._columns[index] = layer.max(axis=0) != 0

    def painted(self, axis: int) -> np.ndarray:
        """Whether each slice along an axis has any label, as far as was seen."""
        seen = self._columns if axis == 2 else self._rows
        return np.asarray(seen.any(axis=1 if axis == 0 else 0))
