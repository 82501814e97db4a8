"""Names of scans in a project: each is also the name of a file, on every system."""

import re
import unicodedata
from collections.abc import Container

LONGEST_NAME = 100
"""Characters of a name."""

_MOST_BYTES = 200
# What Windows forbids in the name of a file, and what steers a terminal.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def is_name(text: str) -> bool:
    """Whether a text can be the name of a scan, and so of a file."""
    return text == safe_name(text)


def safe_name(text: str) -> str:
    """Make a name of a file of any text.

    Examples
    --------
    >>> safe_name("../a:b ")
    '_a_b'
    >>> safe_name("liver_01")
    'liver_01'
    """
    plain = unicodedata.normalize("NFC", text)
    plain = "".join("_" if unicodedata.category(sign)[0] == "C" else sign for sign in plain)
    plain = _FORBIDDEN.sub("_", plain)[:LONGEST_NAME].lstrip(". ")
    while len(plain.encode()) > _MOST_BYTES:
        plain = plain[:-1]
    plain = plain.rstrip(". ")
    if _RESERVED.fullmatch(plain):
        plain = f"_{plain}"[:LONGEST_NAME]
    return plain or "scan"


def folded(name: str) -> str:
    """The same for names that some file systems cannot tell apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def free_name(wanted: str, taken: Container[str]) -> str:
    """Make a name of a file that is not ``taken``, in which names are folded.

    Examples
    --------
    >>> free_name("knee", {"knee", "knee_2"})
    'knee_3'
    """
    name = wanted = safe_name(wanted)
    number = 1
    while folded(name) in taken:
        number += 1
        ending = f"_{number}"
        name = safe_name(wanted[: LONGEST_NAME - len(ending)].rstrip(". ")) + ending
    return name
