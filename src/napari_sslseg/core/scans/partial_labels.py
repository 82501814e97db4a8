"""Values in label files that mean "unknown", and lists of the classes that scans have labelled."""

from collections.abc import Collection, Iterable
from itertools import count

from napari_sslseg.core.common.errors import DataError

LARGEST_VALUES = (2**8 - 1, 2**15 - 1, 2**16 - 1, 2**31 - 1)
"""Largest values of the types of label files, which programs use for unknown voxels."""

GAP = 4
"""A largest value is likely to mean "unknown" if it is this many times the next lower one."""


def check_unknown_value(ignore: int | None, background: int) -> None:
    """Check that unknown voxels and the background have different values.

    Raises
    ------
    DataError
        If they have not.
    """
    if ignore is not None and ignore == background:
        what = "so nothing says where the background is" if ignore == 0 else "which is ambiguous"
        raise DataError(
            f"The value {ignore} means both unknown and background, {what}; give the value of the "
            "background with --background-value N (in Python background=N)."
        )


def free_values(values: Iterable[int], taken: Iterable[int]) -> dict[int, int]:
    """Return a different value that is not taken for each value: itself, or the next free one."""
    used, found = set(taken), {}
    for value in sorted(values):
        found[value] = next(number for number in count(value) if number not in used)
        used.add(found[value])
    return found


def refuse_likely_unknown(values: Collection[int]) -> None:
    """Refuse values of which the largest seems to mean "unknown".

    This is the largest value of a type, such as 255, far above the others. Masks with 0 and 255
    have no other value, so there 255 is a class.

    Parameters
    ----------
    values : collection of int
        Label values without the background.

    Raises
    ------
    DataError
        With the options for both meanings.
    """
    *others, largest = sorted(values) or [0]
    if others and largest in LARGEST_VALUES and GAP * others[-1] < largest:
        classes = ",".join(map(str, sorted(values)))
        raise DataError(
            f"The labels contain {largest} beside {', '.join(map(str, others))}. If {largest} "
            f"marks voxels whose class is unknown, give --ignore-value {largest} (in Python "
            f"ignore={largest}); if it is a class, give --classes {classes} (in Python "
            f"classes=({classes.replace(',', ', ')}))."
        )
