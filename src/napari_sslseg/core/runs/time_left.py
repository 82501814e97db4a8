"""Speed of a training and estimate of the remaining time, rounded to its precision."""

import time
from collections import deque
from collections.abc import Callable

from napari_sslseg.core.common.events import Step

WINDOW = 200
"""Number of steps over which the speed is measured, including validations between them."""
LEAST_STEPS, LEAST_SECONDS = 3, 1.0


class TimeLeft:
    """Measures the speed of a training from its steps.

    Parameters
    ----------
    clock : callable
        Returns the time in seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self.step = self.total = 0
        self._cost = 1.0
        self._left = 0.0
        self._rate: float | None = None

    def update(self, event: Step) -> None:
        """Record that a step was finished."""
        if event.step < self.step:
            self.reset()  # Another stage started.
        if event.cost != self._cost:
            self._times.clear()  # The rate so far is kept until the new steps are measured.
        self.step, self.total = event.step, event.total
        self._cost = event.cost
        left = event.cost_left
        self._left = event.cost * (event.total - event.step) if left is None else left
        self._times.append((self._clock(), event.step))
        (start, first), (end, last) = self._times[0], self._times[-1]
        if last - first >= LEAST_STEPS and end - start >= LEAST_SECONDS:
            self._rate = (end - start) / (last - first) / self._cost

    def reset(self) -> None:
        """Restart the measurement, so that the time of a pause is not included."""
        self._times.clear()
        self._rate = None

    @property
    def remaining(self) -> float | None:
        """Remaining seconds; None after too few steps."""
        return None if self._rate is None else self._rate * self._left


def duration(seconds: float) -> str:
    """Format a time roughly, such as "about 3 min"."""
    if seconds < 45:
        return "less than a minute"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {max(1, minutes)} min"
    hours, minutes = divmod(round(seconds / 300) * 5, 60)
    if hours >= 10:
        return f"about {hours + (minutes >= 30)} h"
    return f"about {hours} h {minutes} min" if minutes else f"about {hours} h"


def time_range(low: float, high: float) -> str:
    """Format a rough range of time, such as "3 to 6 min"."""
    if high < 60:
        return "less than a minute"
    if high < 5400:
        first, last = max(1, round(low / 60)), round(high / 60)
        return f"{first} to {last} min" if last > first else f"about {first} min"
    first, last = max(1, round(low / 3600)), max(1, round(high / 3600))
    return f"{first} to {last} h" if last > first else f"about {first} h"
