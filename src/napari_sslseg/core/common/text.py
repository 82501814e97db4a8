"""Text from files, made safe to print: names may hold signs that steer a terminal."""

import unicodedata
from collections.abc import Sequence

CONTROLS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that show nothing by themselves but change what is shown."""

LONGEST = 200
"""Characters of foreign text in a message."""


def printable(text: object, longest: int | None = None) -> str:
    r"""Replace control characters by escapes, and cut off what is too long.

    Parameters
    ----------
    text : object
        Shown as ``str`` has it.
    longest : int, optional
        Characters to keep; the rest becomes an ellipsis.

    Examples
    --------
    >>> print(printable("run\x1b[2J"))
    run\x1b[2J
    >>> printable("Überblick 7 µm")
    'Überblick 7 µm'
    """
    plain = str(text)
    if longest is not None and len(plain) > longest:
        plain = plain[:longest] + "…"
    return "".join(_shown(sign) for sign in plain)


def join_names(names: Sequence[str], most: int = 3) -> str:
    """Name the first few.

    Examples
    --------
    >>> join_names(["a", "b", "c", "d"])
    'a, b, c and others'
    """
    return ", ".join(names[:most]) + (" and others" if len(names) > most else "")


def _shown(sign: str) -> str:
    if unicodedata.category(sign) not in CONTROLS:
        return sign
    return sign.encode("unicode_escape").decode("ascii")
