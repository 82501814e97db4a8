"""Preprocess a scan for a network: normalise intensities, then place it on the canvas."""

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.samples.placement import Placement
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing


def normalize(volume: Volume, settings: Preprocessing | VolumePreprocessing) -> np.ndarray:
    """Normalise the intensities of a scan, with one channel per CT window.

    MR values are clipped to percentiles of the scan, HU to each window. Both are then scaled to
    z-scores over the scan, z-scores over each slice (and channel), or 0…1.

    Parameters
    ----------
    volume : Volume
        The scan.
    settings : Preprocessing or VolumePreprocessing
        Modality, windows, percentiles, normalisation, plane.

    Returns
    -------
    ndarray, shape (S, C, H, W), float32
        Slices along the plane, without resampling.

    Raises
    ------
    DataError
        If the scan has another modality, or the same value everywhere.
    """
    if volume.modality != settings.modality:
        raise DataError(
            f"{volume.name} looks like {volume.modality}, but {settings.modality} is needed here; "
            "do not mix MR and CT, or set --modality (in Python modality=) if the guess is wrong."
        )
    slices = np.moveaxis(volume.data, PLANE_AXIS[settings.plane], 0)
    lowest, highest = float(slices.min()), float(slices.max())
    if not np.isfinite(highest - lowest):
        raise DataError(f"{volume.name} holds values that are NaN or infinite; replace them.")
    if lowest == highest:
        raise DataError(
            f"{volume.name} has the same value in every voxel, so it is useless for training; "
            "leave it out."
        )
    if settings.modality == "CT":
        bounds = [window.bounds for window in settings.windows]
    else:
        low, high = np.percentile(slices, settings.clip_percentiles)
        if low == high:  # nearly all voxels are background, as after skull stripping
            low, high = lowest, highest
        bounds = [(float(low), float(high))]
    channels = np.empty((len(slices), len(bounds), *slices.shape[1:]), np.float32)
    for channel, (low, high) in enumerate(bounds):
        values = channels[:, channel]
        np.clip(slices, low, high, out=values, casting="unsafe")
        values -= low
        values /= high - low
    if settings.normalize == "volume":
        for channel in range(len(bounds)):
            _standardize(channels[:, channel])
    elif settings.normalize == "slice":
        for values in channels.reshape(-1, 1, *slices.shape[1:]):
            _standardize(values)
    return channels


def _standardize(slices: np.ndarray) -> None:
    """Convert to z-scores in place, slice by slice, so that the scan is not copied."""
    slices -= np.mean([values.mean(dtype=np.float64) for values in slices])
    deviation = np.sqrt(np.mean([np.square(v, dtype=np.float64).mean() for v in slices]))
    # Constant values become zero; dividing would amplify their noise.
    if deviation > 1e-6:
        slices /= deviation


def prepare(volume: Volume, settings: Preprocessing, place: Placement) -> np.ndarray:
    """Prepare slices with their neighbours as input of a network: (S, C, *canvas), float32."""
    slices = prepare_slices(volume, settings, place)
    if settings.neighbours == 0:
        return slices
    around = neighbours(np.arange(len(slices)), settings.neighbours, 0, len(slices) - 1)
    return np.concatenate([slices[numbers] for numbers in around], axis=1)


def neighbours(
    numbers: np.ndarray, reach: int, first: np.ndarray | int, last: np.ndarray | int
) -> list[np.ndarray]:
    """Return indices of slices and of their neighbours at offsets 0, −1, +1, −2, +2, …

    Parameters
    ----------
    numbers : ndarray of int
        Indices of slices.
    reach : int
        Number of neighbours on each side.
    first, last : int or ndarray of int
        First and last slices of their scans, which are repeated beyond the ends.
    """
    offsets = [0, *(side * step for step in range(1, reach + 1) for side in (-1, 1))]
    return [np.clip(numbers + offset, first, last) for offset in offsets]


def prepare_slices(volume: Volume, settings: Preprocessing, place: Placement) -> np.ndarray:
    """Normalise a scan and place its slices on the canvas; shape (S, C, *canvas), float32.

    The padding has their lowest value, which is air.
    """
    import torch

    slices = torch.from_numpy(normalize(volume, settings))
    # Z-scores of different slices are not comparable, so then each slice has its own lowest value.
    axes = (2, 3) if settings.normalize == "slice" else (0, 2, 3)
    return place.put(slices, slices.amin(dim=axes, keepdim=True)).numpy()


def prepare_labels(classes: np.ndarray, place: Placement) -> np.ndarray:
    """Place class indices on the canvas: slices (S, H, W), or volumes (S, D, H, W), uint8."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(classes))[:, None]
    return place.put(tensor, 0, "labels")[:, 0].numpy()


def prepare_volume(volume: Volume, settings: VolumePreprocessing, place: Placement) -> np.ndarray:
    """Normalise a scan and place it on the canvas as a whole; shape (C, *canvas), float32."""
    import torch

    channels = torch.from_numpy(normalize(volume, settings)).movedim(1, 0)[None]
    fill: torch.Tensor | float = 0.0
    if settings.padding == "lowest":
        fill = channels.amin(dim=(2, 3, 4), keepdim=True)
    return place.put(channels, fill)[0].numpy()
