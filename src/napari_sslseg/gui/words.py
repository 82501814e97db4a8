"""Small words of the window."""


def many(count: int, what: str) -> str:
    """A number of things, such as "1 slice" and "3 slices"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
