"""Side of the patches that suits images of a given size."""

from math import prod

from napari_sslseg.core.common.sizes import Size

PATCH_SIDES = (8, 16, 32, 64)
"""Sides that Dominic et al. 2023 compare."""

PATCH_SHARE = 1 / 16
"""Patch side over image side: 32 of 512 pixels in Dominic et al. 2023."""


def patch_size_for(size: Size, share: float = PATCH_SHARE, least: int = PATCH_SIDES[0]) -> int:
    """Side of the patches that suits images of this size: the nearest of 8, 16, 32, 64.

    In volumes, which may be thin, it is a side with room for four patches. If none of them has,
    it is the largest of 4, 2, 1 that does.

    Parameters
    ----------
    size : tuple of int
        Height and width of slices, or slices, height and width of volumes.
    share : float
        Wanted side over the shortest side of the image. In Dominic et al. 2023, 32 pixels are best
        on slices of 512; smaller slices take smaller patches.
    least : int
        Smallest side to choose, where it fits.
    """
    fitting = [side for side in PATCH_SIDES if len(size) == 2 or _has_room(size, side)]
    if not fitting:
        return next((side for side in (4, 2) if _has_room(size, side)), 1)
    target = max(share * min(size), least)
    return min(fitting, key=lambda side: abs(side - target))


def _has_room(size: Size, side: int) -> bool:
    """Whether four patches fit side by side, so that some can be hidden and some visible."""
    return prod(length // side for length in size) >= 4
