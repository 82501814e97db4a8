"""Random placement of square patches in slices and cubes in volumes, and which sizes fit.

Uses NumPy only, so that the window can check sizes without loading PyTorch.
"""

from functools import lru_cache
from math import ceil, isqrt, prod
from typing import get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.sizes import Size, describe_images, words_for
from napari_sslseg.core.settings.pretext.context_patches import Sampling

# Random sequential addition of Poisson discs jams at 0.32 to 0.35 of the area, that of cubes at
# 0.42 of the volume or above.
MAX_AREA: dict[str, float] = {"poisson-disc": 0.3, "uniform": 0.9}

# A patch size fits if at least 5 of 128 attempts succeed; then 10 000 attempts never all fail.
_TRIALS, _SUCCESSES, _ATTEMPTS = 128, 5, 10_000
_MAX_ROUNDS = 10_000
_MAX_BULK = 2**16


def poisson_disc_patches(
    size: Size, patch_size: int, min_area: float, rng: np.random.Generator
) -> np.ndarray:
    """Place disjoint patches with centres at least K√2 apart in slices, K in volumes.

    Exact random sequential addition on the lattice of pixels: each patch is drawn uniformly from
    all places that are still allowed. When it jams before the area is reached, it starts again.

    On slices the distance K√2 is that of Dominic et al. 2023, which keeps squares apart. In
    volumes centres lie at least K apart along at least one axis, which is necessary for disjoint
    cubes. The analogous distance K√3 cannot reach a quarter of the volume: random addition jams
    when balls of this diameter fill about 0.38 of the volume, and their cubes then fill 0.14.

    Parameters
    ----------
    size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    patch_size : int
        Side K in pixels.
    min_area : float
        Smallest fraction of the area or volume that all patches cover together.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (A, P), int64
        First pixel of each patch along each of the A axes. P is the smallest even number that
        covers the area.

    Raises
    ------
    ConfigError
        If such patches do not fit; the message names the largest that do.
    """
    check_patches(size, "poisson-disc", min_area, patch_size)
    count = _disc_count(size, patch_size, min_area)
    for _ in range(_ATTEMPTS):
        corners = _add_discs(size, patch_size, count, rng)
        if corners is not None:
            return corners
    raise _misfit(size, "poisson-disc", min_area, patch_size)


def uniform_patches(
    size: Size, patch_size: int, min_area: float, rng: np.random.Generator
) -> np.ndarray:
    """Place pairs of patches anywhere, until swapping them in order replaces enough pixels.

    The two patches of a pair are disjoint; those of different pairs may overlap. First pixels are
    uniform over all positions at which the patch lies within the image.

    Parameters
    ----------
    size, patch_size, min_area, rng
        As for :func:`poisson_disc_patches`; a pixel that ends at its own position does not count.

    Returns
    -------
    ndarray, shape (A, P), int64
        First pixel of each patch along each of the A axes; the first and second patch are a pair,
        and so on.

    Raises
    ------
    ConfigError
        If such patches do not fit; the message names the largest that do.
    """
    check_patches(size, "uniform", min_area, patch_size)
    return uniform_swaps(size, patch_size, min_area, rng)[0]


def largest_patch(
    size: Size, sampling: Sampling, min_area: float = 0.25, limit: int | None = None
) -> int:
    """Largest patch side that fits images of this size, or 0 if none does.

    Uniform sampling needs two disjoint patches. Poisson-disc sampling fits if random placement
    succeeds in at least about one of 25 attempts with a fixed seed. It may fail for a size and
    succeed for a larger one, which needs fewer patches.

    Parameters
    ----------
    size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    sampling : {"poisson-disc", "uniform"}
        Placement of the patches.
    min_area : float
        Smallest fraction of the area to corrupt.
    limit : int, optional
        Largest side to try.
    """
    most = min(min(size), max(size) if limit is None else limit)
    return next((side for side in range(most, 0, -1) if _fits(size, sampling, min_area, side)), 0)


def check_patches(size: Size, sampling: Sampling, min_area: float, patch_size: int) -> None:
    if sampling not in get_args(Sampling):
        choices = " or ".join(get_args(Sampling))
        raise ConfigError(f"There is no patch sampling {sampling}; choose {choices}.")
    if not 0 < min_area <= MAX_AREA[sampling]:
        raise ConfigError(
            f"The corrupted fraction of a {words_for(size).image} cannot be {min_area:g} with "
            f"{sampling} sampling; choose more than 0 and at most {MAX_AREA[sampling]:g}."
        )
    if not _fits(size, sampling, min_area, patch_size):
        raise _misfit(size, sampling, min_area, patch_size)


def _misfit(size: Size, sampling: Sampling, min_area: float, patch_size: int) -> ConfigError:
    words = words_for(size)
    if patch_size < 1:
        return ConfigError(
            f"The patch size cannot be {patch_size}; choose at least 1 {words.place}."
        )
    largest = largest_patch(size, sampling, min_area, limit=patch_size - 1)
    if not largest:
        return ConfigError(f"No patches fit {describe_images(size)}; use larger {words.images}.")
    return ConfigError(
        f"Patches of {patch_size} {words.places} do not fit {describe_images(size)} with "
        f"{sampling} sampling and a corrupted fraction of {min_area:g}; choose a patch size of "
        f"{largest} {words.places}."
    )


