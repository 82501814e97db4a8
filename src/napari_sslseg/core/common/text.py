"""Make text from files safe to print: names may contain control characters of a terminal."""

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

CONTROLS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of invisible characters that change how text is displayed."""

LONGEST = 200
"""Largest number of characters that a message quotes from a file."""


def printable(text: object, longest: int | None = None) -> str:
    r"""Escape control characters, and shorten text that is too long.

    Parameters
    ----------
    text : object
        Converted with ``str``.
    longest : int, optional
        Number of characters to keep; an ellipsis replaces the rest.

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
    return "".join(_escape(character) for character in plain)


def join_names(names: Sequence[str], most: int = 3) -> str:
    """Join the first names of a list.

    Examples
    --------
    >>> join_names(["a", "b", "c", "d"])
    'a, b, c and others'
    """
    return ", ".join(names[:most]) + (" and others" if len(names) > most else "")


def count_phrase(count: int, noun: str) -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> count_phrase(1, "patient"), count_phrase(3000, "labelled voxel")
    ('1 patient', '3,000 labelled voxels')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask for the most similar of the known names; empty if none is similar.

    Examples
    --------
    >>> did_you_mean("Step", ["steps", "epochs"])
    'Did you mean steps?'
    """
    by_fold = {item.casefold(): item for item in known}
    found = get_close_matches(name.casefold(), by_fold, n=1)
    return f"Did you mean {printable(by_fold[found[0]], 100)}?" if found else ""


def fold_name(name: str) -> str:
    """A form that is equal for names that differ only in case or in the encoding of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _escape(character: str) -> str:
    if unicodedata.category(character) not in CONTROLS:
        return character
    return character.encode("unicode_escape").decode("ascii")
