"""Image corruptions for pretext tasks: each draws its parameters first and applies them after.

Drawing needs a CPU generator and gives small tensors; applying is exact, batched, and runs where
the images are. So the same seed corrupts the same pixels on every device, and a preview shows what
training does. Precomputed masks are made once, with NumPy, from an integer seed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_sslseg.core.errors import ConfigError
from napari_sslseg.core.patches import (
    Sampling,
    Size,
    check_patches,
    largest_patch,
    poisson_disc_patches,
    uniform_patches,
    uniform_swaps,
)

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
    """What happens to each of N images: small CPU tensors.

    Parameters
    ----------
    masks : Tensor, shape (N,), int64
        Precomputed mask of each image.
    symmetries : Tensor, shape (N,), int64
        Which of the four symmetries turns the mask.
    order : Tensor, shape (N, P), int64
        Order of the mask's P patches; first and second change places, third and fourth, and so
        on. P is 0 for uniform sampling, where the pairs belong to the mask.
    """

    masks: Tensor
    symmetries: Tensor
    order: Tensor

    def __len__(self) -> int:
        return len(self.masks)


class PatchSwap:
    """Swap pairs of square patches within each image: context restoration.

    After Dominic et al. 2023, *Improving data-efficiency and robustness of medical imaging
    segmentation using inpainting-based self-supervised learning*, section 2.4: pairs of patches
    change places until at least a quarter of the area is corrupted, at the same places in all
    channels. Each image draws one of 100 precomputed masks, turned by 0, 90, 180 or 270°
    counter-clockwise, at each iteration. A rectangular slice keeps its shape only under identity,
    half-turn and the two flips, so those four are its symmetries.

    With ``"poisson-disc"``, patch centres lie at least K√2 apart, so no two patches overlap, and
    the pairs are drawn anew each time. With ``"uniform"``, the two patches of a pair are disjoint
    but different pairs may overlap; swaps are done one after the other, in the mask's order. In
    both, the result is a permutation of the image's pixels.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels.
    patch_size : int
        Side K of the patches in pixels.
    sampling : {"poisson-disc", "uniform"}
        How patches are placed.
    min_area : float
        Least share of the pixels that are replaced.
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
        self.image_size: Size = (int(image_size[0]), int(image_size[1]))
        check_patches(self.image_size, sampling, min_area, patch_size)
        self.patch_size = patch_size
        self.sampling = sampling
        self.n_masks = n_masks
        self._affine = _symmetries(self.image_size)
        rng = np.random.default_rng(seed)
        arguments = (self.image_size, patch_size, min_area, rng)
        if sampling == "poisson-disc":
            corners = [poisson_disc_patches(*arguments) for _ in range(n_masks)]
            self._table = torch.from_numpy(np.stack(corners, axis=1))
            self.n_patches = self._table.shape[-1]
        else:
            self._table = self._uniform_table([uniform_swaps(*arguments) for _ in range(n_masks)])
            self.n_patches = 0
        self._copies: dict[torch.device, Tensor] = {}

    def sample(self, n: int, generator: torch.Generator) -> SwapParameters:
        """Draw a mask, its symmetry and its pairs for each of ``n`` images.

        Parameters
        ----------
        n : int
            Number of images.
        generator : torch.Generator
            On the CPU.
        """
        return SwapParameters(
            masks=torch.randint(self.n_masks, (n,), generator=generator),
            symmetries=torch.randint(self._affine.shape[1], (n,), generator=generator),
            order=torch.rand(n, self.n_patches, generator=generator).argsort(dim=1),
        )

    def apply(self, images: Tensor, parameters: SwapParameters) -> Tensor:
        """Corrupt a batch.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
            On any device; left as they are.
        parameters : SwapParameters
            From :meth:`sample`, for N images.

        Returns
        -------
        Tensor, shape (N, C, H, W)
            On the device of ``images``.

        Raises
        ------
        ValueError
            If images are of another number or size than the parameters.
        """
        check_batch(images, self.image_size, len(parameters))
        if self.sampling == "poisson-disc" and images.device.type == "cpu":
            return _swap_blocks(images, self._corners(parameters), self.patch_size)
        return _move_pixels(images, *self._moves(parameters, images.device))

    def mask(self, parameters: SwapParameters, device: torch.device = CPU) -> Tensor:
        """Say which pixels are replaced: bool, shape (N, 1, H, W)."""
        target = self._targets(parameters, device)
        height, width = self.image_size
        replaced = torch.zeros(len(parameters), height * width, dtype=torch.bool, device=device)
        return replaced.scatter_(1, target, True).view(-1, 1, height, width)

    def _uniform_table(self, drawn: list[tuple[np.ndarray, np.ndarray]]) -> Tensor:
        """Table of the masks, from the corners and sources of each that uniform sampling drew."""
        return _moves_table([source for _, source in drawn])

    def _corners(self, parameters: SwapParameters) -> Tensor:
        """Flat indices of top-left pixels, shape (N, P): each pair of neighbours is swapped."""
        origin, row, column = self._steps(parameters)
        tops, lefts = self._table[:, parameters.masks].unbind()
        # Turning may make another corner of the patch the top-left one.
        shift = (self.patch_size - 1) * (row.clamp(max=0) + column.clamp(max=0))
        return (origin + row * tops + column * lefts + shift).gather(1, parameters.order)

    def _moves(self, parameters: SwapParameters, device: torch.device) -> tuple[Tensor, Tensor]:
        """Flat indices of the replaced pixels and of the pixels they get, each of shape (N, L).

        Only these are touched, not the whole image: three quarters of it stay as they are.
        """
        if self.sampling == "poisson-disc":
            corners = self._corners(parameters)
            partners = corners.unflatten(1, (-1, 2)).flip(2).flatten(1)
            return self._within(corners, device), self._within(partners, device)
        return self._turned(parameters, device, 0), self._turned(parameters, device, 2)

    def _targets(self, parameters: SwapParameters, device: torch.device) -> Tensor:
        """Flat indices of the replaced pixels alone, shape (N, L)."""
        if self.sampling == "poisson-disc":
            return self._within(self._corners(parameters), device)
        return self._turned(parameters, device, 0)

    def _within(self, corners: Tensor, device: torch.device) -> Tensor:
        """Flat indices of all pixels of the patches with these corners."""
        side = torch.arange(self.patch_size, device=device)
        within = (side[:, None] * self.image_size[1] + side).flatten()
        return (corners.to(device)[:, :, None] + within).flatten(1)

    def _turned(self, parameters: SwapParameters, device: torch.device, rows: int) -> Tensor:
        """Flat indices of the table's pixels, whose rows and columns start at ``rows``."""
        if device not in self._copies:
            # Large, so it is copied once; all other tensors are small and drawn on the CPU.
            self._copies[device] = self._table.to(device)
        table = self._copies[device][rows : rows + 2, parameters.masks.to(device)]
        origin, row, column = (step.to(device) for step in self._steps(parameters))
        return origin + row * table[0] + column * table[1]

    def _steps(self, parameters: SwapParameters) -> tuple[Tensor, Tensor, Tensor]:
        """Each image's symmetry: pixel (y, x) goes to ``origin + row * y + column * x``."""
        origin, row, column = self._affine[:, parameters.symmetries, None].unbind()
        return origin, row, column


