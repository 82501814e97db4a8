"""Masks of single pixels and of a grid of patches: an exact fraction of each image.

As in :mod:`~napari_sslseg.core.pretext.corruptions.patch_swap`, parameters are drawn first and
applied afterwards. Values per pixel are drawn on the device of the images from a seed in the
parameters: the same seed gives the same values on the same kind of device.
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.sizes import Size, as_size, describe_images, format_size, words_for
from napari_sslseg.core.pretext.corruptions.patch_swap import CPU, check_batch


@dataclass(frozen=True, eq=False)
class NoiseParameters:
    """Seeds of the positions and the values of the noise of N images."""

    n: int
    places_seed: int
    noise_seed: int

    def __len__(self) -> int:
        return self.n


class PixelNoise:
    """Replace an exact fraction of the pixels of each image by noise: masked-pixel regression.

    After Umapathy et al. 2022: x̃ = (1 − M) ⊙ x + M ⊙ n with n ~ N(0, σ), σ = 0.01, and M a random
    mask over 10 % of the pixels. Exactly round(share · pixels) different pixels, or voxels of a
    volume, are replaced in each image, at the same positions in all channels, with different noise
    in each channel.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    share : float
        Fraction of the pixels to replace.
    sigma : float
        Standard deviation of the noise.

    Raises
    ------
    ConfigError
        If the fraction is rounded to no pixel, or to all.
    """

    def __init__(self, image_size: Size, share: float = 0.1, sigma: float = 0.01) -> None:
        self.image_size = as_size(image_size)
        total = prod(self.image_size)
        self.count = round(share * total)
        self.sigma = sigma
        if not 0 < self.count < total:
            raise ConfigError(
                f"A fraction of {share:g} of {format_size(self.image_size)} "
                f"{words_for(self.image_size).places} leaves none to restore or none visible; "
                "choose another fraction."
            )

    def sample(self, n: int, generator: torch.Generator) -> NoiseParameters:
        """Draw the seeds of ``n`` images from a generator on the CPU."""
        places, noise = torch.randint(2**31, (2,), generator=generator).tolist()
        return NoiseParameters(n, places, noise)

    def mask(self, parameters: NoiseParameters, device: torch.device = CPU) -> Tensor:
        """Return the replaced pixels: bool, shape (N, 1, H, W) or (N, 1, D, H, W)."""
        n, total = len(parameters), prod(self.image_size)
        generator = torch.Generator(device=device).manual_seed(parameters.places_seed)
        drawn = torch.rand(n, total, generator=generator, device=device)
        chosen = drawn.topk(self.count, dim=1, sorted=False).indices
        replaced = torch.zeros(n, total, dtype=torch.bool, device=device)
        return replaced.scatter_(1, chosen, True).view(n, 1, *self.image_size)

    def apply(self, images: Tensor, parameters: NoiseParameters) -> Tensor:
        """Replace pixels of images (N, C, …), which are not changed."""
        check_batch(images, self.image_size, len(parameters))
        return self.fill(images, self.mask(parameters, images.device), parameters)

    def fill(self, images: Tensor, mask: Tensor, parameters: NoiseParameters) -> Tensor:
        """Replace the pixels of a given mask."""
        generator = torch.Generator(device=images.device).manual_seed(parameters.noise_seed)
        # In float32 for all images, because the values drawn may depend on the type.
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        return torch.where(mask, (noise * self.sigma).to(images.dtype), images)


@dataclass(frozen=True, eq=False)
class GridParameters:
    """Hidden patches of N images: bool, shape (N, *grid)."""

    hidden: Tensor

    def __len__(self) -> int:
        return len(self.hidden)


class GridMask:
    """Hide an exact fraction of the patches of a grid: masked image modelling.

    Patches are squares in slices and cubes in volumes. The grid starts at the first pixel. If the
    patch side does not divide that of the image, the border cuts off the last patches; a cut patch
    counts like any other. Exactly round(share · patches) are hidden in each image, in all channels.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    patch_size : int
        Side of the patches in pixels.
    share : float
        Fraction of the patches to hide.

    Raises
    ------
    ConfigError
        If no patch would be hidden or none would be visible; the message names a size that fits.
    """

    value = 0.0
    """Value of the hidden pixels: the mean of z-scored images."""

    def __init__(self, image_size: Size, patch_size: int = 32, share: float = 0.75) -> None:
        self.image_size = as_size(image_size)
        self.patch_size = patch_size
        self.grid = self._grid(patch_size)
        self.count = self._count(patch_size, share)
        if not 0 < self.count < prod(self.grid):
            fitting = (
                side
                for side in range(min(patch_size, *self.image_size), 0, -1)
                if 0 < self._count(side, share) < self._count(side, 1)
            )
            largest = next(fitting, 0)
            places = words_for(self.image_size).places
            choice = f"a patch size of {largest} {places}" if largest else "another fraction"
            raise ConfigError(
                f"A fraction of {share:g} of the patches of {patch_size} {places} on "
                f"{describe_images(self.image_size)} is none or all of them; choose {choice}."
            )

    def _grid(self, side: int) -> tuple[int, ...]:
        return tuple(-(-length // side) for length in self.image_size)

    def _count(self, side: int, share: float) -> int:
        return round(share * prod(self._grid(side)))

    def sample(self, n: int, generator: torch.Generator) -> GridParameters:
        """Draw the hidden patches of ``n`` images from a generator on the CPU."""
        patches = prod(self.grid)
        order = torch.rand(n, patches, generator=generator).argsort(dim=1)
        hidden = torch.zeros(n, patches, dtype=torch.bool)
        hidden.scatter_(1, order[:, : self.count], True)
        return GridParameters(hidden.view(n, *self.grid))

    def mask(self, parameters: GridParameters, device: torch.device = CPU) -> Tensor:
        """Return the hidden pixels: bool, shape (N, 1, H, W) or (N, 1, D, H, W)."""
        pixels = parameters.hidden.to(device)
        for axis, side in enumerate(self.image_size, start=1):
            pixels = pixels.repeat_interleave(self.patch_size, axis).narrow(axis, 0, side)
        return pixels[:, None].contiguous()

    def apply(self, images: Tensor, parameters: GridParameters) -> Tensor:
        """Hide patches of images (N, C, …), which are not changed."""
        check_batch(images, self.image_size, len(parameters))
        return self.fill(images, self.mask(parameters, images.device), parameters)

    def fill(self, images: Tensor, mask: Tensor, parameters: GridParameters) -> Tensor:
        """Hide the pixels of a given mask."""
        return images.masked_fill(mask, self.value)
