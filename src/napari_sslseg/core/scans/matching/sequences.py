"""Choose one sequence, channel or volume of each patient by the end of its name."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence

from napari_sslseg.core.common.errors import DataError, ScanWarning
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.scans.labelled import scan_subject
from napari_sslseg.core.scans.matching.label_names import ends_with_parts
from napari_sslseg.core.scans.matching.patients import AnyScan, guess_together
from napari_sslseg.core.scans.matching.subjects import ends_with_sequence

# The hash of a series ends its name, or comes before its plane and phase.
_HASH = re.compile(r"^(patient-[0-9a-f]{8}_.+?)_[0-9a-f]{6}(?=_|$)")


def choose_sequence(scans: Sequence[AnyScan], sequence: str) -> list[AnyScan]:
    """Choose the scans whose names end with a sequence, channel or number of a volume.

    Where no name of a folder ends so, each patient has one scan, and no name ends with another
    sequence, all scans are chosen. Patients without the sequence are left out. A warning tells of
    both.

    Parameters
    ----------
    scans : sequence of Series, Volume or LabelledScan
        Scans of a folder, several of each patient.
    sequence : str
        End of the names, such as ``t1``, ``T1w`` or ``0000``; case does not matter. For DICOM, the
        end of the description of the series.

    Raises
    ------
    DataError
        If no name ends so, and it is not clear that all scans are of this sequence.
    """
    found = [scan for scan in scans if ends_with_parts(name_of_sequence(scan.name), sequence)]
    scans_of = Counter(map(scan_subject, guess_together(scans)))
    if not found:
        other = any(_has_other_sequence(scan.name, sequence) for scan in scans)
        names = join_names([scan.name for scan in scans], 4)
        if other or max(scans_of.values(), default=2) > 1:
            raise DataError(f"No scan has a name that ends with {sequence}; there are {names}.")
        warnings.warn(
            f"No scan has a name that ends with {sequence}, but each patient has one scan, so all "
            f"are used: {names}.",
            ScanWarning,
            stacklevel=3,
        )
        return list(scans)
    having = set(map(scan_subject, found))
    lacking = [scan for scan in guess_together(scans) if scan_subject(scan) not in having]
    if lacking:
        warnings.warn(
            f"Patients without a scan whose name ends with {sequence} are left out: "
            f"{join_names(sorted({scan.name for scan in lacking}))}.",
            ScanWarning,
            stacklevel=3,
        )
    return found


def has_several_sequences(scans: Sequence[AnyScan]) -> bool:
    """Return whether a patient has several scans."""
    counts = Counter(map(scan_subject, guess_together(scans)))
    return max(counts.values(), default=0) > 1


def name_of_sequence(name: str) -> str:
    """Return the name of a scan without the hash of a DICOM series, which differs by patient."""
    return _HASH.sub(r"\1", name)


def _has_other_sequence(name: str, sequence: str) -> bool:
    """Whether a name ends with a word for a sequence, or with a number as for a channel."""
    last = re.split(r"[\W_]+", name)[-1]
    as_channel = sequence.isdecimal() and last.isdecimal() and len(last) == len(sequence)
    return as_channel or ends_with_sequence(name)
