"""Small words of the window."""


def many(count: int, what: str) -> str:
    """A number of things, such as "1 slice" and "3 slices"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def short(value: float) -> str:
    """Say a value in a few digits, without powers of ten where they are not needed."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
