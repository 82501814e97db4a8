"""DICOMDIR: the list of the files on a disc."""

from pathlib import Path

from napari_sslseg.core.scans.formats.dicom.files import reraise_dicom_errors
from napari_sslseg.core.scans.formats.dicom.headers import read_header


def listed_files(file: Path) -> tuple[list[Path], list[Path]]:
    """The file itself, or those that a DICOMDIR lists, and those that it lists in vain.

    Names on a disc are in capitals; copies of it often are not. Files outside of the folder of the
    list are not looked at, whatever it says.

    Raises
    ------
    VolumeError
        If the list is damaged.
    """
    if not file.name.upper().startswith("DICOMDIR"):
        return [file], []
    header = read_header(file)
    if "DirectoryRecordSequence" not in header.dataset:
        return [file], []
    there, lost = [], []
    with reraise_dicom_errors(file, "list of files"):
        for record in header.dataset.DirectoryRecordSequence:
            parts = record.get("ReferencedFileID")
            if not parts:
                continue
            names = parts.split("\\") if isinstance(parts, str) else [str(part) for part in parts]
            if any(name in ("", ".", "..") or "/" in name for name in names):
                continue
            found = _find(file.parent, names)
            if found is None:
                lost.append(file.parent.joinpath(*names))
            else:
                there.append(found)
    return (there, lost) if there else ([file], [])


def _find(folder: Path, names: list[str]) -> Path | None:
    """A file below a folder, whatever the case of its names."""
    path = folder.joinpath(*names)
    if path.is_file():
        return path
    for name in names:
        if not folder.is_dir():
            return None
        same = [entry for entry in folder.iterdir() if entry.name.casefold() == name.casefold()]
        if not same:
            return None
        folder = same[0]
    return folder if folder.is_file() else None
