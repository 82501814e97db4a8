"""Numbers and counts as the window writes them."""


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 slice" and "3 slices"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_number(value: float) -> str:
    """Format a number with few digits, without powers of ten where they are not needed."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
