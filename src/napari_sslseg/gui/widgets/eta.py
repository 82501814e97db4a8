"""How fast a training is, and how long it will take, in words that promise no more than known."""

import time
from collections import deque
from collections.abc import Callable

WINDOW = 200
"""Steps that the speed is measured over, validations among them included."""
LEAST_STEPS, LEAST_SECONDS = 3, 1.0


class Eta:
    """Measures the speed of a training from its steps.

    Parameters
    ----------
    clock : callable
        For tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self.step = self.total = 0

    def tell(self, step: int, total: int) -> None:
        """Take in that a step was made."""
        if step < self.step:
            self._times.clear()  # Another stage.
        self.step, self.total = step, total
        self._times.append((self._clock(), step))

    def hold(self) -> None:
        """Take in a pause: the time that passes says nothing of the speed."""
        self._times.clear()

    @property
    def seconds_per_step(self) -> float | None:
        """Seconds that a step takes; None while too little was seen."""
        if not self._times:
            return None
        (begun, first), (ended, last) = self._times[0], self._times[-1]
        if last - first < LEAST_STEPS or ended - begun < LEAST_SECONDS:
            return None
        return (ended - begun) / (last - first)

    @property
    def left(self) -> float | None:
        """Seconds that are left; None while too little was seen."""
        each = self.seconds_per_step
        return None if each is None else each * (self.total - self.step)


def duration(seconds: float) -> str:
    """Say a time roughly, such as "about 3 min"."""
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
    """Say a rough range, such as "between 3 and 6 min"."""
    if high < 60:
        return "less than a minute"
    if high < 5400:
        first, last = max(1, round(low / 60)), round(high / 60)
        return f"{first} to {last} min" if last > first else f"about {first} min"
    first, last = max(1, round(low / 3600)), max(1, round(high / 3600))
    return f"{first} to {last} h" if last > first else f"about {first} h"
