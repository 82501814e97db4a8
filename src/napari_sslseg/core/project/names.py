"""Names of scans in a project. Each is also the name of a file, on every operating system."""

import re
import unicodedata
from collections.abc import Container

from napari_sslseg.core.common.text import fold_name

LONGEST_NAME = 100
"""Characters of a name."""

_MOST_BYTES = 200
# Characters that Windows forbids in file names, and control characters.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def is_name(text: str) -> bool:
    """Whether a text can be the name of a scan and thus of a file."""
    return text == safe_name(text)


def safe_name(text: str) -> str:
    """Replace what a file name cannot contain.

    Examples
    --------
    >>> safe_name("../a:b ")
    '_a_b'
    >>> safe_name("liver_01")
    'liver_01'
    """
    plain = unicodedata.normalize("NFC", text)
    plain = "".join("_" if unicodedata.category(char)[0] == "C" else char for char in plain)
    plain = _FORBIDDEN.sub("_", plain)[:LONGEST_NAME].lstrip(". ")
    while len(plain.encode()) > _MOST_BYTES:
        plain = plain[:-1]
    plain = plain.rstrip(". ")
    if _RESERVED.fullmatch(plain):
        plain = f"_{plain}"[:LONGEST_NAME]
    return plain or "scan"


def free_name(wanted: str, taken: Container[str]) -> str:
    """Make a file name that is not ``taken``, a container of folded names.

    They are folded by :func:`~napari_sslseg.core.common.text.fold_name`, since some file systems
    do not distinguish names that it makes equal.

    Examples
    --------
    >>> free_name("knee", {"knee", "knee_2"})
    'knee_3'
    """
    name = wanted = safe_name(wanted)
    number = 1
    while fold_name(name) in taken:
        number += 1
        ending = f"_{number}"
        name = safe_name(wanted[: LONGEST_NAME - len(ending)].rstrip(". ")) + ending
    return name
