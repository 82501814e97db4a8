"""Say whether the name of a label file speaks for its scan, or for another patient."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.scans.matching.label_names import (
    count_matching_parts,
    is_of_case,
    without_label_words,
)
from napari_sslseg.core.scans.matching.subjects import guess_subject, of_other_moments
from napari_sslseg.core.scans.names import scan_name

Relation = Literal["same", "unknown", "other", "other number"]
"""What names say.

``same``: the scan. ``unknown``: nothing. ``other``: the labels have a number, but not that of the
scan. ``other number``: the words are the same and only the numbers differ, as in ``case_03`` and
``case_07``.
"""

_FOLDERS = 3
"""Folders around a label file that may name its scan or patient."""


def relation_of_names(labels: Path, scan: str, path: Path | None, subject: str) -> Relation:
    """Compare the name of a label file, and of the folders around it, with those of a scan.

    Parameters
    ----------
    labels : Path
        The label file.
    scan : str
        Name of the scan.
    path : Path or None
        File or folder of the scan.
    subject : str
        The patient.

    Examples
    --------
    >>> relation_of_names(Path("case_03-seg.nii.gz"), "case_03", None, "case_03")
    'same'
    >>> relation_of_names(Path("case_07.nii.gz"), "case_03", None, "case_03")
    'other number'
    """
    name = scan_name(labels)
    owners = {scan, subject} | ({scan_name(path)} if path else set())
    owners |= {guess_subject(owner) for owner in owners}
    around = list(labels.absolute().parents)
    # A folder of scans and labels alike, such as that of the data set, says nothing.
    homes = list(path.absolute().parents)[:_FOLDERS] if path else []
    places = owners | {home.name for home in homes if home not in around and _numbers(home.name)}
    if any(_speaks_for(name, owner) for owner in owners) or any(
        folder.name == place or _speaks_for(folder.name, place)
        for folder in around[:_FOLDERS]
        for place in places
    ):
        return "same"
    own = "_".join(without_label_words(name)) or "".join(re.findall(r"\d{3,}", name))
    numbered = [owner for owner in owners if _numbers(owner)]
    if not _numbers(own) or not numbered:
        return "unknown"
    alike = {_words("_".join(without_label_words(owner))) for owner in numbered}
    return "other number" if _words(own) in alike else "other"


def warn_about_other_patient(
    labels: Path | Sequence[Path], scan: str, path: Path | None, subject: str
) -> None:
    """Warn if labels that were given for a scan are of another number, phase or visit.

    Parameters
    ----------
    labels : Path or sequence of Path
        The label file, or files of one structure each.
    scan, path, subject
        As in :func:`relation_of_names`.
    """
    for file in [labels] if isinstance(labels, Path) else labels:
        if relation_of_names(file, scan, path, subject) == "other number":
            warnings.warn(
                f"The labels {file} were given for the scan {printable(scan, 100)}, but their name "
                "is that of another one; check that they are of the same patient.",
                ScanWarning,
                stacklevel=3,
            )
            return
        if of_other_moments(scan_name(file), scan):
            warnings.warn(
                f"The labels {file} were given for the scan {printable(scan, 100)}, but their "
                "names are of different phases or visits of the patient; check that they are of "
                "the same scan.",
                ScanWarning,
                stacklevel=3,
            )
            return


def _speaks_for(labels: str, scan: str) -> bool:
    return (
        count_matching_parts(labels, scan) > 0
        or is_of_case(labels, scan)
        or guess_subject(labels) in (scan, guess_subject(scan))
    )


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d+", name)


def _words(name: str) -> str:
    """The name with a mark for each number."""
    return re.sub(r"\d+", "0", name.lower())
