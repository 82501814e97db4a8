"""Masks over single pixels and over a grid of patches: an exact share of each image.

As in :mod:`~napari_sslseg.core.pretext.corruptions.patch_swap`, parameters are drawn first and
applied after. Values per pixel come from a seed among the parameters, on the device of the images:
the same seed gives the same values wherever it is used on one kind of device.
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
    """Seeds of N images: which pixels are replaced, and by what."""

    n: int
    places_seed: int
    noise_seed: int

    def __len__(self) -> int:
        return self.n


class PixelNoise:
    """Replace an exact share of the pixels of each image by noise: masked-pixel regression.

    After Umapathy et al. 2022: x̃ = (1 − M) ⊙ x + M ⊙ n with n ~ N(0, σ), σ = 0.01, and M a random
    mask over 10 % of the pixels. Exactly round(share · pixels) different pixels, or voxels of a
    volume, are replaced in each image, at the same places in all channels, each channel by noise
    of its own.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    share : float
        Share of the pixels that are replaced.
    sigma : float
        Standard deviation of the noise.

    Raises
    ------
    ConfigError
        If the share comes to no pixel at all, or to all.
    """

    def __init__(self, image_size: Size, share: float = 0.1, sigma: float = 0.01) -> None:
        self.image_size = as_size(image_size)
        total = prod(self.image_size)
        self.count = round(share * total)
        self.sigma = sigma
        if not 0 < self.count < total:
            raise ConfigError(
                f"A share of {share:g} of {format_size(self.image_size)} "
                f"{words_for(self.image_size).places} leaves none to restore or none to see; "
                "choose another share."
            )

    def sample(self, n: int, generator: torch.Generator) -> NoiseParameters:
        """Draw the seeds of ``n`` images from a generator on the CPU."""
        places, noise = torch.randint(2**31, (2,), generator=generator).tolist()
        return NoiseParameters(n, places, noise)

    def mask(self, parameters: NoiseParameters, device: torch.device = CPU) -> Tensor:
        """Say which pixels are replaced: bool, shape (N, 1, H, W) or (N, 1, D, H, W)."""
        n, total = len(parameters), prod(self.image_size)
        generator = torch.Generator(device=device).manual_seed(parameters.places_seed)
        drawn = torch.rand(n, total, generator=generator, device=device)
        chosen = drawn.topk(self.count, dim=1, sorted=False).indices
        replaced = torch.zeros(n, total, dtype=torch.bool, device=device)
        return replaced.scatter_(1, chosen, True).view(n, 1, *self.image_size)

    def apply(self, images: Tensor, parameters: NoiseParameters) -> Tensor:
        """Replace pixels of images (N, C, …), which stay as they are."""
        check_batch(images, self.image_size, len(parameters))
        return self.fill(images, self.mask(parameters, images.device), parameters)

    def fill(self, images: Tensor, mask: Tensor, parameters: NoiseParameters) -> Tensor:
        """Replace the pixels of a mask that is there already."""
        generator = torch.Generator(device=images.device).manual_seed(parameters.noise_seed)
        # In float32 for any images, since a device may draw others for another type.
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        return torch.where(mask, (noise * self.sigma).to(images.dtype), images)


@dataclass(frozen=True, eq=False)
class GridParameters:
    """Which patches are hidden in each of N images: bool, shape (N, *grid)."""

    hidden: Tensor

    def __len__(self) -> int:
        return len(self.hidden)


class GridMask:
    """Hide an exact share of the patches of a grid: masked image modelling.

    Patches are squares on slices and cubes in volumes. The grid starts at the first pixel. Where
    the patch side does not divide that of the image, the last patches are cut off by the border; a
    cut patch counts as any other. Exactly round(share · patches) are hidden in each image, in all
    channels.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    patch_size : int
        Side of the patches in pixels.
    share : float
        Share of the patches that are hidden.

    Raises
    ------
    ConfigError
        If no patch would be hidden or none left to see; the message names a size that does.
    """

    value = 0.0
    """What the hidden pixels become: the mean of z-scored images."""

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
            choice = f"a patch size of {largest} {places}" if largest else "another share"
            raise ConfigError(
                f"Patches of {patch_size} {places} on {describe_images(self.image_size)} cannot be "
                f"hidden to a share of {share:g}; choose {choice}."
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
        """Say which pixels are hidden: bool, shape (N, 1, H, W) or (N, 1, D, H, W)."""
        pixels = parameters.hidden.to(device)
        for axis, side in enumerate(self.image_size, start=1):
            pixels = pixels.repeat_interleave(self.patch_size, axis).narrow(axis, 0, side)
        return pixels[:, None].contiguous()

    def apply(self, images: Tensor, parameters: GridParameters) -> Tensor:
        """Hide patches of images (N, C, …), which stay as they are."""
        check_batch(images, self.image_size, len(parameters))
        return self.fill(images, self.mask(parameters, images.device), parameters)

    def fill(self, images: Tensor, mask: Tensor, parameters: GridParameters) -> Tensor:
        """Hide the pixels of a mask that is there already."""
        return images.masked_fill(mask, self.value)
