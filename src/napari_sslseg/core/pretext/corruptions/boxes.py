"""Random boxes in images, and which pixels they cover, without a loop over boxes or pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_sslseg.core.common.sizes import Size

MOST_BOXES = 62
"""One bit of an int64 each, without the sign."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """B boxes in each of N images of A axes: small CPU tensors.

    Parameters
    ----------
    corners : Tensor, shape (N, B, A), int64
        Along each axis, the first pixels.
    sides : Tensor, shape (N, B, A), int64
        Along each axis, the lengths; a box of length 0 covers nothing.
    """

    corners: Tensor
    sides: Tensor

    def __len__(self) -> int:
        return len(self.corners)

    def covering(self, size: Size, device: torch.device) -> Tensor:
        """Say which boxes cover each pixel: int64, shape (N, *size), bit b for box b.

        A box covers a pixel if it covers its row and its column (and its slice), so one AND of the
        bits of each axis says it for all boxes at once.
        """
        axes = len(size)
        covering = self._bits(axes - 1, size[-1], device)
        for axis in reversed(range(axes - 1)):
            bits = self._bits(axis, size[axis], device)
            covering = bits.unflatten(1, (-1, *[1] * (axes - 1 - axis))) & covering[:, None]
        return covering

    def _bits(self, axis: int, length: int, device: torch.device) -> Tensor:
        """Boxes that reach over each place along an axis: int64, shape (N, length)."""
        start = self.corners[:, :, axis, None].to(device)
        end = start + self.sides[:, :, axis, None].to(device)
        along = torch.arange(length, device=device)
        reached = (start <= along) & (along < end)
        bits = 1 << torch.arange(reached.shape[1], device=device)
        return (reached * bits[:, None]).sum(dim=1)

    def followed_by(self, others: "Boxes") -> "Boxes":
        """These boxes and, after them, the others of each image."""
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
    """Draw boxes of random sides at random places within the image.

    Parameters
    ----------
    counts : Tensor, shape (N,), int64
        Number of boxes of each image.
    most : int
        Boxes that the result has room for; those beyond the count cover nothing.
    size : tuple of int
        Sides of the images.
    sides : sequence of pair of int
        Along each axis, smallest and largest length, all of them possible.
    generator : torch.Generator
        On the CPU.
    """
    if most > MOST_BOXES:
        raise ValueError(f"at most {MOST_BOXES} boxes can be told apart, not {most}")
    n = len(counts)
    drawn = torch.rand(2, n, most, len(size), generator=generator)
    low, high = torch.tensor(list(sides)).unbind(dim=1)
    extent = low + (drawn[0] * (high - low + 1)).long()
    corners = (drawn[1] * (torch.tensor(size) - extent + 1)).long()
    unused = torch.arange(most) >= counts[:, None]
    return Boxes(corners, extent.masked_fill(unused[:, :, None], 0))


def topmost(covering: Tensor) -> Tensor:
    """First box that covers each pixel, −1 where none does: int64, shape as ``covering``."""
    # The lowest bit alone is a power of two, which floats hold and whose logarithm rounds right.
    lowest = covering & -covering
    return lowest.clamp(min=1).float().log2().round().long().where(covering != 0, -1)