class PatchErase(PatchSwap):
    """Set the patches of the same masks to a value: context prediction.

    After Dominic et al. 2023: as :class:`PatchSwap` in places, symmetries and least area, but the
    K × K patches are erased. With ``"uniform"`` the patches may overlap, and all of their pixels
    are erased, so that at least as many are as :class:`PatchSwap` replaces.

    Examples
    --------
    >>> erase = PatchErase((128, 128), patch_size=16)
    >>> images = torch.rand(4, 1, 128, 128)
    >>> bool((erase.apply(images, erase.sample(4, torch.Generator())) == 0).any())
    True
    """

    value = 0.0
    """What the erased pixels become: the mean of z-scored images."""

    def apply(self, images: Tensor, parameters: SwapParameters) -> Tensor:
        """Erase patches of images (N, C, H, W), which stay as they are."""
        check_batch(images, self.image_size, len(parameters))
        return images.masked_fill(self.mask(parameters, images.device), self.value)

    def _uniform_table(self, drawn: list[tuple[np.ndarray, np.ndarray]]) -> Tensor:
        sources = []
        for corners, _ in drawn:
            # A pixel's own index marks one that stays; nothing is moved, so only places are kept.
            source = np.arange(self.image_size[0] * self.image_size[1]).reshape(self.image_size)
            for row, column in corners.T.tolist():
                source[row : row + self.patch_size, column : column + self.patch_size] = -1
            sources.append(source)
        return _moves_table(sources)[:2]


