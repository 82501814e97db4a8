"""Where predictions may be written: not beside their scans, and under names that are possible."""

import errno
from collections.abc import Iterable
from pathlib import Path

from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.scans.series import Series


def refuse_folder_of_scans(series: Iterable[Series], out: Path) -> None:
    """Refuse to write predictions beside scans, where they would count as scans later.

    Raises
    ------
    StorageError
        If the folder directly holds one of the scans.
    """
    folder = out.resolve()
    for item in series:
        if any(file.parent.resolve() == folder for file in item.files):
            raise StorageError(
                f"{out} holds scans to segment, such as {printable(item.name, 100)}, and "
                "predictions beside them would later be taken for scans or replace them; choose "
                "another --out."
            )


def nameable_scans(
    series: Iterable[Series], out: Path, suffix: str
) -> tuple[list[Series], list[str]]:
    """Return the scans whose predictions can have their names, and a sentence for each other."""
    there = next(path for path in (out, *out.absolute().parents) if path.is_dir())
    possible, failed = [], []
    for item in series:
        try:
            (there / f"{item.name}{suffix}").lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                failed.append(
                    f"{item.path} has a name that is too long for a prediction in {out}; give it a "
                    "shorter one."
                )
                continue
        possible.append(item)
    return possible, failed
