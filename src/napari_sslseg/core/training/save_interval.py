"""How often a training saves its state."""

import time
from collections.abc import Callable

# Bytes per second that a disk is assumed to write before the first measurement.
ASSUMED_SPEED = 200e6
ASSUMED_LATENCY = 0.01


class SaveInterval:
    """Decides when to save, so that saving takes at most a given fraction of the time.

    Parameters
    ----------
    seconds : float
        Wanted time between two saves; at a landmark, such as the end of an epoch, less time may
        have passed.
    share : float
        Largest fraction of the time to spend on saving, both since the last save and since the
        beginning. Saves wait until they cost no more than this.
    size : int
        Bytes of a state, to estimate the time of the first save.
    clock : callable
        Returns seconds; for tests.
    """

    def __init__(
        self,
        seconds: float,
        share: float,
        size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self.share = share
        self.cost = ASSUMED_LATENCY + size / ASSUMED_SPEED
        self._clock = clock
        self.spent = 0.0
        self._start = self._last = self._begun = clock()

    def due(self, landmark: bool = False) -> bool:
        """Whether to save now."""
        now = self._clock()
        waited = now - self._last
        affordable = self.cost <= self.share * waited
        affordable = affordable and self.spent + self.cost <= self.share * (now - self._start)
        return affordable and (landmark or waited >= self.seconds)

    def begin(self) -> None:
        """Note the time at which a save begins."""
        self._begun = self._clock()

    def end(self) -> None:
        """Note the time at which a save ends."""
        self._last = self._clock()
        took = self._last - self._begun
        self.spent += took
        # A slow save raises the estimate at once; a quick one lowers it gradually.
        self.cost = max(took, (self.cost + took) / 2)
