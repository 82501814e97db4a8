"""Permutations of the pixels of an image by swapped patches, in any number of dimensions.

Pixels are given by flat indices. A symmetry of the image is an affine map from the coordinates of a
pixel to the flat index of its new position: ``origin + Σ step[a] · coordinate[a]``.
"""

from collections.abc import Iterable
from math import prod

import numpy as np
import torch
from torch import Tensor

from napari_sslseg.core.common.sizes import Size


def symmetries(size: Size) -> Tensor:
    """Affine maps of the symmetries of masks: origin and steps, shape (1 + A, S).

    Slices have four: quarter turns of a square slice, otherwise identity, half-turn and the two
    flips. Volumes have those of their axial slices, each also with the order of the slices
    reversed.
    """
    grid = torch.arange(prod(size)).view(size)
    rows, columns = len(size) - 2, len(size) - 1
    if size[rows] == size[columns]:
        # The new position of each pixel is given by the inverse rotation of the indices.
        turned = [grid.rot90(-k, (rows, columns)) for k in range(4)]
    else:
        turned = [grid, grid.rot90(2, (rows, columns)), grid.flip(rows), grid.flip(columns)]
    if len(size) == 3:
        turned += [turn.flip(0) for turn in turned]
    first = [0] * len(size)
    origin = torch.stack([turn[tuple(first)] for turn in turned])
    steps = []
    for axis, side in enumerate(size):
        # An axis of a single pixel has no step.
        second = [*first[:axis], 1 % side, *first[axis + 1 :]]
        steps.append(torch.stack([turn[tuple(second)] for turn in turned]) - origin)
    return torch.stack([origin, *steps])


def apply_symmetry(symmetry: Tensor, coordinates: Tensor) -> Tensor:
    """Flat indices of coordinates after a symmetry of each image.

    Parameters
    ----------
    symmetry : Tensor, shape (1 + A, N, 1)
        Origin and steps.
    coordinates : Tensor, shape (A, N, L)
        Coordinates along each axis.

    Returns
    -------
    Tensor, shape (N, L), int64
    """
    index = symmetry[0]
    for step, along in zip(symmetry[1:], coordinates, strict=True):
        index = index + step * along
    return index


def patch_offsets(size: Size, side: int, device: torch.device) -> Tensor:
    """Flat indices of the pixels of a patch relative to its first pixel: shape (side^A,)."""
    along = torch.arange(side, device=device)
    offsets = torch.zeros(1, dtype=torch.int64, device=device)
    for axis in range(len(size)):
        offsets = (offsets[:, None] + along * prod(size[axis + 1 :])).flatten()
    return offsets


def move_runs(sources: Iterable[np.ndarray], longest: int) -> Tensor:
    """Runs of pixels that move together along the last axis: int16, shape (2A + 1, masks, R).

    Each column has the coordinates of the first replaced pixel, the coordinates of the pixel that
    replaces it, and the length of the run. With patches of side K there are about K times fewer
    runs than pixels.

    Parameters
    ----------
    sources : iterable of ndarray
        For each mask, the flat index of the pixel that replaces each pixel; at least one differs
        from its own. Only one mask is in memory at a time.
    longest : int
        Largest length; longer runs are divided.
    """
    return stack_tables([_runs(source, longest).astype(np.int16) for source in sources])


def stack_tables(rows: list[np.ndarray]) -> Tensor:
    """Stack the tables (A, P) of the masks: shape (A, masks, largest P).

    Shorter tables are filled with their first column.
    """
    most = max(row.shape[1] for row in rows)
    filled = [np.append(row, row[:, :1].repeat(most - row.shape[1], 1), axis=1) for row in rows]
    return torch.from_numpy(np.stack(filled, axis=1))


def _runs(source: np.ndarray, longest: int) -> np.ndarray:
    """Runs of one mask, shape (2A + 1, R)."""
    targets = np.flatnonzero(source.ravel() != np.arange(source.size, dtype=source.dtype))
    origins = source.ravel()[targets]
    width = np.int32(source.shape[-1])
    apart = (targets.astype(np.int32) % width == 0) | (origins % width == 0)
    apart[1:] |= np.diff(targets) != 1
    apart[1:] |= np.diff(origins) != 1
    apart[0] = True
    first = np.flatnonzero(apart)
    lengths = np.diff(first, append=len(targets))
    # Two runs that are adjacent by chance form one, which may be longer than a patch side.
    pieces = -(-lengths // longest)
    place = np.arange(pieces.sum()) - np.repeat(pieces.cumsum() - pieces, pieces)
    first = np.repeat(first, pieces) + longest * place
    lengths = np.minimum(np.repeat(lengths, pieces) - longest * place, longest)
    coordinates = [np.unravel_index(flat[first], source.shape) for flat in (targets, origins)]
    return np.stack([*coordinates[0], *coordinates[1], lengths])


def swap_blocks(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Swap disjoint patches as blocks, on the CPU three times as fast as moving single pixels.

    The images are viewed as all their overlapping patches. The view is free on the CPU, but other
    devices, and CUDA in deterministic mode, may copy it.

    Parameters
    ----------
    images : Tensor, shape (N, C, …)
        Not changed.
    corners : Tensor, shape (N, P), int64
        Flat indices of the first pixels; each pair of neighbours is swapped.
    side : int
        Side of the patches.
    """
    images = images.contiguous()
    planes = torch.arange(images.shape[0] * images.shape[1]).view(*images.shape[:2], 1)
    pairs = (planes * images[0, 0].numel() + corners[:, None]).view(-1, 2)
    strides = images.stride()[2:]
    shape = (images.numel() - (side - 1) * sum(strides), *[side] * len(strides))
    out = images.clone()
    view = shape, (1, *strides)
    moved = images.as_strided(*view).index_select(0, pairs.flip(1).flatten())
    out.as_strided(*view).index_copy_(0, pairs.flatten(), moved)
    return out
