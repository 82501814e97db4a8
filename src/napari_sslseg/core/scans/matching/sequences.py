"""Choose one sequence, channel or volume of each case by the end of its name."""

from collections.abc import Sequence

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.scans.matching.label_names import ends_with_parts
from napari_sslseg.core.scans.series import Series


def choose_sequence(scans: Sequence[Series], sequence: str) -> list[Series]:
    """Choose the scans whose names end with a sequence, channel or number of a volume.

    Parameters
    ----------
    scans : sequence of Series
        Scans, several of each case.
    sequence : str
        End of the names, such as ``t1``, ``T1w`` or ``0000``; case does not matter.

    Raises
    ------
    DataError
        If no name ends so.
    """
    found = [scan for scan in scans if ends_with_parts(scan.name, sequence)]
    if not found:
        raise DataError(
            f"No scan has a name that ends with {sequence}; there are "
            f"{join_names([scan.name for scan in scans], 4)}."
        )
    return found
