"""DICOMDIR files, which list the files of a disc."""

from pathlib import Path

from napari_sslseg.core.scans.formats.dicom.datasets import reraise_dicom_errors
from napari_sslseg.core.scans.formats.dicom.headers import read_header


def listed_files(file: Path) -> tuple[list[Path], list[Path]]:
    """Return the present and the missing files that a DICOMDIR lists; of other files, the file.

    Names on a disc are in upper case, but often not in copies of it. Files outside the folder of
    the DICOMDIR are ignored.

    Raises
    ------
    VolumeError
        If the DICOMDIR is damaged.
    """
    if not file.name.upper().startswith("DICOMDIR"):
        return [file], []
    header = read_header(file)
    if "DirectoryRecordSequence" not in header.dataset:
        return [file], []
    present, missing = [], []
    folders: dict[Path, dict[str, Path]] = {}
    with reraise_dicom_errors(file, "list of files"):
        for record in header.dataset.DirectoryRecordSequence:
            parts = record.get("ReferencedFileID")
            if not parts:
                continue
            names = parts.split("\\") if isinstance(parts, str) else [str(part) for part in parts]
            if any(name in ("", ".", "..") or "/" in name for name in names):
                continue
            found = _find(file.parent, names, folders)
            if found is None:
                missing.append(file.parent.joinpath(*names))
            else:
                present.append(found)
    return (present, missing) if present else ([file], [])


def _find(folder: Path, names: list[str], folders: dict[Path, dict[str, Path]]) -> Path | None:
    """Find a file below a folder, ignoring the case of names.

    ``folders`` keeps the entries of the folders that were listed, by their names without case.
    """
    path = folder.joinpath(*names)
    if path.is_file():
        return path
    for name in names:
        if folder not in folders:
            entries = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
            folders[folder] = {entry.name.casefold(): entry for entry in entries}
        found = folders[folder].get(name.casefold())
        if found is None:
            return None
        folder = found
    return folder if folder.is_file() else None
