"""Where the pixels of a scan lie on the canvas that a network sees, and the way back.

A scan is cut into slices along a plane, or taken as a whole; it is resampled, and put on a canvas
whose sides are multiples of 16. :class:`Placement` remembers the way, so that what the network
says about a canvas returns to the pixels of the scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Literal

from napari_sslseg.core.common.errors import GeometryError
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing

if TYPE_CHECKING:
    import torch

MULTIPLE = 16
MOST_RESAMPLED = 2**31
"""Voxels of a resampled scan, 8 GiB a channel; scans that have more by themselves stay allowed."""


@dataclass(frozen=True)
class Placement:
    """Where the pixels of slices, or the voxels of a scan, lie on the canvas of the network.

    Parameters
    ----------
    pixels : tuple of int
        Shape of the slices of a scan, or of the whole scan.
    resampled : tuple of int
        Shape after resampling; it covers the same millimetres.
    canvas : tuple of int
        Shape that the network sees. What was resampled is centred on it: padded where it is
        smaller, cropped where it is larger.
    """

    pixels: tuple[int, ...]
    resampled: tuple[int, ...]
    canvas: tuple[int, ...]

    def put(
        self,
        images: "torch.Tensor",
        fill: "torch.Tensor | float" = 0.0,
        mode: Literal["image", "labels"] = "image",
    ) -> "torch.Tensor":
        """Resample slices or scans and put them on the canvas.

        Parameters
        ----------
        images : Tensor, shape (N, C, *pixels)
            Images are interpolated linearly with antialiasing, labels by nearest neighbour.
        fill : float or Tensor broadcastable to (N, C, 1, …)
            Value around them.

        Returns
        -------
        Tensor, shape (N, C, *canvas)
        """
        import torch

        images = resample(images, self.resampled, mode)
        fill = torch.as_tensor(fill, dtype=images.dtype)
        canvas = fill.expand(*images.shape[:2], *self.canvas).clone()
        inside, outside = self._overlap()
        keep = (slice(None), slice(None))
        canvas[keep + inside] = images[keep + outside]
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
        images = torch.full((*canvas.shape[:2], *self.resampled), fill, dtype=canvas.dtype)
        images = images.to(canvas.device)
        keep = (slice(None), slice(None))
        images[keep + outside] = canvas[keep + inside]
        return resample(images, self.pixels, "image")

    def _overlap(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Slices of the canvas, and of the resampled image, that show the same pixels."""
        inside, outside = [], []
        for small, large in zip(self.resampled, self.canvas, strict=True):
            length = min(small, large)
            start, skip = (large - length) // 2, (small - length) // 2
            inside.append(slice(start, start + length))
            outside.append(slice(skip, skip + length))
        return tuple(inside), tuple(outside)


def resample(
    images: "torch.Tensor", size: tuple[int, ...], mode: Literal["image", "labels"] = "image"
) -> "torch.Tensor":
    """Resample slices (N, C, H, W) or volumes (N, C, D, H, W); the extent in mm is kept."""
    from torch.nn import functional

    if tuple(images.shape[2:]) == tuple(size):
        return images
    if mode == "labels":
        kept = images.dtype
        return functional.interpolate(images.float(), size=size, mode="nearest-exact").to(kept)
    if images.ndim == 4:
        return functional.interpolate(
            images, size=size, mode="bilinear", align_corners=False, antialias=True
        )
    # PyTorch has no antialiasing in 3D, but linear filters can be applied one plane at a time.
    n, channels, depth = images.shape[:3]
    planes = resample(images.flatten(1, 2), size[1:], mode).unflatten(1, (channels, depth))
    columns = resample(planes.flatten(3), (size[0], size[1] * size[2]), mode)
    return columns.view(n, channels, *size)


def resampled_shape(
    geometry: Geometry, settings: Preprocessing | VolumePreprocessing
) -> tuple[int, ...]:
    """Shape of a scan's slices, or of the scan, at the spacing of the settings.

    Raises
    ------
    GeometryError
        If the spacing is so small that the scan would fill any memory.
    """
    axes = image_axes(settings)
    shape = [geometry.display_shape[axis] for axis in axes]
    spacing = [geometry.spacing[axis] for axis in axes]
    if settings.spacing == "keep":
        return tuple(shape)
    if isinstance(settings.spacing, tuple):
        targets: Sequence[float] = settings.spacing
    else:
        isotropic = settings.spacing == "isotropic"
        targets = [min(spacing) if isotropic else float(settings.spacing)] * len(axes)
    found = tuple(
        max(1, round(n * mm / target))
        for n, mm, target in zip(shape, spacing, targets, strict=True)
    )
    across = prod(geometry.display_shape) // prod(shape)
    if across * prod(found) > max(across * prod(shape), MOST_RESAMPLED):
        raise GeometryError(
            f"At a spacing of {settings.spacing} mm a scan would have {across * prod(found):,} "
            "voxels, more than any computer holds; take a larger spacing."
        )
    return found


def image_axes(settings: Preprocessing | VolumePreprocessing) -> list[int]:
    """Axes of the display grid that lie within an image of the network."""
    if isinstance(settings, VolumePreprocessing):
        return [0, 1, 2]
    return [axis for axis in range(3) if axis != PLANE_AXIS[settings.plane]]


def round_up_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Smallest canvas that holds an image of this shape: multiples of 16."""
    return tuple(ceil(side / MULTIPLE) * MULTIPLE for side in shape)


def canvas_size(shapes: Sequence[tuple[int, ...]], settings: Preprocessing) -> tuple[int, int]:
    """Canvas for slices of these shapes: as set, else the largest, rounded up to 16."""
    if settings.size:
        return settings.size
    height, width = round_up_shape([max(sides) for sides in zip(*shapes, strict=True)])
    return height, width


def placement(
    geometry: Geometry, settings: Preprocessing, canvas: tuple[int, int] | None = None
) -> Placement:
    """Placement of a scan's slices on ``canvas``, or on the smallest canvas that holds them."""
    axes = image_axes(settings)
    pixels = (geometry.display_shape[axes[0]], geometry.display_shape[axes[1]])
    if settings.fit == "resize" and (canvas or settings.size):
        canvas = canvas or canvas_size([pixels], settings)
        return Placement(pixels, canvas, canvas)
    shape = resampled_shape(geometry, settings)
    return Placement(pixels, shape, canvas or round_up_shape(shape))


def volume_placement(
    geometry: Geometry, settings: VolumePreprocessing, least: Sequence[int] = (1, 1, 1)
) -> Placement:
    """Placement of a whole scan: nothing is cropped, and no side is smaller than ``least``."""
    shape = resampled_shape(geometry, settings)
    canvas = round_up_shape([max(sides) for sides in zip(shape, least, strict=True)])
    return Placement(tuple(geometry.display_shape), shape, canvas)


def prediction_placement(geometry: Geometry, settings: Preprocessing) -> Placement:
    """Place a scan on the canvas of the training, or on a larger one where it needs more room.

    The canvas is that of the training since the share of empty margin changes what the
    normalisation layers see.
    """
    if settings.fit == "resize":
        return placement(geometry, settings, settings.size)
    tight = placement(geometry, settings)
    known = settings.size or tight.canvas
    canvas = max(tight.canvas[0], known[0]), max(tight.canvas[1], known[1])
    return placement(geometry, settings, canvas)
