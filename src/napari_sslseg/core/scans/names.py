"""Find scan files, and derive the name of a scan from its file."""

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

from napari_sslseg.core.common.errors import DataError, StorageError
from napari_sslseg.core.scans.formats.registry import all_suffixes, scan_suffixes

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information")


def scan_name(path: str | Path) -> str:
    """Return the file name without its suffix: ``liver_01`` for ``liver_01.nii.gz``."""
    name = Path(path).name
    for suffix in all_suffixes():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def listed_name(name: str, scans: Collection[str]) -> str:
    """Return the name of a scan that a list of the user gives by its name or its file."""
    is_file = name not in scans and name.lower().endswith(all_suffixes())
    return scan_name(name) if is_file else name


def check_folder_name(folder: Path) -> None:
    """Refuse a new folder with the name of an image file, which was probably meant as a file.

    Raises
    ------
    StorageError
        If the name ends as that of a scan or a picture; a folder that exists may have any name.
    """
    name = folder.name.lower()
    suffix = next((end for end in (*all_suffixes(), *_PICTURES) if name.endswith(end)), None)
    if suffix is not None and not folder.is_dir():
        plain = folder.with_name(folder.name[: -len(suffix)] or "results")
        raise StorageError(
            f"{folder} has the name of a file, but the results are files in a folder; give a name "
            f"without {suffix}, such as {plain}."
        )


def is_system_file(path: Path) -> bool:
    """Return whether an operating system or another program made a file or folder for itself.

    Such as ``._scan.nii.gz``, which macOS writes beside each file on a foreign disk.
    """
    name = path.name.lower()
    return name.startswith((".", "~$")) or name in _SYSTEM or "__MACOSX" in path.parts


def volume_files(folder: Path) -> list[Path]:
    """Return the sorted files of a folder that each contain a whole scan, without system files."""
    if not folder.is_dir():
        return []
    suffixes = scan_suffixes()
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(suffixes) and not is_system_file(path)
    )


def files_below(folder: Path, suffixes: tuple[str, ...] | None = None) -> list[Path]:
    """Return the sorted volume files in subfolders, without system files and links to folders.

    Parameters
    ----------
    folder : Path
        The folder, whose own files are left out.
    suffixes : tuple of str, optional
        Suffixes of the files; those of scans by default.
    """
    suffixes = scan_suffixes() if suffixes is None else suffixes
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_system_file(Path(parent, name))]
        if Path(parent) != folder:
            paths = (Path(parent, name) for name in names if name.lower().endswith(suffixes))
            found += [path for path in paths if not is_system_file(path)]
    return sorted(found)


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
