"""Find a path whose spaces the shell took for the ends of arguments."""

import os
from collections.abc import Sequence

MOST_PARTS = 10
"""Arguments that are joined at most."""


def quoting_hint(arguments: Sequence[str]) -> str:
    """Say which path needs quotes: one that exists only if neighbouring arguments are joined.

    Parameters
    ----------
    arguments : sequence of str
        The command line.

    Returns
    -------
    str
        A sentence; empty if there is no such path.
    """
    for start, first in enumerate(arguments):
        if os.path.lexists(first):
            continue
        option, mark, value = first.partition("=")
        prefix = f"{option}=" if mark and option.startswith("--") else ""
        for end in range(start + 2, min(start + MOST_PARTS, len(arguments)) + 1):
            path = " ".join([value if prefix else first, *arguments[start + 1 : end]])
            if os.path.lexists(path):
                return f'A path with spaces needs quotes: {prefix}"{path}".'
    return ""
