"""Random boxes in images and the pixels that they cover, without a loop over boxes or pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_sslseg.core.common.sizes import Size

MOST_BOXES = 62
"""Largest number of boxes: bits of an int64 without its sign."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """B boxes in each of N images of A axes: small CPU tensors.

    Parameters
    ----------
    corners : Tensor, shape (N, B, A), int64
        First pixel of each box along each axis.
    sides : Tensor, shape (N, B, A), int64
        Length of each box along each axis; a box of length 0 covers nothing.
    """

    corners: Tensor
    sides: Tensor

    def __len__(self) -> int:
        return len(self.corners)

    def covering(self, size: Size, device: torch.device) -> Tensor:
        """Return which boxes cover each pixel: int64, shape (N, *size), bit b for box b.

        A box covers a pixel if it covers its row and its column (and its slice), so a bitwise AND
        over the axes gives the result for all boxes at once.
        """
        axes = len(size)
        covering = self._bits(axes - 1, size[-1], device)
        for axis in reversed(range(axes - 1)):
            bits = self._bits(axis, size[axis], device)
            covering = bits.unflatten(1, (-1, *[1] * (axes - 1 - axis))) & covering[:, None]
        return covering

    def _bits(self, axis: int, length: int, device: torch.device) -> Tensor:
        """Boxes that cover each position along an axis: int64, shape (N, length)."""
        start = self.corners[:, :, axis, None].to(device)
        end = start + self.sides[:, :, axis, None].to(device)
        along = torch.arange(length, device=device)
        reached = (start <= along) & (along < end)
        bits = 1 << torch.arange(reached.shape[1], device=device)
        return (reached * bits[:, None]).sum(dim=1)

    def followed_by(self, others: "Boxes") -> "Boxes":
        """Return these boxes followed by the others of each image."""
        return Boxes(
            torch.cat([self.corners, others.corners], 1), torch.cat([self.sides, others.sides], 1)
        )


def draw_boxes(
    counts: Tensor,
    most: int,
    size: Size,
    sides: Sequence[tuple[int, int]],
    generator: torch.Generator,
) -> Boxes:
    """Draw boxes of random sides at random positions within the image.

    Parameters
    ----------
    counts : Tensor, shape (N,), int64
        Number of boxes of each image.
    most : int
        Number of boxes in the result; those beyond the count cover nothing.
    size : tuple of int
        Sides of the images.
    sides : sequence of pair of int
        Smallest and largest length along each axis, inclusive.
    generator : torch.Generator
        Generator on the CPU.
    """
    if most > MOST_BOXES:
        raise ValueError(f"there can be at most {MOST_BOXES} boxes, not {most}")
    n = len(counts)
    drawn = torch.rand(2, n, most, len(size), generator=generator)
    low, high = torch.tensor(list(sides)).unbind(dim=1)
    extent = low + (drawn[0] * (high - low + 1)).long()
    corners = (drawn[1] * (torch.tensor(size) - extent + 1)).long()
    unused = torch.arange(most) >= counts[:, None]
    return Boxes(corners, extent.masked_fill(unused[:, :, None], 0))


def topmost(covering: Tensor) -> Tensor:
    """Return the first box that covers each pixel, or −1: int64, shape as ``covering``."""
    # The lowest bit is a power of two, exact in floating point, and its logarithm rounds correctly.
    lowest = covering & -covering
    return lowest.clamp(min=1).float().log2().round().long().where(covering != 0, -1)
