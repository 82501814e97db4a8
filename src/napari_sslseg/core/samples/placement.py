"""Map pixels of a scan to the canvas of a network, and scores on the canvas back.

A scan is divided into slices along a plane, or used as a volume; it is resampled, and placed on a
canvas whose sides are multiples of 16. :class:`Placement` stores this mapping, so that scores of
the network can be mapped back to the pixels of the scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Literal

from napari_sslseg.core.common.errors import GeometryError
from napari_sslseg.core.common.sizes import in_plane_axes
from napari_sslseg.core.samples.planned_spacing import with_planned_spacing
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing

if TYPE_CHECKING:
    import torch

MULTIPLE = 16
MOST_RESAMPLED = 2**31
"""Largest number of voxels after resampling, 8 GiB per channel, unless the scan has more itself."""


@dataclass(frozen=True)
class Placement:
    """Mapping between the pixels of slices, or the voxels of a scan, and the canvas.

    Parameters
    ----------
    pixels : tuple of int
        Shape of the slices of a scan, or of the whole scan.
    resampled : tuple of int
        Shape after resampling, with the same extent in mm.
    canvas : tuple of int
        Shape of the input of the network. The resampled image is centred on it, and padded or
        cropped to its size.
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
        """Resample slices or scans and place them on the canvas.

        Parameters
        ----------
        images : Tensor, shape (N, C, *pixels)
            Images or labels.
        fill : float or Tensor broadcastable to (N, C, 1, …)
            Value of the padding.
        mode : {"image", "labels"}
            Images are interpolated linearly with antialiasing, labels by nearest neighbour.

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
        """Map scores on the canvas back to the pixels of the scan.

        Parameters
        ----------
        canvas : Tensor, shape (N, C, *canvas)
            Scores, interpolated linearly.
        fill : float
            Score of pixels outside the canvas (cropped slices).

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

    @property
    def inside(self) -> tuple[slice, ...]:
        """Index slices of the pixels of the canvas that are not padding."""
        return self._overlap()[0]

    def _overlap(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return index slices of the canvas and of the resampled image for the same pixels."""
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
    """Resample slices (N, C, H, W) or volumes (N, C, D, H, W); the extent in mm is unchanged."""
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
    # PyTorch has no antialiasing in 3D, but linear filters are separable: first planes, then depth.
    n, channels, depth = images.shape[:3]
    planes = resample(images.flatten(1, 2), size[1:], mode).unflatten(1, (channels, depth))
    columns = resample(planes.flatten(3), (size[0], size[1] * size[2]), mode)
    return columns.view(n, channels, *size)


def resampled_shape(
    geometry: Geometry, settings: Preprocessing | VolumePreprocessing
) -> tuple[int, ...]:
    """Return the shape of a scan's slices, or of the scan, at the spacing of the settings.

    Raises
    ------
    GeometryError
        If the spacing is so small that the scan would not fit into any memory.
    """
    axes = image_axes(settings)
    shape = [geometry.display_shape[axis] for axis in axes]
    spacing = [geometry.spacing[axis] for axis in axes]
    if isinstance(settings, Preprocessing):
        settings, _ = with_planned_spacing(settings, [geometry])
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
            "voxels, too many for the memory of any computer; use a larger spacing."
        )
    return found


def image_axes(settings: Preprocessing | VolumePreprocessing) -> list[int]:
    """Return the axes of the display grid within an image of the network."""
    if isinstance(settings, VolumePreprocessing):
        return [0, 1, 2]
    return in_plane_axes(settings.plane)


def round_up_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Round a shape up to multiples of 16, the smallest canvas for it."""
    return tuple(ceil(side / MULTIPLE) * MULTIPLE for side in shape)


def canvas_size(shapes: Sequence[tuple[int, ...]], settings: Preprocessing) -> tuple[int, int]:
    """Return the canvas of slices: as set, else their largest sides, rounded up to 16."""
    if settings.size:
        return settings.size
    height, width = round_up_shape([max(sides) for sides in zip(*shapes, strict=True)])
    return height, width


def placement(
    geometry: Geometry, settings: Preprocessing, canvas: tuple[int, int] | None = None
) -> Placement:
    """Place the slices of a scan on ``canvas``, or on the smallest canvas that contains them."""
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
    """Place a whole scan without cropping; no side of the canvas is smaller than ``least``."""
    shape = resampled_shape(geometry, settings)
    canvas = round_up_shape([max(sides) for sides in zip(shape, least, strict=True)])
    return Placement(tuple(geometry.display_shape), shape, canvas)


def prediction_placement(geometry: Geometry, settings: Preprocessing) -> Placement:
    """Place a scan on the canvas of the training, or on a larger one if it does not fit.

    The canvas of the training is used because the fraction of empty margin affects the statistics
    of normalisation layers.
    """
    if settings.fit == "resize":
        return placement(geometry, settings, settings.size)
    tight = placement(geometry, settings)
    known = settings.size or tight.canvas
    canvas = max(tight.canvas[0], known[0]), max(tight.canvas[1], known[1])
    return placement(geometry, settings, canvas)
