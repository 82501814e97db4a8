"""Swapping and erasing patches: corruptions of context restoration and context prediction.

Parameters are drawn first, as small tensors with a generator on the CPU, and applied afterwards to
a batch on any device. So the same seed corrupts the same pixels on all devices, and a preview shows
what the training does. Masks are precomputed once with NumPy from an integer seed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.sizes import Size, as_size
from napari_sslseg.core.pretext.corruptions.patch_placement import (
    check_patches,
    largest_patch,
    poisson_disc_patches,
    uniform_patches,
    uniform_swaps,
)
from napari_sslseg.core.pretext.corruptions.permute import (
    apply_symmetry,
    move_runs,
    patch_offsets,
    stack_tables,
    swap_blocks,
    symmetries,
)
from napari_sslseg.core.settings.pretext.context_patches import Sampling

__all__ = [
    "PatchErase",
    "PatchSwap",
    "Sampling",
    "SwapParameters",
    "largest_patch",
    "poisson_disc_patches",
    "uniform_patches",
]


CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class SwapParameters:
    """Parameters of the corruption of N images: small CPU tensors.

    Parameters
    ----------
    masks : Tensor, shape (N,), int64
        Precomputed mask of each image.
    symmetries : Tensor, shape (N,), int64
        Symmetry applied to the mask: one of four for slices, of eight for volumes.
    order : Tensor, shape (N, P), int64
        Order of the P patches of the mask; the first and second are swapped, the third and
        fourth, and so on. P is 0 for uniform sampling, whose masks contain the pairs.
    """

    masks: Tensor
    symmetries: Tensor
    order: Tensor

    def __len__(self) -> int:
        return len(self.masks)


class PatchSwap:
    """Swap pairs of patches (squares in slices, cubes in volumes) in each image.

    After Dominic et al. 2023, *Improving data-efficiency and robustness of medical imaging
    segmentation using inpainting-based self-supervised learning*, section 2.4: pairs of patches are
    swapped until at least a quarter of the area is corrupted, at the same positions in all
    channels. At each iteration an image gets one of 100 precomputed masks, rotated by 0, 90, 180 or
    270° counter-clockwise. A rectangular slice keeps its shape only under identity, half-turn and
    the two flips, so these are its symmetries. Masks of volumes have the symmetries of their axial
    slices, and half of them are also flipped along the slices.

    With ``"poisson-disc"``, patch centres lie at least K√2 apart, so no two patches overlap, and
    the pairs are drawn again each time. Cubes have centres at least K apart along at least one axis
    instead, because K√3 cannot reach a quarter of a volume (see
    :func:`~napari_sslseg.core.pretext.corruptions.patch_placement.poisson_disc_patches`). With
    ``"uniform"``, the two patches of a pair are disjoint but different pairs may overlap; they are
    swapped one after the other, in the order of the mask. In both cases the result is a permutation
    of the pixels of the image.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    patch_size : int
        Side K of the patches in pixels.
    sampling : {"poisson-disc", "uniform"}
        Placement of the patches.
    min_area : float
        Smallest fraction of the pixels to replace.
    n_masks : int
        Number of precomputed masks.
    seed : int
        Seed of the precomputed masks.

    Raises
    ------
    ConfigError
        If such patches do not fit; the message names the largest that do.

    Examples
    --------
    >>> swap = PatchSwap((128, 128), patch_size=16)
    >>> images = torch.rand(4, 1, 128, 128)
    >>> parameters = swap.sample(4, torch.Generator().manual_seed(0))
    >>> swap.apply(images, parameters).shape
    torch.Size([4, 1, 128, 128])
    """

    def __init__(
        self,
        image_size: Size,
        patch_size: int = 32,
        sampling: Sampling = "poisson-disc",
        min_area: float = 0.25,
        n_masks: int = 100,
        seed: int = 0,
    ) -> None:
        if n_masks < 1:
            raise ConfigError(f"The number of masks cannot be {n_masks}; choose at least 1.")
        self.image_size = as_size(image_size)
        check_patches(self.image_size, sampling, min_area, patch_size)
        self.patch_size = patch_size
        self.sampling = sampling
        self.n_masks = n_masks
        self._symmetries = symmetries(self.image_size)
        rng = np.random.default_rng(seed)
        arguments = (self.image_size, patch_size, min_area, rng)
        if sampling == "poisson-disc":
            corners = [poisson_disc_patches(*arguments) for _ in range(n_masks)]
            self._table = torch.from_numpy(np.stack(corners, axis=1))
            self.n_patches = self._table.shape[-1]
        else:
            self._table = self._uniform_table(uniform_swaps(*arguments) for _ in range(n_masks))
            self.n_patches = 0
        self._copies: dict[torch.device, Tensor] = {}

    def sample(self, n: int, generator: torch.Generator) -> SwapParameters:
        """Draw a mask, its symmetry and its pairs for each of ``n`` images.

        Parameters
        ----------
        n : int
            Number of images.
        generator : torch.Generator
            Generator on the CPU.
        """
        return SwapParameters(
            masks=torch.randint(self.n_masks, (n,), generator=generator),
            symmetries=torch.randint(self._symmetries.shape[1], (n,), generator=generator),
            order=torch.rand(n, self.n_patches, generator=generator).argsort(dim=1),
        )

    def apply(self, images: Tensor, parameters: SwapParameters) -> Tensor:
        """Corrupt a batch.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Images on any device; not changed.
        parameters : SwapParameters
            From :meth:`sample`, for N images.

        Returns
        -------
        Tensor, shape as ``images``
            On the device of ``images``.

        Raises
        ------
        ValueError
            If number or size of the images do not fit the parameters.
        """
        check_batch(images, self.image_size, len(parameters))
        if self.sampling == "poisson-disc" and images.device.type == "cpu":
            return swap_blocks(images, self._paired(parameters), self.patch_size)
        return _move_pixels(images, *self._moves(parameters, images.device))

    def mask(self, parameters: SwapParameters, device: torch.device = CPU) -> Tensor:
        """Return the replaced pixels: bool, shape (N, 1, H, W) or (N, 1, D, H, W)."""
        target = self._targets(parameters, device)
        replaced = torch.zeros(
            len(parameters), prod(self.image_size), dtype=torch.bool, device=device
        )
        return replaced.scatter_(1, target, True).view(-1, 1, *self.image_size)

    def _uniform_table(self, drawn: Iterable[tuple[np.ndarray, np.ndarray]]) -> Tensor:
        """Table of the masks from the corners and source pixels drawn by uniform sampling."""
        return move_runs((source for _, source in drawn), self.patch_size)

    def _corners(self, parameters: SwapParameters) -> Tensor:
        """Flat indices of the first pixels of the patches, shape (N, P), in order of the table."""
        symmetry = self._symmetries[:, parameters.symmetries, None]
        # After a rotation another corner of the patch may be the first one.
        shift = (self.patch_size - 1) * symmetry[1:].clamp(max=0).sum(dim=0)
        return apply_symmetry(symmetry, self._table[:, parameters.masks]) + shift

    def _paired(self, parameters: SwapParameters) -> Tensor:
        """Corners of disjoint patches in drawn order; successive pairs are swapped."""
        return self._corners(parameters).gather(1, parameters.order)

    def _moves(self, parameters: SwapParameters, device: torch.device) -> tuple[Tensor, Tensor]:
        """Flat indices of the replaced pixels and of their sources, each of shape (N, L).

        The other pixels, three quarters of the image, are not touched.
        """
        if self.sampling == "poisson-disc":
            corners = self._paired(parameters)
            partners = corners.unflatten(1, (-1, 2)).flip(2).flatten(1)
            return self._within(corners, device), self._within(partners, device)
        axes = len(self.image_size)
        target, source = (self._along(parameters, device, first) for first in (0, axes))
        return target, source

    def _targets(self, parameters: SwapParameters, device: torch.device) -> Tensor:
        """Flat indices of the replaced pixels, shape (N, L)."""
        if self.sampling == "poisson-disc":
            return self._within(self._corners(parameters), device)
        return self._along(parameters, device, 0)

    def _within(self, corners: Tensor, device: torch.device) -> Tensor:
        """Flat indices of all pixels of the patches with these corners."""
        within = patch_offsets(self.image_size, self.patch_size, device)
        return (corners.to(device)[:, :, None] + within).flatten(1)

    def _along(self, parameters: SwapParameters, device: torch.device, first: int) -> Tensor:
        """Flat indices of all pixels of the table's runs, whose coordinates start at ``first``."""
        if device not in self._copies:
            # Copied once, because it is large; all other tensors are small.
            self._copies[device] = self._table.to(device)
        masks = parameters.masks.to(device)
        symmetry = self._symmetries[:, parameters.symmetries, None].to(device)
        table = self._copies[device]
        starts = apply_symmetry(symmetry, table[first : first + len(self.image_size), masks])
        # Runs shorter than the patch side repeat their last pixel.
        last = table[-1, masks].long()[:, :, None] - 1
        step = torch.arange(self.patch_size, device=device).minimum(last)
        return (starts[:, :, None] + symmetry[-1][:, :, None] * step).flatten(1)