@lru_cache(maxsize=1024)
def _fits(size: Size, sampling: Sampling, min_area: float, patch_size: int) -> bool:
    if not 1 <= patch_size <= min(size):
        return False
    if sampling == "uniform":
        return 2 * patch_size <= max(size)
    count = _disc_count(size, patch_size, min_area)
    # Every patch contains one point of a lattice with spacing K, so there are at most as many.
    if count > prod(side // patch_size for side in size):
        return False
    if len(size) == 2 and sum((side - patch_size) ** 2 for side in size) < 2 * patch_size**2:
        return False  # Not even two patches, in opposite corners.
    rng = np.random.default_rng(0)
    successes = 0
    for trial in range(_TRIALS):
        successes += _add_discs(size, patch_size, count, rng) is not None
        if successes == _SUCCESSES or _TRIALS - trial <= _SUCCESSES - successes:
            break
    return successes == _SUCCESSES


def _disc_count(size: Size, patch_size: int, min_area: float) -> int:
    return 2 * ceil(min_area * prod(size) / patch_size ** len(size) / 2)


@lru_cache(maxsize=2)
def _disc(patch_size: int, dimensions: int) -> np.ndarray:
    """Offsets from a patch at which another patch would be too close: 2r + 1 along each axis."""
    if dimensions == 3:
        return np.ones((2 * patch_size - 1,) * 3, dtype=bool)
    closest = 2 * patch_size**2
    reach = isqrt(closest - 1)
    offsets = np.arange(-reach, reach + 1) ** 2
    return offsets[:, None] + offsets < closest


def _add_discs(
    size: Size, patch_size: int, count: int, rng: np.random.Generator
) -> np.ndarray | None:
    """One attempt at random sequential addition; None if it jams."""
    disc = _disc(patch_size, len(size))
    reach = len(disc) // 2
    places = tuple(side - patch_size + 1 for side in size)
    # With a margin as wide as the disc, no clipping at the border is necessary.
    taken = np.zeros([side + 2 * reach for side in places], dtype=bool)
    inside = taken[tuple(slice(reach, reach + side) for side in places)]
    around = sliding_window_view(taken, disc.shape, writeable=True)
    corners: list[tuple[int, ...]] = []
    while len(corners) < count:
        free = np.flatnonzero(~inside) if corners else np.arange(prod(places))
        if not len(free):
            return None
        drawn = np.unravel_index(free[rng.integers(len(free), size=count)], places)
        # Skipping positions that have been taken meanwhile keeps the draw uniform.
        for corner in zip(*(axis.tolist() for axis in drawn), strict=True):
            if not inside[corner] and len(corners) < count:
                corners.append(corner)
                near = around[corner]
                np.logical_or(near, disc, out=near)
    return np.array(corners, dtype=np.int64).T


def uniform_swaps(
    size: Size, patch_size: int, min_area: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (A, P), and the flat index (int32) of the pixel that replaces each pixel."""
    still = np.arange(prod(size), dtype=np.int32).reshape(size)
    source = still.copy()
    patches = sliding_window_view(source, (patch_size,) * len(size), writeable=True)
    needed = missing = ceil(min_area * source.size)
    placed = []
    for _ in range(_MAX_ROUNDS):
        # Fewer pairs cannot replace the missing pixels, so they are placed without counting.
        fewest = ceil(missing / (2 * patch_size ** len(size)))
        pairs = _disjoint_pairs(size, patch_size, fewest, rng)
        placed.append(pairs)
        for one, other in pairs.tolist():
            one, other = patches[tuple(one)], patches[tuple(other)]
            kept = one.copy()
            one[...] = other
            other[...] = kept
        missing = needed - int(np.count_nonzero(source != still))
        if missing <= 0:
            return np.concatenate(placed).reshape(-1, len(size)).T, source
    raise _misfit(size, "uniform", min_area, patch_size)


def _disjoint_pairs(
    size: Size, patch_size: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Corners of ``count`` pairs of disjoint patches, shape (count, 2, A): pair, patch, axis."""
    places = np.array(size) - patch_size + 1
    apart = np.maximum(places - patch_size, 0)
    accepted = 1 - np.prod(1 - apart * (apart + 1) / places**2)
    bulk = min(ceil(1.2 * count / accepted) + 8, _MAX_BULK)
    pairs = np.empty((0, 2, len(size)), dtype=np.int64)
    while len(pairs) < count:
        drawn = rng.integers(places, size=(bulk, 2, len(size)))
        disjoint = np.abs(drawn[:, 0] - drawn[:, 1]).max(axis=1) >= patch_size
        pairs = np.concatenate([pairs, drawn[disjoint]])
    return pairs[:count]
