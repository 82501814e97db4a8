"""A structure in a label file: its value, name and code."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.text import fold_name, printable
from napari_sslseg.core.scans.classes.class_codes import ABNORMAL, STRUCTURE, TISSUE, SegmentClass

_GENERIC = {f"SCT:{code[0]}" for code in (ABNORMAL, STRUCTURE, TISSUE)}
# "_" is a blank, as in kidney_left.
_BLANKS = "_\ufeff\u200b\0"
_PLACEHOLDER = re.compile(
    r"(class|label|mask|object|region|roi|segment|segmentation|structure|untitled)?-?\d*"
)


@dataclass(frozen=True)
class Segment:
    """A structure in a label file.

    Parameters
    ----------
    value : int
        Its label value, as in :func:`~napari_sslseg.core.scans.labels.load_labels`.
    name : str
        Its name; empty if the file names none.
    code : str
        Its code, see :func:`code_text`; empty if the file has none.
    """

    value: int
    name: str = ""
    code: str = ""


def clean_name(name: object) -> str:
    """Return a name in composed form (NFC), without byte order mark and surplus blanks."""
    text = unicodedata.normalize("NFC", str(name or "")).strip("\ufeff\0")
    return " ".join(text.split())


def fold_class(name: str) -> str:
    """Return a form that is equal for names of one class.

    Case, blanks, ``_`` and the encoding of accents do not distinguish classes.

    Examples
    --------
    >>> fold_class("Left Kidney") == fold_class("left_kidney ")
    True
    """
    return "".join(fold_name(name).translate(dict.fromkeys(map(ord, _BLANKS))).split())


def refuse_equal_names(names: Mapping[int, str]) -> None:
    """Refuse classes whose names are equal, also if only case, blanks or ``_`` differ.

    Label files of both could not be told apart by name.

    Raises
    ------
    ConfigError
        It names the first two.
    """
    values: dict[str, int] = {}
    for value in sorted(names):
        first = values.setdefault(fold_class(names[value]), value)
        if names[value] and first != value:
            said = [printable(names[number], 60) for number in (first, value)]
            raise ConfigError(
                f"The classes {first} and {value} have the same name, {said[0]} and {said[1]}; "
                "case and blanks do not distinguish names, so give one of them another name."
            )


def words_of_class(name: str) -> tuple[str, ...]:
    """Return the words of a name in alphabetical order.

    Examples
    --------
    >>> words_of_class("Left Kidney") == words_of_class("kidney_left")
    True
    """
    return tuple(sorted(re.findall(r"[^\W_]+", fold_name(name))))


def is_placeholder(name: str) -> bool:
    """Whether a name says nothing, such as ``Segment_1``, which 3D Slicer gives to new segments."""
    return _PLACEHOLDER.fullmatch(fold_class(name)) is not None


def code_text(
    kind: tuple[str, str], modifier: tuple[str, str] = ("", ""), region: tuple[str, str] = ("", "")
) -> str:
    """Return the code of a structure as text, such as ``SCT:64033007/SCT:7771000`` (left kidney).

    Parameters
    ----------
    kind, modifier, region : tuple of str
        Value and scheme of the codes for what it is, for its side, and for where it is. The old
        scheme SRT is converted to SNOMED CT.

    Returns
    -------
    str
        Empty for codes such as "tissue", which many programs store with everything.
    """
    what, side, where = map(_one_code, (kind, modifier, region))
    if not what or (what in _GENERIC and not where):
        return ""
    return what + (f"/{side}" if side else "") + (f"@{where}" if where else "")


def known_code(name: str) -> str:
    """Return the code of a common structure by its English name; empty for other names."""
    if not name.strip():
        return ""
    found = SegmentClass(name).coded()
    kind, side = found.type or TISSUE, found.side or ("", "", "")
    return code_text(kind[:2], side[:2])


def _one_code(code: tuple[str, str]) -> str:
    value, scheme = code
    if scheme in ("SRT", "SNM3", "99SDM"):
        from pydicom.sr.coding import snomed_mapping

        value, scheme = snomed_mapping["SRT"].get(value, value), "SCT"
    return f"{scheme}:{value}" if value else ""
