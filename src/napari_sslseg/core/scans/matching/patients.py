"""The patients of scans: guessed together, or named by the user in a table."""

import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import TypeVar

from napari_sslseg.core.common.errors import DataError, ScanWarning, check_type
from napari_sslseg.core.common.text import count_phrase, fold_name, printable
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.matching.subjects import (
    describe_subjects,
    guess_subjects,
)
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.scan_lists import read_rows, read_scan_list
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Volume

AnyScan = TypeVar("AnyScan", bound=Series | Volume | LabelledScan)
Patients = str | Path | Mapping[str, str] | Callable[[str], str]
"""Who is one patient: a table, a mapping from scan to patient, or a function of the name."""

COLUMNS = ("scan", "patient")
"""Columns of a table of patients."""


def guess_together(scans: Iterable[AnyScan]) -> list[AnyScan]:
    """Guess the patients of scans from all names together; see :func:`guess_subjects`.

    Parameters
    ----------
    scans : iterable of Series, Volume or LabelledScan
        Scans. A patient that a header or the user names stays.

    Returns
    -------
    list
        The same scans in the same order, with their subjects.
    """
    scans = list(scans)
    numbers, places = _guessed(scans)
    guess = guess_subjects(places)
    for number, subject in zip(numbers, guess.subjects, strict=True):
        scans[number] = with_subject(scans[number], subject, guessed=True)
    return scans


def describe_patients(scans: Iterable[Series | Volume | LabelledScan]) -> str:
    """Describe how many patients the scans are of, and what is doubtful about that.

    Returns
    -------
    str
        Such as "9 scans of 9 patients: each scan is taken for a patient of its own."
    """
    scans = list(scans)
    numbers, places = _guessed(scans)
    doubts = list(guess_subjects(places).doubts)
    for note in dict.fromkeys(map(_header_doubt, scans)):
        count = sum(_header_doubt(scan) == note for scan in scans)
        if note:
            doubts.append(f"{count_phrase(count, 'scan')}: {note}.")
    subjects = [_plain(scan).subject for scan in scans]
    known = {subject for n, subject in enumerate(subjects) if n not in set(numbers)}
    return describe_subjects(subjects, doubts, known)


def with_subject(scan: AnyScan, subject: str, *, guessed: bool = False) -> AnyScan:
    """Return a scan as one of a patient.

    Parameters
    ----------
    scan : Series, Volume or LabelledScan
        The scan.
    subject : str
        The patient.
    guessed : bool
        Whether a guess from more names may replace it.
    """
    if isinstance(scan, LabelledScan):
        return replace(scan, scan=with_subject(_plain(scan), subject, guessed=guessed))
    assert isinstance(scan, Series | Volume)
    return replace(scan, subject=subject, subject_guess=subject if guessed else None)


def with_patients(scans: Iterable[AnyScan], patients: Patients) -> list[AnyScan]:
    """Set the patients of scans, in place of the guess.

    Parameters
    ----------
    scans : iterable of Series, Volume or LabelledScan
        Scans, such as those of :func:`~napari_sslseg.core.scans.find.list_series`.
    patients : path-like, mapping or callable
        A table, see :func:`read_patients`; patients by name of the scan; or a function that
        returns the patient for a name.

    Returns
    -------
    list
        The same scans in the same order.

    Raises
    ------
    DataError
        If a scan is not named, or a name fits several scans with different files.
    """
    write = "a list of scans, such as core.list_series(folder)"
    several = isinstance(scans, Iterable) and not isinstance(scans, str)
    check_type(scans, Iterable if several else (), "scans", write)
    scans = list(scans)
    for scan in scans:
        check_type(scan, (Series, Volume, LabelledScan), "A scan", write)
    if callable(patients):
        return [with_subject(scan, _checked(patients(scan.name), scan)) for scan in scans]
    check_type(
        patients, (str, Path, Mapping), "patients", "a table, or patients by scan as {'p0': 'anna'}"
    )
    is_table = isinstance(patients, str | Path)
    table = read_patients(patients) if isinstance(patients, str | Path) else dict(patients)
    found: dict[int, str] = {}
    unknown = []
    for key, patient in table.items():
        fit = [number for number, scan in enumerate(scans) if _is_named(scan, key)]
        places = {_place(scans[number]) for number in fit}
        if len(places) > 1:
            raise DataError(
                f"{key} in the table of patients fits {len(places)} scans, such as "
                f"{min(places)}; write it with its folder, such as "
                f"{min(places).parent.name}/{min(places).name}."
            )
        if not fit:
            unknown.append(key)
        for number in fit:
            if found.setdefault(number, patient) != patient:
                raise DataError(
                    f"The table of patients names {found[number]} and {patient} for the scan "
                    f"{scans[number].name}; keep one."
                )
    missing = [scan.name for number, scan in enumerate(scans) if number not in found]
    if missing:
        add = "add a line for each" if is_table else "add an entry for each"
        hint = ""
        for key in unknown:
            if alike := get_close_matches(str(key), missing, n=1):
                hint = f" It names {printable(key, 100)}, which is no scan here; is it {alike[0]}?"
                break
        raise DataError(
            f"The table of patients lacks {len(missing)} of {len(scans)} scans, such as "
            f"{missing[0]}; {add}.{hint}"
        )
    if unknown:
        warnings.warn(
            f"The table of patients has {count_phrase(len(unknown), 'line')} for no scan here, "
            f"such as {unknown[0]}.",
            ScanWarning,
            stacklevel=2,
        )
    named = [_checked(found[number], scan) for number, scan in enumerate(scans)]
    # Case and the encoding of accents distinguish no patients.
    spelling: dict[str, str] = {}
    named = [spelling.setdefault(fold_name(patient), patient) for patient in named]
    return list(map(with_subject, scans, named))


