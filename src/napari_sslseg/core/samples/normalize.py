"""Normalise the intensities of a scan, any of its slices at a time."""

from typing import Generic, TypeVar

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.volume import Volume, subsample
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing

Settings = TypeVar("Settings", bound=Preprocessing | VolumePreprocessing)


class Normalizer(Generic[Settings]):
    """Normalises slices of one scan, with one channel per CT window.

    MR values are clipped at percentiles of the scan, HU to each window. Both are then scaled to
    z-scores over the scan, z-scores over each slice (and channel), or 0…1. The statistics of the
    scan are computed slice by slice, so that memory does not grow with the number of channels.

    Soft clipping of MR keeps the values between the percentiles linear, 0…1. A value ``v`` above
    becomes ``2 - 1 / v``, one below becomes ``1 / (1 - v) - 1``: small bright structures stay
    brighter than their surroundings, and spikes of any height stay below 2. The upper percentile
    is that of the body, the voxels above the threshold of Otsu, since the fraction of air depends
    on the field of view.

    Parameters
    ----------
    volume : Volume
        The scan.
    settings : Preprocessing or VolumePreprocessing
        Modality, windows, percentiles, normalisation, plane.

    Attributes
    ----------
    settings : Preprocessing or VolumePreprocessing
        As given.
    count : int
        Number of slices along the plane.
    lowest : ndarray, shape (C,), float32
        Lowest normalised value of each channel over the scan, which is air. Not for z-scores over
        each slice, where it depends on the slice.

    Raises
    ------
    DataError
        If the scan has another modality, or the same value everywhere.
    """

    def __init__(self, volume: Volume, settings: Settings) -> None:
        self.settings = settings
        self._slices = np.moveaxis(volume.data, PLANE_AXIS[settings.plane], 0)
        self.count = len(self._slices)
        lowest, highest = _range(volume, settings)
        self._bounds = self._find_bounds(lowest, highest)
        self._shift, self._scale = self._statistics()
        self.lowest = self._standardized(self._scaled(np.full((1, 1), lowest)))[:, 0, 0]

    def slices(self, numbers: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Normalise slices, without resampling.

        Parameters
        ----------
        numbers : ndarray of int or slice
            Indices of the slices; all by default.

        Returns
        -------
        ndarray, shape (S, C, H, W), float32
        """
        chosen = self._slices[numbers]
        shape = len(chosen), len(self._bounds), *chosen.shape[1:]
        channels = np.empty(shape, np.float32)
        for values, plane in zip(channels, chosen, strict=True):
            values[:] = self._standardized(self._scaled(plane))
        if self.settings.normalize == "slice":
            for values in channels.reshape(-1, *shape[2:]):
                values -= values.mean(dtype=np.float64)
                _divide_by(values, np.sqrt(np.square(values, dtype=np.float64).mean()))
        return channels

    def _find_bounds(self, lowest: float, highest: float) -> list[tuple[float, float]]:
        """Lowest and highest value of each channel."""
        if self.settings.modality == "CT":
            return [window.bounds for window in self.settings.windows]
        low, high = np.percentile(self._slices, self.settings.clip_percentiles)
        if self.settings.clipping == "soft" and low < high:
            body = self._slices[self._slices > _air_threshold(self._slices, low, high)]
            high = np.percentile(body, self.settings.clip_percentiles[1])
        if low == high:  # nearly all voxels are background, as after skull stripping
            low, high = lowest, highest
        return [(float(low), float(high))]

    def _scaled(self, plane: np.ndarray) -> np.ndarray:
        """Clip a slice and scale it to 0…1, or around that; shape (C, H, W), float32."""
        channels = np.empty((len(self._bounds), *plane.shape), np.float32)
        soft = self.settings.modality == "MR" and self.settings.clipping == "soft"
        for values, (low, high) in zip(channels, self._bounds, strict=True):
            if soft:
                values[:] = plane
            else:
                np.clip(plane, low, high, out=values, casting="unsafe")
            values -= low
            values /= high - low
            if soft:
                _compress(values)
        return channels

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over the scan, for z-scores over it."""
        n = len(self._bounds)
        shift, scale = np.zeros(n), np.ones(n)
        if self.settings.normalize == "volume":
            means = [self._means(plane) for plane in self._slices]
            shift = np.mean(means, axis=0)
            squares = [self._means(plane, shift) for plane in self._slices]
            scale = np.sqrt(np.mean(squares, axis=0))
        return shift, scale

    def _means(self, plane: np.ndarray, shift: np.ndarray | None = None) -> np.ndarray:
        """Mean of each channel of a slice, or of the squared difference to ``shift``."""
        channels = self._scaled(plane)
        if shift is None:
            return np.array([values.mean(dtype=np.float64) for values in channels])
        for values, mean in zip(channels, shift, strict=True):
            values -= mean
        return np.array([np.square(values, dtype=np.float64).mean() for values in channels])

    def _standardized(self, channels: np.ndarray) -> np.ndarray:
        """Convert scaled channels to z-scores over the scan in place, unless there are none."""
        if self.settings.normalize == "volume":
            for values, mean, deviation in zip(channels, self._shift, self._scale, strict=True):
                values -= mean
                _divide_by(values, deviation)
        return channels


def _compress(values: np.ndarray) -> None:
    """Compress values below 0 and above 1 to −1…2 in place; the slope is continuous, too."""
    above, below = values > 1, values < 0
    values[above] = 2 - 1 / values[above]
    values[below] = 1 / (1 - values[below]) - 1


def _air_threshold(values: np.ndarray, low: float, high: float) -> float:
    """Value between air and body: Otsu's threshold, without the values beyond the percentiles."""
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(np.clip(subsample(values), low, high)))


def _divide_by(values: np.ndarray, deviation: float) -> None:
    """Divide by a standard deviation in place."""
    # Constant values become zero; dividing would amplify their noise.
    if deviation > 1e-6:
        values /= deviation


def _range(volume: Volume, settings: Preprocessing | VolumePreprocessing) -> tuple[float, float]:
    """Lowest and highest value of a scan.

    Raises
    ------
    DataError
        If it has another modality than the settings, or is useless.
    """
    if volume.modality != settings.modality:
        raise DataError(
            f"{volume.name} looks like {volume.modality}, but {settings.modality} is needed here; "
            "do not mix MR and CT, or set --modality (in Python modality=) if the guess is wrong."
        )
    lowest, highest = float(volume.data.min()), float(volume.data.max())
    if not np.isfinite(highest - lowest):
        raise DataError(f"{volume.name} holds values that are NaN or infinite; replace them.")
    if lowest == highest:
        raise DataError(
            f"{volume.name} has the same value in every voxel, so it is useless for training; "
            "leave it out."
        )
    if settings.modality == "CT" and all(
        highest <= window.bounds[0] or lowest >= window.bounds[1] for window in settings.windows
    ):
        windows = ", ".join("{:g} to {:g}".format(*window.bounds) for window in settings.windows)
        raise DataError(
            f"{volume.name} has values from {lowest:g} to {highest:g}, all outside of the windows "
            f"for CT ({windows} HU), so nothing would be left of it; set --modality MR (in Python "
            'modality="MR") if it is no CT, or correct its values.'
        )
    return lowest, highest
