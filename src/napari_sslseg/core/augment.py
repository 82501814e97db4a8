"""Random changes of labelled slices: sampled first, then applied, as a batch on the device.

Geometry (translation, rotation, crop, elastic deformation) moves images and labels alike;
intensity (contrast, brightness, noise) changes images alone. Left and right are never swapped:
organs that differ by side must keep their side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_sslseg.core.config import Augmentation

CONTROL_POINTS = 5


@dataclass(frozen=True, eq=False)
class AugmentationParameters:
    """One draw for a batch of N slices, on the CPU.

    Attributes
    ----------
    matrices : Tensor, shape (N, 2, 3)
        Affine map from output to input, in the pixel units of a square with the slice's height.
    displacement : Tensor, shape (N, 2, P, P)
        Displacement of a coarse grid of control points, in shares of the slice.
    contrast, brightness : Tensor, shape (N,)
        Factor and offset, in standard deviations of the slice.
    noise : Tensor, shape (N,)
        Standard deviation of the noise, in standard deviations of the slice.
    noise_seed : int
        Seed of the noise itself, which is drawn on the device.
    """

    matrices: Tensor
    displacement: Tensor
    contrast: Tensor
    brightness: Tensor
    noise: Tensor
    noise_seed: int


def sample_augmentation(
    n: int, settings: Augmentation, generator: torch.Generator
) -> AugmentationParameters:
    """Draw the changes of ``n`` slices; the same generator state gives the same draw."""

    def uniform(bound: float, *shape: int) -> Tensor:
        return (torch.rand(n, *shape, generator=generator) * 2 - 1) * bound

    angle = torch.deg2rad(uniform(settings.rotation))
    # Scale below 1 looks at a smaller part of the slice (a crop), above 1 at a larger one.
    scale = torch.exp(uniform(1.0) * -torch.log1p(torch.tensor(-settings.crop)))
    shift = uniform(2 * settings.translation, 2)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrices = torch.stack(
        [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1
    )
    displacement = torch.randn(n, 2, CONTROL_POINTS, CONTROL_POINTS, generator=generator)
    return AugmentationParameters(
        matrices=matrices,
        displacement=displacement * 2 * settings.elastic,
        contrast=1 + uniform(settings.intensity),
        brightness=uniform(settings.intensity),
        noise=torch.rand(n, generator=generator) * settings.noise,
        noise_seed=int(torch.randint(2**31, (), generator=generator)),
    )


def sampling_grid(parameters: AugmentationParameters, size: tuple[int, int]) -> Tensor:
    """Where each output pixel looks in the input, shape (N, H, W, 2), for ``grid_sample``."""
    height, width = size
    aspect = width / height
    # Turn in units of pixels, not of sides, so that a rotation does not shear an oblong slice.
    stretch = torch.tensor([[1.0, 1 / aspect, 1.0], [aspect, 1.0, 1.0]])
    matrices = parameters.matrices * stretch
    # In half precision, as autocast would have it, places would be wrong by pixels.
    with torch.autocast(matrices.device.type, enabled=False):
        grid = functional.affine_grid(
            matrices, [len(matrices), 1, height, width], align_corners=False
        )
    smooth = functional.interpolate(
        parameters.displacement, size=size, mode="bicubic", align_corners=True
    )
    return grid + smooth.movedim(1, -1)


def apply_augmentation(
    images: Tensor, labels: Tensor, parameters: AugmentationParameters
) -> tuple[Tensor, Tensor]:
    """Change a batch.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W)
        Interpolated linearly; at the border the edge goes on.
    labels : Tensor, shape (N, H, W), integer
        By nearest neighbour; at the border the edge goes on, as in the images.

    Returns
    -------
    images, labels : Tensor
        New tensors on the device of ``images``.
    """
    device = images.device
    size = (images.shape[-2], images.shape[-1])
    grid = sampling_grid(parameters, size).to(device, images.dtype)
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
        return values.to(device, images.dtype)[:, None, None, None]

    deviation, mean = torch.std_mean(moved, dim=(1, 2, 3), keepdim=True)
    moved = (moved - mean) * column(parameters.contrast) + mean
    moved = moved + column(parameters.brightness) * deviation
    generator = torch.Generator(device=device).manual_seed(parameters.noise_seed)
    noise = torch.randn(moved.shape, generator=generator, device=device, dtype=moved.dtype)
    return moved + noise * column(parameters.noise) * deviation, classes