def read_patients(path: str | Path) -> dict[str, str]:
    """Read a table of patients.

    Parameters
    ----------
    path : path-like
        Text file in UTF-8 with the columns ``scan`` and ``patient``, separated by commas,
        semicolons or tabs; other columns are ignored. A scan is its name, its file name, or its
        file with folders, such as ``s0000/ct.nii.gz``.

    Returns
    -------
    dict of str to str
        Patients by scan.

    Raises
    ------
    DataError
        If the file is missing or malformed, or names two patients for a scan.
    """
    found = read_scan_list(
        path,
        "patients",
        "a table with the columns scan and patient, such as liver_01,patient_1",
        is_value=bool,
        read_table=_read_table,
        json=False,
    )
    if not found:
        raise DataError(f"{path} names no scan; add a line such as liver_01,patient_1.")
    return found


def _read_table(text: str) -> dict[str, str]:
    """Patients by scan in a table with the columns scan and patient."""
    found: dict[str, str] = {}
    for number, row in read_rows(text, COLUMNS):
        scan, patient = row["scan"], row["patient"]
        if not scan or not patient:
            raise ValueError(f"line {number} lacks the {'patient' if scan else 'scan'}")
        if found.setdefault(scan, patient) != patient:
            raise ValueError(f"it names two patients for {scan}, {found[scan]} and {patient}")
    return found


def _plain(scan: Series | Volume | LabelledScan) -> Series | Volume:
    """Return the scan of a labelled scan, with its header read."""
    if not isinstance(scan, LabelledScan):
        return scan
    opened = scan.opened().scan
    assert isinstance(opened, Series | Volume)
    return opened


def _guessed(scans: Sequence[AnyScan]) -> tuple[list[int], list[PurePath]]:
    """Numbers and places of the scans whose patient is only guessed."""
    plain = [_plain(scan) for scan in scans]
    numbers = [n for n, scan in enumerate(plain) if scan.subject == scan.subject_guess]
    return numbers, [_place(scans[number]) for number in numbers]


def _place(scan: Series | Volume | LabelledScan) -> PurePath:
    plain = _plain(scan)
    return PurePath(plain.path or plain.name)


def _header_doubt(scan: Series | Volume | LabelledScan) -> str:
    plain = _plain(scan)
    return plain.subject_note if isinstance(plain, Series) else ""


def _is_named(scan: Series | Volume | LabelledScan, key: str) -> bool:
    """Whether a line of a table means a scan: by its name, or the end of its path."""
    if scan.name == key or printable(scan.name) == key:
        return True  # Characters that no table can contain are written as they are printed.
    wanted = unicodedata.normalize("NFC", key).replace("\\", "/").strip("/")
    place = unicodedata.normalize("NFC", _place(scan).as_posix())
    name = unicodedata.normalize("NFC", scan.name)
    without_suffix = f"{place.rpartition('/')[0]}/{scan_name(place)}"
    return wanted == name or any(
        f"/{path}".endswith(f"/{wanted}") for path in (place, without_suffix)
    )


def _checked(patient: str, scan: Series | Volume | LabelledScan) -> str:
    if not isinstance(patient, str) or not patient.strip():
        raise DataError(f"The patient of {scan.name} is {patient!r}; give a name.")
    return patient.strip()
