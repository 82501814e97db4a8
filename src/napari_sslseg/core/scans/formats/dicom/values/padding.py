"""Padding outside the field of view, which a header marks by a value of its own."""

from typing import Any

import numpy as np
from pydicom.dataset import Dataset

# HU of air; lower values in CT are background too.
AIR = -1000.0


def padding_range(dataset: Dataset) -> tuple[int, int] | None:
    """Read the stored values that mean padding; None if the header names none.

    The value may be written as signed in an unsigned image, or the other way round (PS3.3,
    C.7.5.1.1.2); it is returned as the pixels are stored.

    Returns
    -------
    tuple of int or None
        The lowest and the highest value.
    """
    first = _whole(dataset.get("PixelPaddingValue"))
    if first is None:
        return None
    last = _whole(dataset.get("PixelPaddingRangeLimit"))
    bits = int(dataset.get("BitsAllocated") or 16)
    signed = dataset.get("PixelRepresentation") == 1
    ends = sorted(_as_stored(end, bits, signed) for end in (first, first if last is None else last))
    return ends[0], ends[1]


def _whole(value: Any) -> int | None:
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if value else None
    try:
        return int(value)
    except (TypeError, ValueError):  # absent, empty, or several
        return None


def _as_stored(value: int, bits: int, signed: bool) -> int:
    value &= 2**bits - 1
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


class PaddingMask:
    """Collects where the planes of a volume are padding, in an eighth of a byte for each pixel.

    Parameters
    ----------
    ct : bool
        Whether the values are HU, of which the lowest is air.
    """

    def __init__(self, *, ct: bool) -> None:
        self._ct = ct
        self._packed: dict[int, np.ndarray] = {}
        self._cornered = 0

    def add(self, number: int, stored: np.ndarray, limits: tuple[int, int] | None) -> None:
        """Find the padding in the stored values of a plane, shape (rows, columns)."""
        corners = stored[[0, 0, -1, -1], [0, -1, 0, -1]]
        if limits is None:
            # A negative value that lost its sign, in all corners: no tissue or metal is as dense.
            if not self._ct or stored.dtype != np.uint16 or corners.min() < 2**15:
                return
            limits = int(corners.min()), int(corners.max())
        mask = (stored >= limits[0]) & (stored <= limits[1])
        if mask.any():
            self._packed[number] = np.packbits(mask)
            self._cornered += bool(((corners >= limits[0]) & (corners <= limits[1])).all())

    def replace(self, values: np.ndarray) -> str | None:
        """Replace padding that would look like tissue by the lowest value of the scan, in place.

        Padding below all other values looks like the background that it is, and stays. Between
        other values it is replaced only in CT, and only if it fills the corners of the images:
        some headers name a value that also occurs in tissue.

        Parameters
        ----------
        values : ndarray, shape (planes, rows, columns)
            Rescaled values.

        Returns
        -------
        str or None
            A note on what was done; None if nothing was.
        """
        shape = values.shape[1:]
        low, high, found = np.inf, -np.inf, []
        for number, plane in enumerate(values):
            mask = self._mask(number, shape)
            kept = plane if mask is None else plane[~mask]
            if kept.size:
                low, high = min(low, kept.min()), max(high, kept.max())
            if mask is not None:
                found += [plane[mask].min(), plane[mask].max()]
        background = max(low, AIR) if self._ct else low
        if not found or not np.isfinite(low) or max(found) <= background:
            return None
        shown = " to ".join(f"{value:g}" for value in sorted({min(found), max(found)}))
        outside = self._ct and self._cornered > len(self._packed) / 2
        if min(found) <= high and not outside:
            return (
                f"its header calls the value {shown} padding, but it lies between other values, so "
                "it was kept"
            )
        count = 0
        for number, plane in enumerate(values):
            mask = self._mask(number, shape)
            if mask is not None:
                count += int(np.count_nonzero(mask))
                plane[mask] = low
        return (
            f"{count} pixels of padding around the image had the value {shown}; they were set to "
            f"{low:g}, the lowest value of the scan"
        )

    def _mask(self, number: int, shape: tuple[int, ...]) -> np.ndarray | None:
        packed = self._packed.get(number)
        if packed is None:
            return None
        return np.unpackbits(packed, count=int(np.prod(shape))).astype(bool).reshape(shape)
