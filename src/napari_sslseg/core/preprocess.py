"""From a scan to slices for the network, and from slices back to the scan.

A scan is normalised as a whole, cut into slices along a plane, resampled within the plane, and
put on a canvas whose sides are multiples of 16. :class:`Placement` remembers the way, so that what
the network says about a canvas returns to the pixels of the scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sslseg.core.config import Preprocessing
from napari_sslseg.core.errors import DataError
from napari_sslseg.core.geometry import PLANE_AXIS, Geometry
from napari_sslseg.core.volumes import Volume

if TYPE_CHECKING:
    import torch

MULTIPLE = 16


@dataclass(frozen=True)
class Placement:
    """Where the pixels of a scan's slices lie on the canvas of the network.

    Parameters
    ----------
    pixels : tuple of int
        In-plane shape of the scan.
    resampled : tuple of int
        In-plane shape after resampling; it covers the same millimetres.
    canvas : tuple of int
        Shape that the network sees. The resampled slice is centred on it: padded where it is
        smaller, cropped where it is larger.
    """

    pixels: tuple[int, int]
    resampled: tuple[int, int]
    canvas: tuple[int, int]

    def put(
        self,
        slices: "torch.Tensor",
        fill: "torch.Tensor | float" = 0.0,
        mode: Literal["image", "labels"] = "image",
    ) -> "torch.Tensor":
        """Resample slices and put them on the canvas.

        Parameters
        ----------
        slices : Tensor, shape (N, C, *pixels)
            Slices of the scan. Images are interpolated linearly with antialiasing, labels by
            nearest neighbour.
        fill : float or Tensor broadcastable to (N, C, 1, 1)
            Value around the slices.

        Returns
        -------
        Tensor, shape (N, C, *canvas)
        """
        import torch

        slices = resample(slices, self.resampled, mode)
        fill = torch.as_tensor(fill, dtype=slices.dtype)
        canvas = fill.expand(*slices.shape[:2], *self.canvas).clone()
        inside, outside = self._overlap()
        canvas[..., inside[0], inside[1]] = slices[..., outside[0], outside[1]]
        return canvas

    def take(self, canvas: "torch.Tensor", fill: float = 0.0) -> "torch.Tensor":
        """Bring scores on the canvas back to the pixels of the scan.

        Parameters
        ----------
        canvas : Tensor, shape (N, C, *canvas)
            Scores, interpolated linearly.
        fill : float
            Score where the canvas did not reach (cropped slices).

        Returns
        -------
        Tensor, shape (N, C, *pixels)
        """
        import torch

        inside, outside = self._overlap()
        slices = torch.full((*canvas.shape[:2], *self.resampled), fill, dtype=canvas.dtype)
        slices = slices.to(canvas.device)
        slices[..., outside[0], outside[1]] = canvas[..., inside[0], inside[1]]
        return resample(slices, self.pixels, "image")

    def _overlap(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Slices of the canvas, and of the resampled slice, that show the same pixels."""
        inside, outside = [], []
        for small, large in zip(self.resampled, self.canvas, strict=True):
            length = min(small, large)
            start, skip = (large - length) // 2, (small - length) // 2
            inside.append(slice(start, start + length))
            outside.append(slice(skip, skip + length))
        return (inside[0], inside[1]), (outside[0], outside[1])


def resample(
    slices: "torch.Tensor", size: tuple[int, int], mode: Literal["image", "labels"] = "image"
) -> "torch.Tensor":
    """Resample slices, shape (N, C, H, W), to ``size``; the extent in millimetres is kept."""
    from torch.nn import functional

    if tuple(slices.shape[-2:]) == tuple(size):
        return slices
    if mode == "labels":
        kept = slices.dtype
        return functional.interpolate(slices.float(), size=size, mode="nearest-exact").to(kept)
    return functional.interpolate(
        slices, size=size, mode="bilinear", align_corners=False, antialias=True
    )


def resampled_shape(geometry: Geometry, settings: Preprocessing) -> tuple[int, int]:
    """In-plane shape of a scan's slices at the spacing of the settings."""
    axes = [axis for axis in range(3) if axis != PLANE_AXIS[settings.plane]]
    shape = [geometry.display_shape[axis] for axis in axes]
    spacing = [geometry.spacing[axis] for axis in axes]
    if settings.spacing == "keep":
        return shape[0], shape[1]
    target = min(spacing) if settings.spacing == "isotropic" else float(settings.spacing)
    height, width = (max(1, round(n * mm / target)) for n, mm in zip(shape, spacing, strict=True))
    return height, width


