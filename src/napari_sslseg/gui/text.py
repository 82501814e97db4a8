"""Numbers, counts and names as the window writes them. Needs no Qt."""

from collections.abc import Sequence

ELLIPSIS = "…"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 slice" and "3 slices"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_number(value: float) -> str:
    """Format a number with few digits, without powers of ten where they are not needed."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def shorten(names: Sequence[str], most: int) -> list[str]:
    """Shorten names to a number of characters, so that as many as possible stay distinct.

    The beginning and the end of a name are kept and its middle is left out, in the proportion that
    keeps the most names apart. Where the names differ only in the middle, that is kept.

    Parameters
    ----------
    names : sequence of str
        Names of one list.
    most : int
        The largest number of characters.

    Returns
    -------
    list of str
        A name that fits stays as it is.
    """
    if not names:
        return []
    room = max(most - 1, 2)
    half = (room + 1) // 2
    # From the middle outwards, so that an even cut is preferred.
    heads = sorted(range(1, room), key=lambda head: abs(head - half))
    cuts = [[_cut(name, most, head, room - head) for name in names] for head in heads]
    # All names have in common what the first and the last one have.
    pairs = enumerate(zip(min(names), max(names), strict=False))
    start = next((place for place, (one, other) in pairs if one != other), 0)
    cuts.append([_window(name, most, start) for name in names])
    return max(cuts, key=lambda found: len(set(found)))


def _cut(name: str, most: int, head: int, tail: int) -> str:
    return name if len(name) <= most else name[:head] + ELLIPSIS + name[len(name) - tail :]


def _window(name: str, most: int, start: int) -> str:
    """Keep what begins at a place, and a character before it if there is room."""
    if len(name) <= most:
        return name
    room = max(most - 2, 1)
    start = max(start - (room > 2), 1)
    rest = name[start:]
    return ELLIPSIS + (rest if len(rest) <= room + 1 else rest[:room] + ELLIPSIS)
