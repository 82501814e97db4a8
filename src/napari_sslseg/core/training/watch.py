"""Preview of a running training: which slice is shown, and how often."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.samples.placement import Placement, prediction_placement
from napari_sslseg.core.samples.preview_slices import PreviewSlices
from napari_sslseg.core.samples.store import SampleStore
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor


class Watch:
    """Requests previews of a slice from a running training; safe to use from any thread.

    Previews are events, see :class:`~napari_sslseg.core.common.events.Preview`. They do not change
    the training: its final weights are the same with and without previews.

    Parameters
    ----------
    seconds : float
        Shortest time between two previews.
    share : float
        Largest fraction of the time to spend on previews; slow ones are made less often.
    clock : callable
        Returns seconds; for tests.
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
        """Show this slice from now on; ``index`` counts slices in the display grid."""
        with self._lock:
            self._wanted = (volume, index)
            self._next = min(self._next, self._clock() + self.seconds / 4)

    def look_away(self) -> None:
        """Stop the previews."""
        with self._lock:
            self._wanted = None

    @property
    def wanted(self) -> tuple[Volume, int] | None:
        """Scan and slice to show; None if there is none."""
        with self._lock:
            return self._wanted

    @property
    def due(self) -> bool:
        """Whether it is time for a preview."""
        return self.wanted is not None and self._clock() >= self._next

    def shown(self, took: float) -> None:
        """Schedule the next preview, after one that took so many seconds."""
        with self._lock:
            self._next = self._clock() + max(self.seconds, took / self.share)


class WatchedSlice:
    """Preprocesses the watched slice like those of the training, once per slice.

    Parameters
    ----------
    store : SampleStore
        Samples of the training. Slices of its scans are taken from there.
    settings : Preprocessing
        Preprocessing of the training.
    """

    def __init__(self, store: SampleStore, settings: Preprocessing) -> None:
        self._store, self._settings = store, settings
        self._records = {scan.name: scan for scan in store.scans}
        self._prepared: tuple[Volume, int, Tensor, Placement] | None = None

    def get(self, volume: Volume, index: int) -> "tuple[Tensor, Placement]":
        """Image of the slice, shape (1, C, H, W), and its placement on the canvas.

        An index outside the scan is clipped to the first or the last slice.

        Raises
        ------
        DataError
            If the scan cannot be prepared, such as one of another modality.
        """
        wanted = self._settings.modality
        if volume.modality != wanted:
            raise DataError(
                f"{volume.name} is {volume.modality}, so a network for {wanted} scans has no "
                "preview of it."
            )
        index = min(max(index, 0), volume.data.shape[PLANE_AXIS[self._settings.plane]] - 1)
        if self._prepared is None or self._prepared[:2] != (volume, index):
            record = self._records.get(volume.name)
            # The whole slice, as a prediction has it, also if the training sees only its middle.
            place = prediction_placement(volume.geometry, self._settings)
            if record is not None and place.canvas == self._store.size:
                image = self._store.batch(np.array([record.start + index]))
            else:
                image = PreviewSlices([volume], self._settings, whole=True).batch(np.array([index]))
            self._prepared = (volume, index, image, place)
        return self._prepared[2], self._prepared[3]
