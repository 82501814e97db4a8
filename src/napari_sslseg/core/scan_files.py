"""Find scan files, and read from their names which scan and which patient they hold."""

import re
from collections.abc import Iterable
from pathlib import Path

from napari_sslseg.core.errors import DataError

SUFFIXES = (".nii.gz", ".nii")

# Suffixes that name an acquisition or a channel of a subject, not another subject.
_ACQUISITION = re.compile(
    r"(?:(?<=\d)_\d{4}|[_-](?:frame\d+|ED|ES|T1w?|T1(?:ce|c|gd)|T2[wf]?|FLAIR|PD|DWI|ADC|CT|MR"
    r"|pre|post|native|arterial|venous|portal|delayed))$",
    re.IGNORECASE,
)


def scan_name(path: str | Path) -> str:
    """File name without the volume suffix: ``liver_01.nii.gz`` is ``liver_01``."""
    name = Path(path).name
    for suffix in SUFFIXES:
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


def find_volumes(folder: str | Path) -> list[Path]:
    """All volume files directly in ``folder``, sorted by name; hidden files are left out.

    Raises
    ------
    DataError
        If the folder is missing or holds no volume.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"The folder {folder} does not exist; check the path.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, but a folder of scans is needed.")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
    )
    if not paths and any((folder / "images").glob("*.nii*")):
        raise DataError(f"The folder {folder} holds no scans itself; use {folder / 'images'}.")
    if not paths:
        raise DataError(
            f"The folder {folder} holds no scans; put files ending in {' or '.join(SUFFIXES)} "
            "there."
        )
    return paths


def expand_paths(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are, folders as the volumes in them; each file once, in order."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found.update(dict.fromkeys(find_volumes(path)))
        elif path.exists():
            found[path] = None
        else:
            raise DataError(f"{path} does not exist; check the path.")
    return list(found)


def paths_by_name(path: str | Path) -> dict[str, Path]:
    """A file, or the files of a folder, by the name of their scan; each name once."""
    found: dict[str, Path] = {}
    for file in expand_paths([path]):
        other = found.setdefault(scan_name(file), file)
        if other != file:
            raise DataError(
                f"{other.name} and {file.name} in {path} have the same name but for the suffix; "
                "keep one of them."
            )
    return found
