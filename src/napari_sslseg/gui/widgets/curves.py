"""Values of a training by step, few enough to draw."""

from collections import deque

import numpy as np

KEPT = 10_000
DRAWN = 1_000


class Curve:
    """The last points of a curve.

    Parameters
    ----------
    kept : int
        Points that are remembered.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._x: deque[float] = deque(maxlen=kept)
        self._y: deque[float] = deque(maxlen=kept)

    def __len__(self) -> int:
        return len(self._x)

    @property
    def last(self) -> float:
        """The latest value."""
        return self._y[-1]

    def add(self, x: float, y: float) -> None:
        """Add a point."""
        self._x.append(x)
        self._y.append(y)

    def clear(self) -> None:
        """Forget all points."""
        self._x.clear()
        self._y.clear()

    def points(self, most: int = DRAWN, positive: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Points to draw: all, or the lowest and the highest of parts of equal length.

        Parameters
        ----------
        most : int
            Where there are more, no more than about as many are given.
        positive : bool
            Leave out what a logarithmic scale cannot show.
        """
        x, y = np.array(self._x, float), np.array(self._y, float)
        shown = np.isfinite(y) & (y > 0) if positive else np.isfinite(y)
        x, y = x[shown], y[shown]
        if len(x) <= most:
            return x, y
        parts = max(1, most // 2)
        width = -(-len(x) // parts)
        whole = len(x) // width * width
        at = np.arange(0, whole, width)
        low = y[:whole].reshape(-1, width).argmin(1) + at
        high = y[:whole].reshape(-1, width).argmax(1) + at
        # The last point is always there, since it is the one that is waited for.
        chosen = np.unique(np.concatenate([low, high, np.arange(whole, len(x)), [0, len(x) - 1]]))
        return x[chosen], y[chosen]
