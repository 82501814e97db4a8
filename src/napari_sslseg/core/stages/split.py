"""Splits by subject: samples of one patient never stand on both sides."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.scans.labelled import Scan, scan_subject

Item = TypeVar("Item", bound=Scan)


def hold_out(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Keep the scans of a share of the subjects apart: the others, and those held out."""
    subjects = map(scan_subject, items)
    apart = set(split_subjects(subjects, {"held out": share}, seed)["held out"])
    return (
        [item for item in items if scan_subject(item) not in apart],
        [item for item in items if scan_subject(item) in apart],
    )


def split_subjects(
    subjects: Iterable[str], shares: dict[str, float], seed: int = 0
) -> dict[str, list[str]]:
    """Deal subjects at random into parts of given shares; no subject is in two parts.

    Parameters
    ----------
    subjects : iterable of str
        Subjects; repeats count once.
    shares : dict
        Share of each part; they sum to at most 1. Each part with a positive share gets at least
        one subject while there are any.
    seed : int
        The same seed deals the same parts.
    """
    if sum(shares.values()) > 1 + 1e-9 or min(shares.values()) < 0:
        raise DataError(f"The shares of a split must be positive and sum to 1, not {shares}.")
    order = sorted(set(subjects))
    np.random.default_rng(seed).shuffle(order)
    parts, start, total = {}, 0, len(order)
    for name, share in shares.items():
        n = min(max(round(share * total), 1 if share > 0 else 0), total - start)
        parts[name] = sorted(order[start : start + n])
        start += n
    if parts and abs(sum(shares.values()) - 1) < 1e-9:
        # What rounding left over belongs to somebody.
        parts[name] = sorted([*parts[name], *order[start:]])
    return parts
