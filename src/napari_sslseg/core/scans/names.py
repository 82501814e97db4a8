"""Find scan files, and read from their names which scan and which patient they hold."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from napari_sslseg.core.common.errors import DataError

NIFTI_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".hdr.gz", ".img.gz")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima", ".seg")
# Of a pair only the header stands for the scan.
SUFFIXES = (".nii.gz", ".nii", ".hdr.gz", ".hdr", *ITK_SUFFIXES)
"""Suffixes of the files that hold a whole scan each; DICOM is told by content."""

# Suffixes that name an acquisition or a channel of a subject, not another subject.
_ACQUISITION = re.compile(
    r"(?:(?<=\d)_\d{4}|[_-](?:frame\d+|ED|ES|T1w?|T1(?:ce|c|gd)|T2[wf]?|FLAIR|PD|DWI|ADC|CT|MR"
    r"|pre|post|native|arterial|venous|portal|delayed))$",
    re.IGNORECASE,
)


def scan_name(path: str | Path) -> str:
    """File name without the volume suffix: ``liver_01.nii.gz`` is ``liver_01``."""
    name = Path(path).name
    for suffix in (*SUFFIXES, *NIFTI_SUFFIXES, *DICOM_SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def guess_subject(name: str) -> str:
    """Patient that a scan of this name belongs to.

    A BIDS ``sub-…`` entity wins; else suffixes for a phase, contrast or channel are dropped, so
    that ``SC-HYP-01_ED`` and ``SC-HYP-01_ES`` are one patient.
    """
    bids = re.match(r"(sub-[A-Za-z0-9]+)(?:_|$)", name)
    if bids:
        return bids.group(1)
    while (shorter := _ACQUISITION.sub("", name)) != name and shorter:
        name = shorter
    return name


def volume_files(folder: Path) -> list[Path]:
    """Files directly in a folder that hold a whole scan each, by name; hidden ones are left out."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
    )


def label_paths(path: str | Path) -> dict[str, Path]:
    """A label file, or those of a folder, by the name of their scan; each name once.

    Raises
    ------
    DataError
        If there is none, or two have one name.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path.")
    files = [path]
    if path.is_dir():
        dicom = [file for file in path.iterdir() if file.name.lower().endswith(DICOM_SUFFIXES)]
        files = sorted([*volume_files(path), *dicom])
    if not files:
        raise DataError(f"The folder {path} holds no labels; put label files there.")
    return unique_by_name(files, scan_name, lambda file: file, path)


Item = TypeVar("Item")


def unique_by_name(
    items: Iterable[Item], name: Callable[[Item], str], file: Callable[[Item], Path], where: object
) -> dict[str, Item]:
    """Items by their names.

    Raises
    ------
    DataError
        If two have one name; it tells their files.
    """
    found: dict[str, Item] = {}
    for item in items:
        other = found.setdefault(name(item), item)
        if other != item:
            raise DataError(
                f"{file(other).name} and {file(item).name} in {where} have the same name but for "
                "the suffix; keep one of them."
            )
    return found
