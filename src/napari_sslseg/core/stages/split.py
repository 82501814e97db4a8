"""Split scans by subject, so that scans of one subject are always in the same part."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from napari_sslseg.core.common.errors import CallError, DataError
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.scans.labelled import Scan, scan_subject

Item = TypeVar("Item", bound=Scan)


def hold_out(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Hold out a fraction of the subjects.

    Parameters
    ----------
    items : sequence of Scan
        Scans.
    share : float
        Fraction of the subjects to hold out, 0…1.
    seed : int
        Seed of the random choice.

    Returns
    -------
    list, list
        Scans of the other subjects, and scans of the held-out subjects.
    """
    subjects = [scan_subject(item) for item in items]
    held_out = set(split_subjects(subjects, {"held out": share}, seed)["held out"])
    return (
        [item for item, subject in zip(items, subjects, strict=True) if subject not in held_out],
        [item for item, subject in zip(items, subjects, strict=True) if subject in held_out],
    )


def split_subjects(
    subjects: Iterable[str], shares: dict[str, float], seed: int = 0
) -> dict[str, list[str]]:
    """Assign subjects to parts at random; no subject is in two parts.

    Parameters
    ----------
    subjects : iterable of str
        Subjects; duplicates count once.
    shares : dict of str to float
        Fraction of the subjects for each part; their sum is at most 1. Each part with a positive
        fraction gets at least one subject, as long as there are enough.
    seed : int
        Seed of the random assignment.

    Returns
    -------
    dict of str to list of str
        Sorted subjects of each part.

    Raises
    ------
    DataError
        If a fraction is negative, or their sum is more than 1.
    """
    if isinstance(subjects, str):
        raise CallError(
            f"subjects is one text, {printable(repr(subjects), 100)}; write a list of names, such "
            "as ['p1', 'p2']."
        )
    if sum(shares.values()) > 1 + 1e-9 or min(shares.values()) < 0:
        raise DataError(
            f"The fractions of a split must be positive and sum to at most 1, not {shares}."
        )
    order = sorted(set(subjects))
    np.random.default_rng(seed).shuffle(order)
    parts, start, total = {}, 0, len(order)
    for name, share in shares.items():
        n = min(max(round(share * total), 1 if share > 0 else 0), total - start)
        parts[name] = sorted(order[start : start + n])
        start += n
    if parts and abs(sum(shares.values()) - 1) < 1e-9:
        # The last part takes the subjects that rounding left over.
        parts[name] = sorted([*parts[name], *order[start:]])
    return parts
