"""Slice numbers as text, in ranges such as ``0-8, 12``."""

import re
from collections.abc import Iterable
from itertools import chain

RANGE_PATTERN = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)

ALL_SLICES = "all"
"""Text for all slices of a scan."""


def format_ranges(numbers: Iterable[int]) -> str:
    """Format whole numbers as ranges, such as ``0-8, 12``."""
    runs: list[list[int]] = []
    for number in sorted(int(n) for n in numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return format_range_ends((first, last) for first, last in runs)


def format_range_ends(ends: Iterable[tuple[int, int]]) -> str:
    """Format ranges given by their first and last numbers."""
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)


def parse_ranges(text: str, end: int) -> tuple[int, ...]:
    """Parse the text of :func:`format_ranges` into numbers below ``end``.

    Raises
    ------
    ValueError
        If the text is malformed, or a number is not below ``end``.
    """
    return tuple(chain(*(range(first, last + 1) for first, last in parse_range_ends(text, end))))


def parse_range_ends(text: str, end: int) -> list[tuple[int, int]]:
    """Parse ranges into their first and last numbers, without expanding them.

    Raises
    ------
    ValueError
        If the text is malformed, or a number is not below ``end``.
    """
    ends: list[tuple[int, int]] = []
    before = -1
    for part in text.split(", ") if text else ():
        found = RANGE_PATTERN.fullmatch(part)
        if not found:
            raise ValueError("it should hold ranges of numbers, such as 0-8, 12")
        first, last = int(found[1]), int(found[2] or found[1])
        # Ascending order ensures that no number occurs twice and that there are at most ``end``.
        if not before < first <= last < end:
            raise ValueError(f"its ranges do not rise, or are not below {end:,}")
        ends.append((first, last))
        before = last
    return ends


def count_ranges(text: str, end: int) -> int:
    """Count the numbers in ranges, without expanding them.

    Raises
    ------
    ValueError
        If the text is malformed, or a number is not below ``end``.
    """
    return sum(last - first + 1 for first, last in parse_range_ends(text, end))