def canvas_size(shapes: Sequence[tuple[int, int]], settings: Preprocessing) -> tuple[int, int]:
    """Canvas for slices of these shapes: as set, else the largest, rounded up to 16."""
    if settings.size:
        return settings.size
    height, width = (max(sides) for sides in zip(*shapes, strict=True))
    return ceil(height / MULTIPLE) * MULTIPLE, ceil(width / MULTIPLE) * MULTIPLE


def placement(
    geometry: Geometry, settings: Preprocessing, canvas: tuple[int, int] | None = None
) -> Placement:
    """Placement of a scan on ``canvas``, or on the smallest canvas that holds all of it."""
    axes = [axis for axis in range(3) if axis != PLANE_AXIS[settings.plane]]
    pixels = (geometry.display_shape[axes[0]], geometry.display_shape[axes[1]])
    if settings.fit == "resize" and (canvas or settings.size):
        canvas = canvas or canvas_size([pixels], settings)
        return Placement(pixels, canvas, canvas)
    shape = resampled_shape(geometry, settings)
    if canvas is None:
        canvas = canvas_size([shape], settings.model_copy(update={"size": None}))
    return Placement(pixels, shape, canvas)


def normalize(volume: Volume, settings: Preprocessing) -> np.ndarray:
    """Normalised values, one channel per CT window.

    MR values are clipped to percentiles of the scan; HU are clipped to each window. Both are then
    scaled to z-scores over the scan, z-scores over each slice (and channel), or 0…1.

    Parameters
    ----------
    volume : Volume
        The scan.
    settings : Preprocessing
        Modality, windows, percentiles, normalisation, plane.

    Returns
    -------
    ndarray, shape (S, C, H, W), float32
        Slices along the plane at the scan's own pixels.

    Raises
    ------
    DataError
        If the scan is of another modality, or has the same value everywhere.
    """
    if volume.modality != settings.modality:
        raise DataError(
            f"{volume.name} looks like {volume.modality}, but {settings.modality} is needed here; "
            "keep MR and CT apart, or set --modality (in Python modality=) if the guess is wrong."
        )
    slices = np.moveaxis(volume.data, PLANE_AXIS[settings.plane], 0)
    lowest, highest = float(slices.min()), float(slices.max())
    if not np.isfinite(highest - lowest):
        raise DataError(f"{volume.name} holds values that are NaN or infinite; replace them.")
    if lowest == highest:
        raise DataError(
            f"{volume.name} has the same value in every voxel, so there is nothing to learn from; "
            "leave it out."
        )
    if settings.modality == "CT":
        bounds = [window.bounds for window in settings.windows]
    else:
        low, high = np.percentile(slices, settings.clip_percentiles)
        if low == high:  # Nearly all of the scan is empty, as in a tight skull strip.
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
    """Z-score in place, summing slice by slice so that no copy of the whole scan is made."""
    slices -= np.mean([values.mean(dtype=np.float64) for values in slices])
    deviation = np.sqrt(np.mean([np.square(v, dtype=np.float64).mean() for v in slices]))
    # What shows nothing stays at zero rather than blowing up its noise.
    if deviation > 1e-6:
        slices /= deviation


def prepare(volume: Volume, settings: Preprocessing, place: Placement) -> np.ndarray:
    """Normalise a scan and put its slices on the canvas; shape (S, C, *canvas), float32.

    Around the slices stands their lowest value, which is air.
    """
    import torch

    slices = torch.from_numpy(normalize(volume, settings))
    # Z-scores of one slice say nothing about another, so each slice has air of its own then.
    axes = (2, 3) if settings.normalize == "slice" else (0, 2, 3)
    return place.put(slices, slices.amin(dim=axes, keepdim=True)).numpy()


def prepare_labels(classes: np.ndarray, place: Placement) -> np.ndarray:
    """Put slices of class indices, shape (S, H, W), uint8, on the canvas: (S, *canvas), uint8."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(classes))[:, None]
    return place.put(tensor, 0, "labels")[:, 0].numpy()
