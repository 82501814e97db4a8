"""Hints on the names of classes: those that may be misspelt, and lists that can be copied."""

import shlex
from collections.abc import Collection, Iterable, Mapping
from difflib import SequenceMatcher
from pathlib import Path

from napari_sslseg.core.scans.classes.class_list import CLASS_LIST, own_lists

_SHORTEST = 4
"""Letters of a word that may be misspelt; shorter ones, such as l and r, are often two classes."""

_LEAST_RATIO = 0.75


def misspelt_names(having: Mapping[str, Collection[int]]) -> list[tuple[str, str]]:
    """Find pairs of similar names that no label file has together.

    Parameters
    ----------
    having : mapping of str to collection of int
        Numbers of the label files that have each name.

    Returns
    -------
    list of (str, str)
        The earlier name first, in the order given.

    Examples
    --------
    >>> misspelt_names({"liver": {0}, "spleen": {0, 1}, "lvier": {1}})
    [('liver', 'lvier')]
    >>> misspelt_names({"left kidney": {0}, "right kidney": {1}, "rib 4": {0}, "rib 5": {1}})
    []
    """
    names = list(having)
    return [
        (first, second)
        for number, first in enumerate(names)
        for second in names[number + 1 :]
        if not set(having[first]) & set(having[second]) and _are_similar(first, second)
    ]


def _are_similar(first: str, second: str) -> bool:
    pairs = list(zip(first.lower().split(), second.lower().split(), strict=False))
    if len(first.split()) != len(second.split()):
        return False
    return all(
        one == other
        or (
            min(len(one), len(other)) >= _SHORTEST
            and not any(char.isdigit() for char in one + other)
            and SequenceMatcher(None, one, other).ratio() >= _LEAST_RATIO
        )
        for one, other in pairs
    )


def how_to_copy_names(nameless: Path, named: Iterable[Path]) -> str:
    """Give the command that copies the list of names of other label files; empty if none has one.

    Parameters
    ----------
    nameless : Path
        A label file without names.
    named : iterable of Path
        Label files with names.
    """
    folder = nameless.parent
    for file in named:
        for place in (file.parent, file.parent.parent):
            for found in own_lists(place)[:1] if place != folder else ():
                return f"cp {shlex.quote(str(found))} {shlex.quote(str(folder / CLASS_LIST))}"
    return ""