def check_batch(images: Tensor, size: Size, n: int) -> None:
    """Raise a ValueError unless there are ``n`` images of that size, in (N, C, H, W)."""
    if images.ndim != 4 or images.shape[-2:] != size:
        raise ValueError(f"images must be (N, C, {size}), not {images.shape}")
    if len(images) != n:
        raise ValueError(f"{n} parameters cannot corrupt {len(images)} images")


def _move_pixels(images: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Replace pixels ``target`` by pixels ``source`` of the same image, in all channels."""
    target, source = (index[:, None].expand(-1, images.shape[1], -1) for index in (target, source))
    pixels = images.flatten(2)
    return pixels.scatter(2, target, pixels.gather(2, source)).view(images.shape)


def _swap_blocks(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Swap disjoint patches whole, three times as fast on the CPU as moving their pixels.

    It views the images as all their overlapping patches. That costs nothing on the CPU, but other
    devices, and CUDA in deterministic mode, may write the view out.
    """
    images = images.contiguous()
    n, channels, height, width = images.shape
    planes = torch.arange(n * channels).view(n, channels, 1) * (height * width)
    pairs = (planes + corners[:, None]).view(-1, 2)
    view = (images.numel() - (side - 1) * (width + 1), side, side), (1, width, 1)
    out = images.clone()
    moved = images.as_strided(*view).index_select(0, pairs.flip(1).flatten())
    out.as_strided(*view).index_copy_(0, pairs.flatten(), moved)
    return out


def _moves_table(sources: list[np.ndarray]) -> Tensor:
    """Rows and columns that pixels move to and from: int16, shape (4, masks, L).

    Masks with fewer moves repeat their first one, which changes nothing.
    """
    width = sources[0].shape[1]
    targets = [np.flatnonzero(source.flat != np.arange(source.size)) for source in sources]
    longest = max(map(len, targets))
    table = np.empty((4, len(sources), longest), dtype=np.int16)
    for i, (target, source) in enumerate(zip(targets, sources, strict=True)):
        target = np.pad(target, (0, longest - len(target)), constant_values=target[0])
        table[0, i], table[1, i] = np.divmod(target, width)
        table[2, i], table[3, i] = np.divmod(source.flat[target], width)
    return torch.from_numpy(table)


def _symmetries(size: Size) -> Tensor:
    """Four symmetries of the pixel grid, as affine maps to flat indices: shape (3, 4).

    Pixel (y, x) goes to ``origin + row * y + column * x``, with the three in this order.
    """
    grid = torch.arange(size[0] * size[1]).view(size)
    if size[0] == size[1]:
        # Where a turn takes each pixel to is what the inverse turn of the indices shows there.
        turned = [grid.rot90(-k) for k in range(4)]
    else:
        turned = [grid, grid.rot90(2), grid.flip(0), grid.flip(1)]
    origin = torch.stack([t[0, 0] for t in turned])
    below = torch.stack([t[1 % size[0], 0] for t in turned])
    right = torch.stack([t[0, 1 % size[1]] for t in turned])
    return torch.stack([origin, below - origin, right - origin])
