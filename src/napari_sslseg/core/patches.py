"""Where square patches lie on a slice: random placement, and which patch sizes fit.

NumPy alone, so that the screen can ask what fits without loading PyTorch.
"""

from functools import lru_cache
from math import ceil, isqrt
from typing import Literal, get_args

import numpy as np

from napari_sslseg.core.errors import ConfigError

Sampling = Literal["poisson-disc", "uniform"]
"""How patches are placed: with a least distance between them, or anywhere."""

Size = tuple[int, int]

# Random sequential addition of Poisson discs jams at 0.32 to 0.35 of the area.
MAX_AREA: dict[str, float] = {"poisson-disc": 0.3, "uniform": 0.9}

# A patch size fits if at least 5 of 128 attempts succeed; then 10 000 attempts never all fail.
_TRIALS, _SUCCESSES, _ATTEMPTS = 128, 5, 10_000
_MAX_ROUNDS = 10_000
_MAX_BULK = 2**16


def poisson_disc_patches(
    size: Size, patch_size: int, min_area: float, rng: np.random.Generator
) -> np.ndarray:
    """Place disjoint patches with centres at least K√2 apart.

    Exact random sequential addition on the pixel lattice: each patch is drawn uniformly from all
    places that are still allowed. When it jams before the area is reached, it starts again.

    Parameters
    ----------
    size : tuple of int
        Height and width in pixels.
    patch_size : int
        Side K in pixels.
    min_area : float
        Least share of the area that the patches cover together.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (2, P), int64
        Rows and columns of the top-left pixels. P is the least even number that covers the area.

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

    The two patches of a pair are disjoint, those of different pairs may overlap. Top-left pixels
    are uniform over all places where the patch lies within the slice, the last included.

    Parameters
    ----------
    size, patch_size, min_area, rng
        As for :func:`poisson_disc_patches`; a pixel that gets its own value back does not count.

    Returns
    -------
    ndarray, shape (2, P), int64
        Rows and columns of the top-left pixels; first and second patch are a pair, and so on.

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
    """Largest patch side that fits slices of this size, or 0 if none does.

    Uniform sampling needs two disjoint patches. Poisson-disc sampling fits if random placement
    succeeds in at least about one attempt in 25, as tried with a fixed seed. It can fail for a
    size and succeed for a larger one, of which fewer patches are needed.

    Parameters
    ----------
    size : tuple of int
        Height and width in pixels.
    sampling : {"poisson-disc", "uniform"}
        How patches are placed.
    min_area : float
        Least share of the area to corrupt.
    limit : int, optional
        Look no higher than this.
    """
    most = min(min(size), max(size) if limit is None else limit)
    return next((side for side in range(most, 0, -1) if _fits(size, sampling, min_area, side)), 0)


def check_patches(size: Size, sampling: Sampling, min_area: float, patch_size: int) -> None:
    if sampling not in get_args(Sampling):
        choices = " or ".join(get_args(Sampling))
        raise ConfigError(f"There is no patch sampling {sampling}; choose {choices}.")
    if not 0 < min_area <= MAX_AREA[sampling]:
        raise ConfigError(
            f"The corrupted share of a slice cannot be {min_area:g} with {sampling} sampling; "
            f"choose more than 0 and at most {MAX_AREA[sampling]:g}."
        )
    if not _fits(size, sampling, min_area, patch_size):
        raise _misfit(size, sampling, min_area, patch_size)


def _misfit(size: Size, sampling: Sampling, min_area: float, patch_size: int) -> ConfigError:
    slices = f"slices of {size[0]} × {size[1]} pixels"
    if patch_size < 1:
        return ConfigError(f"The patch size cannot be {patch_size}; choose at least 1 pixel.")
    largest = largest_patch(size, sampling, min_area, limit=patch_size - 1)
    if not largest:
        return ConfigError(f"No patches fit {slices}; use larger slices.")
    return ConfigError(
        f"Patches of {patch_size} pixels do not fit {slices} with {sampling} sampling and a "
        f"corrupted share of {min_area:g}; choose a patch size of {largest} pixels."
    )


@lru_cache(maxsize=1024)
def _fits(size: Size, sampling: Sampling, min_area: float, patch_size: int) -> bool:
    height, width = size
    if not 1 <= patch_size <= min(size):
        return False
    if sampling == "uniform":
        return 2 * patch_size <= max(size)
    if (height - patch_size) ** 2 + (width - patch_size) ** 2 < 2 * patch_size**2:
        return False  # Not even two patches, in opposite corners.
    rng = np.random.default_rng(0)
    count = _disc_count(size, patch_size, min_area)
    successes = 0
    for trial in range(_TRIALS):
        successes += _add_discs(size, patch_size, count, rng) is not None
        if successes == _SUCCESSES or _TRIALS - trial <= _SUCCESSES - successes:
            break
    return successes == _SUCCESSES


def _disc_count(size: Size, patch_size: int, min_area: float) -> int:
    return 2 * ceil(min_area * size[0] * size[1] / patch_size**2 / 2)


@lru_cache(maxsize=2)
def _disc(patch_size: int) -> np.ndarray:
    """Offsets, around a patch, at which another patch would be too near: (2r + 1, 2r + 1)."""
    closest = 2 * patch_size**2
    reach = isqrt(closest - 1)
    offsets = np.arange(-reach, reach + 1) ** 2
    return offsets[:, None] + offsets < closest


def _add_discs(
    size: Size, patch_size: int, count: int, rng: np.random.Generator
) -> np.ndarray | None:
    """One attempt at random sequential addition; None if it jams."""
    disc = _disc(patch_size)
    reach, diameter = len(disc) // 2, len(disc)
    rows, columns = size[0] - patch_size + 1, size[1] - patch_size + 1
    # A margin as wide as the disc saves clipping it at the border.
    taken = np.zeros((rows + 2 * reach, columns + 2 * reach), dtype=bool)
    inside = taken[reach : reach + rows, reach : reach + columns]
    corners: list[tuple[int, int]] = []
    while len(corners) < count:
        free = np.flatnonzero(~inside)
        if not len(free):
            return None
        # Skipping draws that have become taken leaves a uniform draw from the free places.
        for place in free[rng.integers(len(free), size=count)].tolist():
            row, column = divmod(place, columns)
            if not inside[row, column] and len(corners) < count:
                corners.append((row, column))
                taken[row : row + diameter, column : column + diameter] |= disc
    return np.array(corners, dtype=np.int64).T


def uniform_swaps(
    size: Size, patch_size: int, min_area: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (2, P), and the pixel (flat index) that each pixel (H, W) gets."""
    still = np.arange(size[0] * size[1]).reshape(size)
    source = still.copy()
    needed = missing = ceil(min_area * source.size)
    placed = []
    for _ in range(_MAX_ROUNDS):
        # No fewer pairs can replace the missing pixels, so counting sooner would be in vain.
        pairs = _disjoint_pairs(size, patch_size, ceil(missing / (2 * patch_size**2)), rng)
        placed.append(pairs)
        for (row, column), (other_row, other_column) in pairs.tolist():
            one = source[row : row + patch_size, column : column + patch_size]
            other = source[
                other_row : other_row + patch_size, other_column : other_column + patch_size
            ]
            kept = one.copy()
            one[...] = other
            other[...] = kept
        missing = needed - int(np.count_nonzero(source != still))
        if missing <= 0:
            return np.concatenate(placed).reshape(-1, 2).T, source
    raise _misfit(size, "uniform", min_area, patch_size)


def _disjoint_pairs(
    size: Size, patch_size: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Corners of ``count`` pairs of disjoint patches, shape (count, 2, 2): pair, patch, axis."""
    places = np.array(size) - patch_size + 1
    apart = np.maximum(places - patch_size, 0)
    accepted = 1 - np.prod(1 - apart * (apart + 1) / places**2)
    bulk = min(ceil(1.2 * count / accepted) + 8, _MAX_BULK)
    pairs = np.empty((0, 2, 2), dtype=np.int64)
    while len(pairs) < count:
        drawn = rng.integers(places, size=(bulk, 2, 2))
        disjoint = np.abs(drawn[:, 0] - drawn[:, 1]).max(axis=1) >= patch_size
        pairs = np.concatenate([pairs, drawn[disjoint]])
    return pairs[:count]
