"""Random augmentation of labelled slices or volumes, applied to a batch on its device.

Parameters are sampled first. Geometry (translation, rotation, crop, elastic deformation) changes
images and labels in the same way; intensity (contrast, brightness, noise, gamma, blur) changes only
images. There is no left-right flip, since paired organs must keep their side. Volumes are rotated
only within axial slices, where pixels are nearly square, so the distance of slices does not matter.
"""

from dataclasses import dataclass, replace
from functools import cache
from math import log1p

import torch
from torch import Tensor
from torch.nn import functional

from napari_sslseg.core.common.sizes import Size, as_size
from napari_sslseg.core.segmentation.intensity import apply_blur, apply_gamma
from napari_sslseg.core.settings.augmentation import Augmentation

CONTROL_POINTS = 5


@dataclass(frozen=True, eq=False)
class AugmentationParameters:
    """Random parameters for a batch of N slices or volumes, on the CPU.

    Attributes
    ----------
    matrices : Tensor, shape (N, 2, 3) or (N, 3, 4)
        Affine map from output to input coordinates, in the order columns, rows (and slices).
        Rotation is defined for a square with the height of the slices.
    displacement : Tensor, shape (N, 2, P, P) or (N, 3, P, P, P)
        Displacement of a coarse grid of control points, as a fraction of half the image, in the
        order columns, rows (and slices).
    contrast, brightness : Tensor, shape (N,)
        Factor and offset, in standard deviations of the image.
    noise : Tensor, shape (N,)
        Standard deviation of the noise, in standard deviations of the image.
    noise_seed : int
        Seed of the noise, which is generated on the device.
    gamma : Tensor, shape (N,), or None
        Exponent of the gamma curve.
    blur : Tensor, shape (N,), or None
        Standard deviation of the blur, in pixels.
    """

    matrices: Tensor
    displacement: Tensor
    contrast: Tensor
    brightness: Tensor
    noise: Tensor
    noise_seed: int
    gamma: Tensor | None = None
    blur: Tensor | None = None


def sample_augmentation(
    n: int, settings: Augmentation, generator: torch.Generator, dimensions: int = 2
) -> AugmentationParameters:
    """Sample the parameters for ``n`` images; the generator state determines the result.

    Parameters
    ----------
    n : int
        Number of images.
    settings : Augmentation
        Strength of each change.
    generator : torch.Generator
        Source of randomness, on the CPU.
    dimensions : {2, 3}
        Number of spatial dimensions.
    """

    def uniform(bound: float, *shape: int) -> Tensor:
        return (torch.rand(n, *shape, generator=generator) * 2 - 1) * bound

    angle = torch.deg2rad(uniform(settings.rotation))
    # A scale below 1 samples a smaller part of the image (a crop), above 1 a larger one.
    scale = torch.exp(uniform(1.0) * -torch.log1p(torch.tensor(-settings.crop)))
    shift = uniform(2 * settings.translation, dimensions)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrices = torch.zeros(n, dimensions, dimensions + 1)
    matrices[:, 0, 0], matrices[:, 0, 1] = cos, -sin
    matrices[:, 1, 0], matrices[:, 1, 1] = sin, cos
    if dimensions == 3:
        matrices[:, 2, 2] = scale
    matrices[:, :, -1] = shift
    displacement = torch.randn(n, dimensions, *[CONTROL_POINTS] * dimensions, generator=generator)
    return AugmentationParameters(
        matrices=matrices,
        displacement=displacement * 2 * settings.elastic,
        contrast=1 + uniform(settings.intensity),
        brightness=uniform(settings.intensity),
        noise=torch.rand(n, generator=generator) * settings.noise,
        noise_seed=int(torch.randint(2**31, (), generator=generator)),
        gamma=torch.exp(uniform(log1p(settings.gamma))) if settings.gamma else None,
        blur=torch.rand(n, generator=generator) * settings.blur if settings.blur else None,
    )


def sampling_grid(parameters: AugmentationParameters, size: Size) -> Tensor:
    """Input coordinates of each output pixel, shape (N, *size, A), for ``grid_sample``.

    The grid is on the device of the parameters; for volumes this is slow on the CPU.
    """
    height, width = size[-2:]
    matrices = parameters.matrices.clone()
    device = matrices.device
    # Rotate in units of pixels, not of sides, so that oblong slices are not sheared.
    matrices[:, 0, 1] *= height / width
    matrices[:, 1, 0] *= width / height
    grid = parameters.displacement
    # Half precision, as in autocast, is too coarse for coordinates.
    with torch.autocast(device.type, enabled=False):
        for axis, side in enumerate(size, start=2):
            # PyTorch has no cubic interpolation in 3D, but it is separable by axis.
            weights = _cubic(side).to(device)
            grid = torch.tensordot(grid, weights, dims=([axis], [1])).movedim(-1, axis)
    column_shape = (*matrices.shape[:2], *[1] * len(size))
    positions = matrices[:, :, -1].reshape(column_shape)
    for axis, side in enumerate(size):
        # A sum instead of a matrix product, which CUDA may compute with reduced precision.
        centres = (2 * torch.arange(side, device=device) + 1) / side - 1
        column = matrices[:, :, len(size) - 1 - axis].reshape(column_shape)
        shape = [1] * (2 + len(size))
        shape[2 + axis] = side
        positions = positions + column * centres.view(shape)
    return grid.add_(positions).movedim(1, -1)


@cache
def _cubic(side: int) -> Tensor:
    """Weights of the control points at each pixel along a side: shape (side, P)."""
    points = torch.eye(CONTROL_POINTS)[None, None]
    spread = functional.interpolate(
        points, size=[side, CONTROL_POINTS], mode="bicubic", align_corners=True
    )
    return spread[0, 0]


def apply_augmentation(
    images: Tensor, labels: Tensor, parameters: AugmentationParameters
) -> tuple[Tensor, Tensor]:
    """Augment a batch.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Interpolated linearly; the border is replicated.
    labels : Tensor, shape (N, H, W) or (N, D, H, W), integer
        Interpolated by nearest neighbour; the border is replicated.

    Returns
    -------
    images, labels : Tensor
        New tensors on the device of ``images``.
    """
    device = images.device
    if images.ndim == 5:
        parameters = replace(
            parameters,
            matrices=parameters.matrices.to(device),
            displacement=parameters.displacement.to(device),
        )
    grid = sampling_grid(parameters, as_size(images.shape[2:])).to(device, images.dtype)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # Labels as floats are exact up to 2^24, far beyond any class index.
    classes = functional.grid_sample(
        labels[:, None].to(images.dtype),
        grid,
        mode="nearest",
        padding_mode="border",
        align_corners=False,
    )[:, 0].to(labels.dtype)

    def column(values: Tensor) -> Tensor:
        return values.to(device, images.dtype).view(-1, *[1] * (images.ndim - 1))

    if parameters.blur is not None:
        moved = apply_blur(moved, parameters.blur)
    if parameters.gamma is not None:
        moved = apply_gamma(moved, parameters.gamma)
    deviation, mean = torch.std_mean(moved.flatten(1), dim=1)
    deviation, mean = column(deviation), column(mean)
    contrast = column(parameters.contrast)
    offset = mean * (1 - contrast) + column(parameters.brightness) * deviation
    generator = torch.Generator(device=device).manual_seed(parameters.noise_seed)
    noise = torch.randn(moved.shape, generator=generator, device=device, dtype=moved.dtype)
    noise.mul_(column(parameters.noise) * deviation).add_(offset)
    return noise.addcmul_(moved, contrast), classes
