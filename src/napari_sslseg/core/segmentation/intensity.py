"""Changes of intensity and sharpness of the images of a batch, on their device."""

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

FLAT = 1e-6


def apply_gamma(images: Tensor, exponents: Tensor) -> Tensor:
    """Apply a gamma curve to each image and channel; its minimum and maximum do not change.

    ((x − min) / (max − min))^γ · (max − min) + min

    Parameters
    ----------
    images : Tensor, shape (N, C, …)
    exponents : Tensor, shape (N,)
        γ, above 0; 1 changes nothing.
    """
    axes = tuple(range(2, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    spread = high - low
    powers = exponents.to(images.device, images.dtype).view(-1, *[1] * (images.ndim - 1))
    scaled = ((images - low) / spread.clamp_min(FLAT)).clamp(0, 1)
    return scaled.pow(powers) * spread + low


def apply_blur(images: Tensor, deviations: Tensor) -> Tensor:
    """Blur each image with its own Gaussian along rows and columns; edges are replicated.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Volumes are blurred slice by slice.
    deviations : Tensor, shape (N,)
        Standard deviations in pixels, on the CPU; 0 changes nothing.
    """
    reach = ceil(3 * float(deviations.max()))
    height, width = images.shape[-2:]
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    wide = deviations.to(images.device, images.dtype).clamp_min(FLAT)[:, None]
    kernels = torch.exp(-0.5 * (places / wide) ** 2)
    kernels = kernels / kernels.sum(1, keepdim=True)
    # One convolution group for each image; its channels and slices are the batch.
    planes = images.reshape(len(images), -1, height, width).transpose(0, 1)
    for axis in (2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = 2 * reach + 1
        pad = [0, 0, reach, reach] if axis == 2 else [reach, reach, 0, 0]
        weight = kernels.view(len(images), *shape[1:])
        planes = functional.conv2d(
            functional.pad(planes, pad, mode="replicate"), weight, groups=len(images)
        )
    return planes.transpose(0, 1).reshape(images.shape)
