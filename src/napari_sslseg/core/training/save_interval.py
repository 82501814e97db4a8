"""How often a training saves itself."""

import time
from collections.abc import Callable

# Bytes a second that a disk is taken to write before one has been seen to write.
ASSUMED_SPEED = 200e6
ASSUMED_LATENCY = 0.01


class Pace:
    """Spaces checkpoints, so that they take no more than a share of the time.

    Parameters
    ----------
    seconds : float
        Wanted time between two checkpoints; landmarks, such as the end of an epoch, come sooner.
    share : float
        Largest share of the time for writing, of the time since the last checkpoint and of all
        time so far: however often checkpoints are wanted, they wait until they cost no more.
    size : int
        Bytes of a checkpoint, to guess what the first will take.
    clock : callable
        For tests.
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
        """Saving begins."""
        self._begun = self._clock()

    def end(self) -> None:
        """Saving has ended."""
        self._last = self._clock()
        took = self._last - self._begun
        self.spent += took
        # A disk that was slow may be so again; one that was quick by chance should not mislead.
        self.cost = max(took, (self.cost + took) / 2)