class PatchErase(PatchSwap):
    """Set the patches of the same masks to a value: context prediction.

    After Dominic et al. 2023: positions, symmetries and smallest area as in :class:`PatchSwap`, but
    the patches are erased. With ``"uniform"`` the patches may overlap and all of their pixels are
    erased, which are at least as many as :class:`PatchSwap` replaces.

    Examples
    --------
    >>> erase = PatchErase((128, 128), patch_size=16)
    >>> images = torch.rand(4, 1, 128, 128)
    >>> bool((erase.apply(images, erase.sample(4, torch.Generator())) == 0).any())
    True
    """

    value = 0.0
    """Value of the erased pixels: the mean of z-scored images."""

    def apply(self, images: Tensor, parameters: SwapParameters) -> Tensor:
        """Erase patches of images (N, C, …), which are not changed."""
        check_batch(images, self.image_size, len(parameters))
        return images.masked_fill(self.mask(parameters, images.device), self.value)

    def _uniform_table(self, drawn: Iterable[tuple[np.ndarray, np.ndarray]]) -> Tensor:
        """Table of the corners of the patches of each mask; erasing needs no sources."""
        return stack_tables([corners for corners, _ in drawn])

    def _targets(self, parameters: SwapParameters, device: torch.device) -> Tensor:
        return self._within(self._corners(parameters), device)


def check_batch(images: Tensor, size: Size, n: int) -> None:
    """Raise a ValueError unless there are ``n`` images of that size, in (N, C, …)."""
    if images.ndim != len(size) + 2 or images.shape[2:] != size:
        raise ValueError(f"images must be (N, C, {size}), not {images.shape}")
    if len(images) != n:
        raise ValueError(f"parameters of {n} images do not fit {len(images)} images")


def _move_pixels(images: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Replace pixels ``target`` by pixels ``source`` of the same image, in all channels."""
    target, source = (index[:, None].expand(-1, images.shape[1], -1) for index in (target, source))
    pixels = images.flatten(2)
    return pixels.scatter(2, target, pixels.gather(2, source)).view(images.shape)
