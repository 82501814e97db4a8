"""Looking at a training while it runs: which slice somebody wants to see, and how often."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.samples.placement import Placement, placement
from napari_sslseg.core.samples.preview_slices import PreviewSlices
from napari_sslseg.core.samples.store import SampleStore
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor


class Watch:
    """Asks a training to show a slice now and then; safe to use from any thread.

    What is shown comes as :class:`~napari_sslseg.core.common.events.Preview`. It changes nothing in
    the training, whose weights at the end are the same with and without.

    Parameters
    ----------
    seconds : float
        Shortest time between two pictures.
    share : float
        Largest share of the time for them: where they take long, they come less often.
    clock : callable
        For tests.
    """

    def __init__(
        self,
        seconds: float = 2.0,
        share: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.share = seconds, share
        self._clock = clock
        self._lock = threading.Lock()
        self._wanted: tuple[Volume, int] | None = None
        self._next = clock()

    def look_at(self, volume: Volume, index: int) -> None:
        """Show this slice of this scan from now on, and soon; ``index`` in the display grid."""
        with self._lock:
            self._wanted = (volume, index)
            self._next = min(self._next, self._clock() + self.seconds / 4)

    def look_away(self) -> None:
        """Show nothing more."""
        with self._lock:
            self._wanted = None

    @property
    def wanted(self) -> tuple[Volume, int] | None:
        """Scan and slice to show; None if nothing is to be shown."""
        with self._lock:
            return self._wanted

    @property
    def due(self) -> bool:
        """Whether it is time for a picture."""
        return self.wanted is not None and self._clock() >= self._next

    def shown(self, took: float) -> None:
        """Take in that a picture was made, in so many seconds."""
        with self._lock:
            self._next = self._clock() + max(self.seconds, took / self.share)


class WatchedSlice:
    """Prepares the slice that is watched as those of the training are, once for as long as it is.

    Parameters
    ----------
    store : SampleStore
        Samples of the training; a slice of one of its scans is taken from there.
    settings : Preprocessing
        Of the training.
    """

    def __init__(self, store: SampleStore, settings: Preprocessing) -> None:
        self._store, self._settings = store, settings
        self._known = {scan.name: scan for scan in store.scans}
        self._held: tuple[Volume, int, Tensor, Placement] | None = None

    def get(self, volume: Volume, index: int) -> "tuple[Tensor, Placement]":
        """Image of the slice, shape (1, C, H, W), and where it lies on its canvas.

        A number beyond the scan means its nearest slice.
        """
        index = min(max(index, 0), volume.data.shape[PLANE_AXIS[self._settings.plane]] - 1)
        if self._held is None or self._held[:2] != (volume, index):
            record = self._known.get(volume.name)
            if record is not None:
                image = self._store.batch(np.array([record.start + index]))
                size = self._store.size
            else:
                slices = PreviewSlices([volume], self._settings)
                image, size = slices.batch(np.array([index])), slices.size
            place = placement(volume.geometry, self._settings, (size[-2], size[-1]))
            self._held = (volume, index, image, place)
        return self._held[2], self._held[3]
