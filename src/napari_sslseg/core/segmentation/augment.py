"""Random changes of labelled slices or volumes: sampled first, applied as a batch on the device.

Geometry (translation, rotation, crop, elastic deformation) moves images and labels alike;
intensity (contrast, brightness, noise, grey-value curve, blur) changes images alone. Left and right
are never swapped: organs that differ by side must keep their side. Volumes turn in their axial
slices alone, where pixels are as good as square; so nobody needs to know how far apart slices lie.
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
    """One draw for a batch of N slices or volumes, on the CPU.

    Attributes
    ----------
    matrices : Tensor, shape (N, 2, 3) or (N, 3, 4)
        Affine map from output to input, along columns, rows (and slices). It turns in the pixel
        units of a square with the height of the slices.
    displacement : Tensor, shape (N, 2, P, P) or (N, 3, P, P, P)
        Displacement of a coarse grid of control points, in shares of half the image, along
        columns, rows (and slices).
    contrast, brightness : Tensor, shape (N,)
        Factor and offset, in standard deviations of the image.
    noise : Tensor, shape (N,)
        Standard deviation of the noise, in standard deviations of the image.
    noise_seed : int
        Seed of the noise itself, which is drawn on the device.
    gamma : Tensor, shape (N,), or None
        Exponent of the grey-value curve.
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
    """Draw the changes of ``n`` images; the same generator state gives the same draw.

    Parameters
    ----------
    n : int
        Number of images.
    settings : Augmentation
        How much of each change.
    generator : torch.Generator
        On the CPU.
    dimensions : {2, 3}
        Of the images.
    """

    def uniform(bound: float, *shape: int) -> Tensor:
        return (torch.rand(n, *shape, generator=generator) * 2 - 1) * bound

    angle = torch.deg2rad(uniform(settings.rotation))
    # Scale below 1 looks at a smaller part of the image (a crop), above 1 at a larger one.
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
    """Where each output pixel looks in the input, shape (N, *size, A), for ``grid_sample``.

    On the device of the parameters: a large one of volumes on the CPU is slow.
    """
    height, width = size[-2:]
    matrices = parameters.matrices.clone()
    device = matrices.device
    # Turn in units of pixels, not of sides, so that a rotation does not shear an oblong slice.
    matrices[:, 0, 1] *= height / width
    matrices[:, 1, 0] *= width / height
    grid = parameters.displacement
    # In half precision, as autocast would have it, places would be wrong.
    with torch.autocast(device.type, enabled=False):
        for axis, side in enumerate(size, start=2):
            # No interpolation of three axes is cubic, but cubic ones can go axis by axis.
            weights = _cubic(side).to(device)
            grid = torch.tensordot(grid, weights, dims=([axis], [1])).movedim(-1, axis)
    lone = (*matrices.shape[:2], *[1] * len(size))
    places = matrices[:, :, -1].reshape(lone)
    for axis, side in enumerate(size):
        # Sums and no matrix product, in which CUDA may round: here a shift of parts of a pixel.
        centres = (2 * torch.arange(side, device=device) + 1) / side - 1
        column = matrices[:, :, len(size) - 1 - axis].reshape(lone)
        shape = [1] * (2 + len(size))
        shape[2 + axis] = side
        places = places + column * centres.view(shape)
    return grid.add_(places).movedim(1, -1)


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
    """Change a batch.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Interpolated linearly; at the border the edge goes on.
    labels : Tensor, shape (N, H, W) or (N, D, H, W), integer
        By nearest neighbour; at the border the edge goes on, as in the images.

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
