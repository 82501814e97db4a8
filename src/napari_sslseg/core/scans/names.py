"""Find scan files, and derive the name of a scan from its file."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.scans.formats.registry import DICOM, all_suffixes, scan_suffixes


def scan_name(path: str | Path) -> str:
    """Return the file name without its suffix: ``liver_01`` for ``liver_01.nii.gz``."""
    name = Path(path).name
    for suffix in all_suffixes():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def volume_files(folder: Path) -> list[Path]:
    """Return the sorted files of a folder that each contain a whole scan, without hidden files."""
    if not folder.is_dir():
        return []
    suffixes = scan_suffixes()
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(suffixes) and not path.name.startswith(".")
    )


def label_paths(path: str | Path) -> dict[str, Path]:
    """Return label files by the name of their scan.

    Parameters
    ----------
    path : path-like
        A label file, or a folder of label files.

    Raises
    ------
    DataError
        If there are none, or two have the same name.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path.")
    files = [path]
    if path.is_dir():
        dicom = [file for file in path.iterdir() if file.name.lower().endswith(DICOM.suffixes)]
        files = sorted([*volume_files(path), *dicom])
    if not files:
        raise DataError(f"The folder {path} holds no labels; put label files there.")
    return unique_by_name(files, scan_name, lambda file: file, path)


Item = TypeVar("Item")


def unique_by_name(
    items: Iterable[Item], name: Callable[[Item], str], file: Callable[[Item], Path], where: object
) -> dict[str, Item]:
    """Return items by name.

    Raises
    ------
    DataError
        If two items have the same name; the message names their files.
    """
    found: dict[str, Item] = {}
    for item in items:
        other = found.setdefault(name(item), item)
        if other != item:
            raise DataError(
                f"{file(other).name} and {file(item).name} in {where} have the same name except "
                "for the suffix; keep one of them."
            )
    return found
