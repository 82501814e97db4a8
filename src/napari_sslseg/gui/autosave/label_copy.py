"""A copy of a labels array that is updated a few slices at a time.

napari emits an event for a stroke, but not for undo, redo, changes by other plugins, or changes of
a hidden layer. So all slices are compared with the copy again and again, each time for a few
milliseconds. The copy is what is written to disk, because no other thread changes it.
"""

import threading
import time

import numpy as np


class LabelCopy:
    """A copy of the labels of a scan, with a version number and the labelled slices.

    Parameters
    ----------
    data : ndarray
        Labels with three axes.
    version : int
        Initial version number.

    Attributes
    ----------
    version : int
        Incremented when a change is found.
    """

    def __init__(self, data: np.ndarray, version: int = 0) -> None:
        # Empty slices are not copied: the system gives memory to zeros when they are written.
        self._copy = np.zeros(data.shape, data.dtype)
        self._lock = threading.Lock()
        count, rows, columns = data.shape
        self._rows = np.zeros((count, rows), bool)
        self._columns = np.zeros((count, columns), bool)
        self._next = 0
        self._remaining = count
        self._unscanned = np.array([plane.any() for plane in data], bool)
        for index in np.flatnonzero(self._unscanned):
            self._copy[index] = data[index]
        self._changed = tuple(np.zeros(size, bool) for size in data.shape)
        self.version = version

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels array."""
        return self._copy.shape

    @property
    def dtype(self) -> np.dtype:
        """Data type of the labels array."""
        return self._copy.dtype

    @property
    def is_complete(self) -> bool:
        """Whether all slices were compared since the last :meth:`invalidate`."""
        return self._remaining == 0

    def invalidate(self) -> None:
        """Require that all slices are compared again."""
        self._remaining = len(self._copy)

    def snapshot(self) -> tuple[int, np.ndarray]:
        """Return the version and a copy of the labels. Safe to call from any thread."""
        with self._lock:
            return self.version, self._copy.copy()

    def erase(self, value: int) -> None:
        """Replace a label value by background."""
        with self._lock:
            places = self._copy == value
            self._copy[places] = 0
            self._unscanned[:] = True
            self.version += bool(places.any())

    def update(self, data: np.ndarray, seconds: float) -> bool:
        """Compare slices with the array and copy those that differ.

        Call it from one thread only. Does nothing while another thread takes a snapshot, unless
        the time is infinite.

        Parameters
        ----------
        data : ndarray
            The labels array that may have changed.
        seconds : float
            Time limit.

        Returns
        -------
        bool
            Whether the copy, or the known labelled slices, changed.
        """
        wait = seconds == float("inf")
        if not self._lock.acquire(blocking=wait):
            return False
        try:
            return self._compare(data, seconds)
        finally:
            self._lock.release()

    def _compare(self, data: np.ndarray, seconds: float) -> bool:
        end = time.perf_counter() + seconds
        changed = scanned = False
        for _ in range(len(self._copy)):
            index = self._next
            if not np.array_equal(data[index], self._copy[index]):
                self._record_change(index, data[index] != self._copy[index])
                self._copy[index] = data[index]
                self._unscanned[index] = changed = True
            if self._unscanned[index]:
                self._scan(index)
                scanned = True
            self._next = (index + 1) % len(self._copy)
            self._remaining = max(self._remaining - 1, 0)
            if time.perf_counter() > end:
                break
        self.version += changed
        return changed or scanned

    def _record_change(self, index: int, differs: np.ndarray) -> None:
        slices, rows, columns = self._changed
        slices[index] = True
        rows |= differs.any(axis=1)
        columns |= differs.any(axis=0)

    def changed_slices(self, axis: int) -> list[int]:
        """Return the slices along an axis in which changes were found since the last call."""
        found = np.flatnonzero(self._changed[axis]).tolist()
        for slices in self._changed:
            slices[:] = False
        return found

    def _scan(self, index: int) -> None:
        """Find the rows and columns of a slice that have labels."""
        layer = self._copy[index]
        self._unscanned[index] = False
        self._rows[index] = layer.max(axis=1) != 0
        self._columns[index] = layer.max(axis=0) != 0

    def painted(self, axis: int) -> np.ndarray:
        """Whether each slice along an axis has labels, as of the last update."""
        labelled = self._columns if axis == 2 else self._rows
        return np.asarray(labelled.any(axis=1 if axis == 0 else 0))
