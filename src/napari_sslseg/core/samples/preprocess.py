"""Prepare a scan for a network: place its normalised slices, and its labels, on the canvas."""

import numpy as np

from napari_sslseg.core.samples.normalize import Normalizer
from napari_sslseg.core.samples.placement import Placement
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing

SliceNormalizer = Normalizer[Preprocessing]
"""Normaliser of the slices for a network of slices."""


def prepare(
    scan: SliceNormalizer, place: Placement, numbers: np.ndarray | None = None
) -> np.ndarray:
    """Prepare slices with their neighbours as input of a network: (S, C, *canvas), float32.

    Parameters
    ----------
    scan : Normalizer
        The scan and its preprocessing, with statistics that are computed once for several calls.
    place : Placement
        Placement of the slices on the canvas.
    numbers : ndarray of int, optional
        Indices of the slices; all by default.
    """
    reach = scan.settings.neighbours
    numbers = np.arange(scan.count) if numbers is None else numbers
    if reach == 0:
        return prepare_slices(scan, place, numbers)
    around = neighbours(numbers, reach, 0, scan.count - 1)
    needed, where = np.unique(np.concatenate(around), return_inverse=True)
    slices = prepare_slices(scan, place, needed)
    return np.concatenate([slices[part] for part in where.reshape(len(around), -1)], axis=1)


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


def prepare_slices(
    scan: SliceNormalizer, place: Placement, numbers: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """Normalise slices of a scan and place them on the canvas; shape (S, C, *canvas), float32.

    The padding has their lowest value, which is air. Parameters as in :func:`prepare`.
    """
    import torch

    slices = torch.from_numpy(scan.slices(numbers))
    if scan.settings.normalize == "slice":
        # Z-scores of different slices are not comparable, so each slice has its own lowest value.
        fill = slices.amin(dim=(2, 3), keepdim=True)
    else:
        fill = torch.from_numpy(scan.lowest)[None, :, None, None]
    return place.put(slices, fill).numpy()


def prepare_labels(classes: np.ndarray, place: Placement) -> np.ndarray:
    """Place class indices on the canvas: slices (S, H, W), or volumes (S, D, H, W), uint8."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(classes))[:, None]
    return place.put(tensor, 0, "labels")[:, 0].numpy()


def prepare_volume(volume: Volume, settings: VolumePreprocessing, place: Placement) -> np.ndarray:
    """Normalise a scan and place it on the canvas as a whole; shape (C, *canvas), float32."""
    import torch

    scan = Normalizer(volume, settings)
    channels = torch.from_numpy(scan.slices()).movedim(1, 0)[None]
    fill: torch.Tensor | float = 0.0
    if settings.padding == "lowest":
        fill = torch.from_numpy(scan.lowest)[None, :, None, None, None]
    return place.put(channels, fill)[0].numpy()
