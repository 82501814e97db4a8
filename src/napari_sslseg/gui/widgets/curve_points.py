"""Points of a training curve, thinned out for drawing."""

from collections import deque

import numpy as np

MOST_POINTS = 10_000
MOST_DRAWN = 1_000


class Curve:
    """The last points of a curve.

    Parameters
    ----------
    most : int
        Number of points that are stored.
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._x: deque[float] = deque(maxlen=most)
        self._y: deque[float] = deque(maxlen=most)

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
        """Remove all points."""
        self._x.clear()
        self._y.clear()

    def points(
        self, most: int = MOST_DRAWN, positive: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the points to draw: all, or minimum and maximum of parts of equal length.

        Parameters
        ----------
        most : int
            Approximate largest number of points.
        positive : bool
            Whether to omit values that a logarithmic scale cannot show.
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
        # Always include the last point, which the user waits for.
        chosen = np.unique(np.concatenate([low, high, np.arange(whole, len(x)), [0, len(x) - 1]]))
        return x[chosen], y[chosen]
