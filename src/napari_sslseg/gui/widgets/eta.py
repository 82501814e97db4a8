"""Speed of a training and estimate of the remaining time, rounded to its precision."""

import time
from collections import deque
from collections.abc import Callable

WINDOW = 200
"""Number of steps over which the speed is measured, including validations between them."""
LEAST_STEPS, LEAST_SECONDS = 3, 1.0


class Eta:
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

    def update(self, step: int, total: int) -> None:
        """Record that a step was finished."""
        if step < self.step:
            self._times.clear()  # Another stage started.
        self.step, self.total = step, total
        self._times.append((self._clock(), step))

    def reset(self) -> None:
        """Restart the measurement, so that the time of a pause is not included."""
        self._times.clear()

    @property
    def seconds_per_step(self) -> float | None:
        """Seconds per step; None after too few steps."""
        if not self._times:
            return None
        (start, first), (end, last) = self._times[0], self._times[-1]
        if last - first < LEAST_STEPS or end - start < LEAST_SECONDS:
            return None
        return (end - start) / (last - first)

    @property
    def remaining(self) -> float | None:
        """Remaining seconds; None after too few steps."""
        each = self.seconds_per_step
        return None if each is None else each * (self.total - self.step)


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
