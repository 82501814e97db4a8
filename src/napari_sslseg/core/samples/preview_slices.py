"""Slices of scans for a preview, read and preprocessed on demand."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.samples.normalize import Normalizer
from napari_sslseg.core.samples.placement import (
    canvas_size,
    placement,
    prediction_placement,
    resampled_shape,
)
from napari_sslseg.core.samples.planned_spacing import with_planned_spacing
from napari_sslseg.core.samples.preprocess import prepare
from napari_sslseg.core.samples.store import SampleStore, StoredScan
from napari_sslseg.core.samples.warnings import warn_about_cropped_slices
from napari_sslseg.core.scans.labelled import as_volume, scan_geometry
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Modality, Volume
from napari_sslseg.core.settings.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch


class PreviewSlices(SampleStore):
    """Replaces a :class:`~napari_sslseg.core.samples.slices.SliceStore` if few slices are needed.

    Batches are drawn as from a store. Only one scan at a time is in memory, and only its slices of
    the batch are kept.

    Parameters
    ----------
    scans : sequence of Volume or Series
        The scans.
    settings : Preprocessing
        Preprocessing. Slices larger than its size are cropped, as in a training.
    modality : {"MR", "CT"}, optional
        Overrides the guess for every scan that is loaded here.
    whole : bool
        Whether the canvas is enlarged if a scan does not fit, as in a prediction.
    """

    noun = "slice"
    settings: Preprocessing

    def __init__(
        self,
        scans: Sequence[Volume | Series],
        settings: Preprocessing,
        modality: Modality | None = None,
        *,
        whole: bool = False,
    ) -> None:
        grids = [scan_geometry(scan) for scan in scans]
        counts = [grid.display_shape[PLANE_AXIS[settings.plane]] for grid in grids]
        starts = np.cumsum([0, *counts]).tolist()
        records = [
            StoredScan(scan.name, scan.subject, start, count)
            for scan, start, count in zip(scans, starts, counts, strict=False)
        ]
        super().__init__(records, ())
        self._sources, self._geometries, self._modality = scans, grids, modality
        settings, _ = with_planned_spacing(settings, grids)
        shapes = [resampled_shape(grid, settings) for grid in grids]
        self._size = canvas_size(shapes, settings)
        if whole:
            canvases = [prediction_placement(grid, settings).canvas for grid in grids]
            self._size = max(h for h, _ in canvases), max(w for _, w in canvases)
        elif settings.size and settings.fit == "pad":
            warn_about_cropped_slices([scan.name for scan in scans], shapes, self._size)
        self.settings = settings
        self.annotated = self.foreground = self.partial = np.zeros(sum(counts), bool)
        self.folder = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the slices."""
        return self._size

    @property
    def channels(self) -> int:
        """Channels of the slices."""
        return self.settings.channels

    @property
    def labelled(self) -> bool:
        """Whether there are labels: never, since previews are of pretext tasks."""
        return False

    def batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Images of a batch, shape (B, C, H, W), float32."""
        import torch

        images = np.empty((len(indices), self.channels, *self.size), np.float32)
        scans = self.scan_index[indices]
        for number in np.unique(scans):
            volume = as_volume(self._sources[number], self._modality)
            place = placement(self._geometries[number], self.settings, self.size)
            here = scans == number
            slices = prepare(Normalizer(volume, self.settings), place)
            images[here] = slices[indices[here] - self.scans[number].start]
        return torch.from_numpy(images)

    def label_batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Raise an error, see :attr:`labelled`."""
        self._check_annotated(indices)
        raise AssertionError


def middle_samples(store: SampleStore, n: int) -> np.ndarray:
    """Select ``n`` samples, evenly spaced in the middle half of the first scans."""
    chosen = []
    counts = [part.size for part in np.array_split(np.arange(n), len(store.scans))]
    for scan, count in zip(store.scans, counts, strict=True):
        places = np.linspace(0.25, 0.75, count + 2)[1:-1] * (scan.n_slices - 1)
        chosen.append(scan.start + np.unique(places.round().astype(int)))
    return np.concatenate(chosen)
