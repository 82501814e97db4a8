"""Values in label files that mean "unknown", and lists of the classes that scans have labelled."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from numbers import Integral
from pathlib import Path

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.text import LONGEST, printable
from napari_sslseg.core.scans.classes.segment import fold_class
from napari_sslseg.core.scans.scan_lists import by_scan, read_rows, read_scan_list

LabelledClasses = Mapping[str, Sequence[int | str]]
"""Classes that are labelled in a scan, by value or name, by the name of the scan."""

LARGEST_VALUES = (2**8 - 1, 2**15 - 1, 2**16 - 1, 2**31 - 1)
"""Largest values of the types of label files, which programs use for unknown voxels."""

GAP = 4
"""A largest value is likely to mean "unknown" if it is this many times the next lower one."""


def check_unknown_value(ignore: int | None, background: int) -> None:
    """Check that unknown voxels and the background have different values.

    Raises
    ------
    DataError
        If they have not, or one of them is no whole number.
    """
    for name, value in (("ignore", ignore), ("background", background)):
        if not isinstance(value, Integral | None) or isinstance(value, bool):
            raise DataError(
                f"The value {name}={printable(repr(value), LONGEST)} is not a whole number; write "
                f"one, such as {name}={'255' if name == 'ignore' else '0'}."
            )
    if ignore is not None and ignore == background:
        what = "so nothing says where the background is" if ignore == 0 else "which is ambiguous"
        raise DataError(
            f"The value {ignore} means both unknown and background, {what}; give the value of the "
            "background with --background-value N (in Python background=N)."
        )


def free_values(values: Iterable[int], taken: Iterable[int]) -> dict[int, int]:
    """Return a different value that is not taken for each value: itself, or the next free one."""
    used, found = set(taken), {}
    for value in sorted(values):
        found[value] = next(number for number in count(value) if number not in used)
        used.add(found[value])
    return found


def likely_unknown(values: Collection[int]) -> int | None:
    """Return the value among label values other than 0 that seems to mean unknown, if any."""
    *others, largest = sorted(values) or [0]
    found = others and largest in LARGEST_VALUES and GAP * others[-1] < largest
    return largest if found else None


def refuse_likely_unknown(values: Collection[int]) -> None:
    """Refuse values of which the largest seems to mean "unknown".

    This is the largest value of a type, such as 255, far above the others. Masks with 0 and 255
    have no other value, so there 255 is a class.

    Parameters
    ----------
    values : collection of int
        Label values without the background.

    Raises
    ------
    DataError
        With the options for both meanings.
    """
    largest = likely_unknown(values)
    if largest is not None:
        others = sorted(set(values) - {largest})
        classes = ",".join(map(str, sorted(values)))
        raise DataError(
            f"The labels contain {largest} beside {', '.join(map(str, others))}. If {largest} "
            f"marks voxels whose class is unknown, give --ignore-value {largest} (in Python "
            f"ignore={largest}); if it is a class, give --classes {classes} (in Python "
            f"classes=({classes.replace(',', ', ')}))."
        )


def refuse_unknown_organ(values: Collection[int]) -> None:
    """Refuse masks of which the largest value seems to mean "unknown", if no organ is named.

    Parameters
    ----------
    values : collection of int
        Values of the masks without the background.

    Raises
    ------
    DataError
        With the options for both meanings.
    """
    largest = likely_unknown(values)
    if largest is not None:
        others = ",".join(map(str, sorted(set(values) - {largest})))
        raise DataError(
            f"The masks contain {largest} beside {others}. If {largest} marks voxels whose class "
            f"is unknown, name the organ with --organ {others} (in Python organ=({others},)); if "
            f"it is a part of the organ, give --organ {others},{largest}."
        )


def read_labelled_classes(path: str | Path) -> dict[str, tuple[int | str, ...]]:
    """Read which classes are labelled in which scan.

    Parameters
    ----------
    path : path-like
        JSON such as ``{"p07": [1, "liver"]}``, or a table in UTF-8 with the columns ``scan`` and
        ``classes``, such as ``p07,1 2``: classes by value, or by name where the label files name
        them, separated by blanks, commas or semicolons. All classes are labelled in scans that it
        does not name.

    Raises
    ------
    DataError
        If the file is missing or malformed.
    """
    found = read_scan_list(
        path,
        "labelled classes",
        "at least one class by scan: a table with the columns scan and classes, or JSON such as "
        '{"p07": [1, 2]}',
        is_value=_are_classes,
        read_table=_read_table,
    )
    return {name: tuple(classes) for name, classes in found.items()}


def class_values(
    labelled: LabelledClasses, names: Mapping[int, str], scans: Collection[str]
) -> dict[str, tuple[int, ...]]:
    """Return the values of labelled classes by scan.

    Parameters
    ----------
    labelled : mapping of str to sequence of int or str
        Classes by value or name.
    names : mapping of int to str
        Names of the classes by value.
    scans : collection of str
        Names of all scans.

    Raises
    ------
    DataError
        If a scan or a name of a class does not exist.
    """
    values = {fold_class(name): value for value, name in names.items()}
    found: dict[str, tuple[int, ...]] = {}
    for scan, classes in by_scan(labelled, scans, "labelled classes").items():
        listed: list[int] = []
        for item in classes:
            found_here = [item] if isinstance(item, int) else _named_values(item, values)
            if None in found_here:
                raise DataError(
                    f"The list of labelled classes names the class {item} for {scan}, but no label "
                    "file does; give its value, or correct the list."
                )
            listed += [value for value in found_here if value is not None]
        found[scan] = tuple(listed)
    return found


def _named_values(text: str, values: Mapping[str, int]) -> list[int | None]:
    """Values of one class, whose name may contain blanks, or of several between blanks."""
    parts = [text] if fold_class(text) in values else text.split()
    return [values.get(fold_class(part), int(part) if part.isdecimal() else None) for part in parts]


def _read_table(text: str) -> dict[str, list[int | str]]:
    """Classes by scan in a table with the columns scan and classes."""
    found: dict[str, list[int | str]] = {}
    for _, row in read_rows(text, ("scan", "classes")):
        scan, classes = row["scan"], row["classes"]
        # A class name may contain blanks.
        numbers = re.fullmatch(r"[\d\s;,]*", classes) is not None
        parts = re.split(r"[\s;,]+" if numbers else r"\s*[;,]\s*", classes.strip(";, "))
        if scan in found:
            raise ValueError(f"{scan} occurs twice")
        found[scan] = [int(part) if part.isdecimal() else part for part in parts if part]
    return found


def _are_classes(found: object) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and all(isinstance(item, str) or (type(item) is int and item > 0) for item in found)
    )
