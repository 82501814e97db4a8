"""Annotated slices: those of a scan on which all structures are labelled."""

import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.common.text import LONGEST, did_you_mean, printable
from napari_sslseg.core.scans.scan_lists import read_scan_list

Annotated = tuple[int, ...] | Literal["labelled", "all"] | None
"""Annotated slices: their numbers, those that show any label, or all; None is all by default."""


WORDS: tuple[Literal["labelled"], Literal["all"]] = ("labelled", "all")


def as_annotated(annotated: Any, name: str = "") -> Annotated:
    """Return annotated slices as a tuple, or as one of the words.

    Parameters
    ----------
    annotated : iterable of int, "labelled", "all" or None
        As in :class:`LabelledScan`.
    name : str
        Name of the scan, for messages.

    Raises
    ------
    DataError
        If it is another word, or contains anything but whole numbers.
    """
    if annotated is None:
        return None
    for word in WORDS:
        if isinstance(annotated, str) and annotated == word:
            return word
    of = f" of {name}" if name else ""
    what = f"The annotated slices{of} are {printable(repr(annotated), LONGEST)}"
    if isinstance(annotated, Path) or str(annotated).lower().endswith(".json"):
        raise DataError(
            f"{what}, which is a file; read it first, in Python "
            "annotated=core.read_annotated(file)."
        )
    if isinstance(annotated, str):
        hint = did_you_mean(annotated, WORDS)
        raise DataError(
            f"{what}; write 'labelled' (slices with any label), 'all', "
            f"or the numbers of the slices, such as (3, 9).{f' {hint}' if hint else ''}"
        )
    is_list = isinstance(annotated, Iterable) and not isinstance(annotated, Mapping)
    given = list(annotated) if is_list else [annotated]
    numbers = [number for number in given if _is_whole(number)]
    if not is_list or len(numbers) < len(given):
        raise DataError(
            f"{what}; write the numbers of the slices from 0, such as "
            "(3, 9), which must be whole, or 'labelled' or 'all'."
        )
    return tuple(int(number) for number in numbers)


def _is_whole(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def annotated_of_all(annotated: Any) -> Literal["labelled", "all"] | None:
    """Return which slices of all scans are annotated, if no list by scan says it.

    Raises
    ------
    DataError
        If these are slices of one scan, or no annotated slices.
    """
    found = as_annotated(annotated)
    if isinstance(found, tuple):
        raise DataError(
            f"The annotated slices {printable(found, LONGEST)} are those of one scan; write them "
            'by the name of the scan, such as {"patient_07": (3, 9)}.'
        )
    return found


def annotated_slices(slices: np.ndarray, annotated: Annotated, name: str) -> np.ndarray:
    """Return which slices are annotated, shape (S,), bool.

    Parameters
    ----------
    slices : ndarray, shape (S, H, W)
        Label values, slice by slice.
    annotated : tuple of int, "labelled", "all" or None
        As in :class:`LabelledScan`.
    name : str
        Name of the scan, for messages.

    Raises
    ------
    DataError
        If a slice does not exist.
    """
    n_slices = len(slices)
    if annotated is None or annotated == "all":
        return np.ones(n_slices, bool)
    if annotated == "labelled":
        return np.asarray(slices.any(axis=(1, 2)))
    bad = [index for index in annotated if not 0 <= index < n_slices]
    if bad:
        raise DataError(
            f"Slice {bad[0]} of {name} is marked as annotated, but its slices are numbered 0 to "
            f"{n_slices - 1}; correct the list of annotated slices."
        )
    mask = np.zeros(n_slices, bool)
    mask[list(annotated)] = True
    return mask


def are_single_slices(labelled: int, runs: int, slices: int) -> bool:
    """Whether labels seem to be on single slices, since structures extend over adjacent ones.

    Parameters
    ----------
    labelled, runs, slices : int
        Number of slices with labels, of runs of adjacent ones, and of all slices.
    """
    return 0 < labelled < 2 * runs and 2 * labelled < slices


def read_annotated(path: str | Path, plane: Plane = "axial") -> dict[str, tuple[int, ...]]:
    """Read a list of annotated slices.

    Parameters
    ----------
    path : path-like
        JSON file, such as ``{"patient_07": [3, 9, 12]}``: indices of the annotated slices, from 0,
        along the slicing plane of the display grid (for axial slices, 0 is the most superior). An
        entry may name that plane: ``{"patient_07": {"plane": "coronal", "slices": [3, 9, 12]}}``.
    plane : {"axial", "coronal", "sagittal"}
        The slicing plane of the training.

    Raises
    ------
    DataError
        If the file is missing or malformed, names a scan twice, or names another plane.
    """
    found = _read_entries(path)
    for name, entry in found.items():
        if isinstance(entry, dict) and entry["plane"] != plane:
            raise DataError(
                f"The slices of {name} in {path} are numbered along the {entry['plane']} plane, "
                f"not the {plane} plane; use that plane (--plane {entry['plane']}, in Python "
                f"plane={entry['plane']!r})."
            )
    return {
        name: tuple(entry["slices"] if isinstance(entry, dict) else entry)
        for name, entry in found.items()
    }


def check_annotated(path: Path) -> None:
    """Check that slices can be added to a list, which need not exist.

    Raises
    ------
    DataError
        If the file is no list of annotated slices.
    """
    if path.exists():
        _read_entries(path)


def add_annotated(path: Path, slices: Mapping[str, Sequence[int]], plane: Plane) -> None:
    """Add slices to a list of annotated slices, which need not exist; other scans stay in it.

    Parameters
    ----------
    path : Path
        The list, see :func:`read_annotated`.
    slices : mapping of str to sequence of int
        Numbers of the slices by scan.
    plane : {"axial", "coronal", "sagittal"}
        The plane along which they are numbered. Axial ones, the default of a training, are written
        without it.
    """
    entries: dict[str, Any] = _read_entries(path) if path.exists() else {}
    for name, numbers in slices.items():
        listed = [int(number) for number in numbers]
        entries[name] = listed if plane == "axial" else {"plane": plane, "slices": listed}
    write_text(path, json.dumps(entries), follow_link=True)


def _read_entries(path: str | Path) -> dict[str, Any]:
    return read_scan_list(
        path,
        "annotated slices",
        'slice numbers by scan, such as {"patient_07": [3, 9, 12]}',
        is_value=lambda entry: (
            _are_slices(entry)
            or (
                isinstance(entry, dict)
                and set(entry) == {"plane", "slices"}
                and entry["plane"] in PLANE_AXIS
                and _are_slices(entry["slices"])
            )
        ),
    )


def _are_slices(slices: Any) -> bool:
    return isinstance(slices, list) and all(type(index) is int for index in slices)
