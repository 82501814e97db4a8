"""TODO."""

import re
from collections.abc import Iterable
from itertools import chain

RANGE_PATTERN = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)

ALL_SLICES = "all"


def format_ranges(numbers: Iterable[int]) -> str:
    """Whole numbers as ranges, such as ``0-8, 12``."""
    runs: list[list[int]] = []
    for number in sorted(int(n) for n in numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return format_range_ends((first, last) for first, last in runs)


def format_range_ends(ends: Iterable[tuple[int, int]]) -> str:
    """The text of ranges, from their first and last numbers."""
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)


def parse_ranges(text: str, end: int) -> tuple[int, ...]:
    """Whole numbers below ``end`` from their ranges, as :func:`format_ranges` writes them.

    Raises
    ------
    ValueError
        If it is something else.
    """
    return tuple(chain(*(range(first, last + 1) for first, last in parse_range_ends(text, end))))


def parse_range_ends(text: str, end: int) -> list[tuple[int, int]]:
    """First and last number of each range, see :func:`parse_ranges`; nothing is expanded.

    Raises
    ------
    ValueError
        If it is something else.
    """
    ends: list[tuple[int, int]] = []
    before = -1
    for part in text.split(", ") if text else ():
        found = RANGE_PATTERN.fullmatch(part)
        if not found:
            raise ValueError("it should hold ranges of numbers, such as 0-8, 12")
        first, last = int(found[1]), int(found[2] or found[1])
        # In order, so that nothing is named twice and there are never more than ``end``.
        if not before < first <= last < end:
            raise ValueError(f"its ranges do not rise, or not below {end:,}")
        ends.append((first, last))
        before = last
    return ends


def count_ranges(text: str, end: int) -> int:
    """How many numbers there are, see :func:`parse_ranges`; nothing is expanded.

    Raises
    ------
    ValueError
        If it is something else.
    """
    return sum(last - first + 1 for first, last in parse_range_ends(text, end))
