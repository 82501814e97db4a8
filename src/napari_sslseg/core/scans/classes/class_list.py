"""Lists of class names in a folder of label files: ``classes.json`` and ``dataset.json``."""

import json
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.errors import DataError, ScanWarning, SslsegError, StorageError
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.common.safe_files import read_regular
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.text import join_names, printable
from napari_sslseg.core.scans.classes.segment import Segment, clean_name, fold_class
from napari_sslseg.core.scans.formats.registry import format_of
from napari_sslseg.core.scans.matching.label_names import has_label_words, without_label_words
from napari_sslseg.core.scans.names import scan_name, volume_files

CLASS_LIST = "classes.json"
"""Names of the classes by label value, for all label files of a folder."""

DATASET = "dataset.json"
"""Description of a data set by the Medical Segmentation Decathlon and nnU-Net."""

_LOCK = ".classes.lock"
_PATIENCE = 5.0  # seconds
_MOST_BYTES = 16 * 2**20
_BOM = b"\xef\xbb\xbf"


def read_class_names(path: str | Path) -> dict[int, str]:
    """Read class names by label value, such as ``{"1": "liver"}``; empty if there is no file.

    Raises
    ------
    DataError
        If the file is malformed.
    """
    path = Path(path)
    if not path.exists():
        return {}
    content = _read_json(path)
    try:
        return {int(value): clean_name(name) for value, name in content.items()}
    except (AttributeError, ValueError) as error:
        raise DataError(
            f'{path} must hold names by label value, such as {{"1": "liver"}}.'
        ) from error


def write_class_list(
    folder: Path,
    names: Mapping[int, str],
    files: Sequence[Path],
    *,
    values: Iterable[int] = (),
    overwrite: bool = False,
) -> None:
    """Name the classes of label files in ``classes.json`` of their folder.

    Classes that the folder has already are kept. Nothing is written if it has all of them.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist.
    names : mapping of int to str
        Names by label value.
    files : sequence of Path
        The label files that are written.
    values : iterable of int
        Label values in these files. Those without a name must have none in the folder either.
    overwrite : bool
        Whether to replace a list of other classes, if all label files of the folder are replaced.

    Warns
    -----
    ScanWarning
        If the folder has label files whose values had no names until now.

    Raises
    ------
    StorageError
        If the folder gives a value another name, or a name another value.
    """
    names = {value: clean_name(name) for value, name in names.items() if value}
    if not names:
        return
    if _merge(folder, names, files, values, overwrite=overwrite) is None:
        return
    with _lock(folder):
        # Another process may have written the list meanwhile.
        merged = _merge(folder, names, files, values, overwrite=overwrite)
        if merged is not None:
            texts = {str(value): merged[value] for value in sorted(merged)}
            text = json.dumps(texts, indent=1, ensure_ascii=False) + "\n"
            write_text(folder / CLASS_LIST, text)


def _merge(
    folder: Path,
    names: Mapping[int, str],
    files: Sequence[Path],
    values: Iterable[int],
    *,
    overwrite: bool,
) -> dict[int, str] | None:
    """Names of the list with those of the files; None if it has them already."""
    listed = binding_names(folder, files, names, values, overwrite=overwrite)
    if problem := conflict(listed, names, values):
        raise StorageError(
            f"The label files in {folder} have other names of classes: the list there {problem}; "
            "choose another folder, or give the classes the same values."
        )
    missing = {value: name for value, name in names.items() if value not in listed}
    if not missing:
        return None
    nameless = _nameless(folder, files)
    if nameless and not listed:
        warnings.warn(
            f"{folder / CLASS_LIST} now names the values of all label files of its folder, also of "
            f"{join_names([file.name for file in nameless], 2)}; check that their values mean the "
            "same.",
            ScanWarning,
            stacklevel=4,
        )
    return {**listed, **missing}


def binding_names(
    folder: Path,
    files: Sequence[Path],
    names: Mapping[int, str],
    values: Iterable[int] = (),
    *,
    overwrite: bool = False,
) -> dict[int, str]:
    """Return the names that new label files of a folder must agree with, by label value.

    Parameters
    ----------
    folder, files, names, values, overwrite
        As in :func:`write_class_list`.

    Returns
    -------
    dict of int to str
        Names in the list of the folder; none if the new files contradict a list that is of no
        other file.
    """
    listed = {item.value: item.name for item in listed_segments(folder / CLASS_LIST)}
    new = {file.name for file in files}
    others = any(file.name not in new for file in volume_files(folder))
    replaceable = not others and (overwrite or not _own_lists(folder))
    return {} if replaceable and conflict(listed, names, values) else listed


def conflict(listed: Mapping[int, str], names: Mapping[int, str], values: Iterable[int]) -> str:
    """Say how names contradict those of a list, in a part of a sentence; empty if they do not.

    Parameters
    ----------
    listed, names : mapping of int to str
        Names by label value, in the list and in the files.
    values : iterable of int
        Label values in the files.
    """
    value_of = {fold_class(name): value for value, name in listed.items()}
    for value, name in sorted(names.items()):
        if fold_class(listed.get(value, name)) != fold_class(name):
            return f"has {_quote(listed[value])} for the value {value}, not {_quote(name)}"
        other = value_of.get(fold_class(name), value)
        if other != value:
            return f"has the value {other} for {_quote(name)}, not {value}"
    for value in sorted(int(value) for value in values):
        if value and value in listed and value not in names:
            return f"has {_quote(listed[value])} for the value {value}, which has no name here"
    return ""


def _quote(name: str) -> str:
    return printable(name, 60)


def _nameless(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Other label files of a folder that do not name their structures themselves."""
    new = {file.name for file in files}
    others = [file for file in volume_files(folder) if file.name not in new]
    if any(has_label_words(scan_name(file)) for file in files):
        # Scans may lie beside labels that have names of labels.
        others = [file for file in others if has_label_words(scan_name(file))]
    return [file for file in others if not _names_itself(file)]


def _names_itself(path: Path) -> bool:
    file_format = format_of(path)
    try:
        return bool(file_format and file_format.read_segments(path))
    except SslsegError:
        return False  # Nor can it be used as labels.


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time change the list of a folder; others wait."""
    end = time.monotonic() + _PATIENCE
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(run_lock(folder, _LOCK))
                break
            except StorageError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        yield


def listed_segments(path: Path) -> list[Segment]:
    """Return the structures in the list that belongs to the folder of a label file."""
    for place in _folders(path.absolute()):
        if lists := _own_lists(place):
            return [Segment(value, name) for value, name in _one_list(lists).items() if value]
        if (place / DATASET).is_file():
            return list(_of_dataset(place / DATASET))
    return []


def _own_lists(folder: Path) -> list[Path]:
    if (folder / CLASS_LIST).is_file():
        return [folder / CLASS_LIST]
    # Early versions of the window exported lists such as labels_classes.json.
    return sorted(folder.glob(f"*_{CLASS_LIST}"))


def _one_list(paths: Sequence[Path]) -> dict[int, str]:
    """Names in one or several lists of a folder, which must agree."""
    found: dict[int, str] = {}
    for path in paths:
        for value, name in read_class_names(path).items():
            if fold_class(found.setdefault(value, name)) != fold_class(name):
                raise DataError(
                    f"{paths[0]} and {path} name the value {value} differently; keep the list that "
                    "is right."
                )
    return found


def _folders(path: Path) -> Iterator[Path]:
    yield path.parent
    if not without_label_words(path.parent.name):
        yield path.parent.parent


def _of_dataset(path: Path) -> Iterator[Segment]:
    """Structures in a ``dataset.json``: names by value (Decathlon), or values by name (nnU-Net)."""
    content = _read_json(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    for key, other in labels.items() if isinstance(labels, dict) else ():
        value, name = (key, other) if re.fullmatch(r"\d{1,9}", key) else (other, key)
        # Regions, which consist of several values, are not structures.
        if isinstance(value, str | int) and re.fullmatch(r"[1-9]\d{0,8}", str(value)):
            yield Segment(int(value), clean_name(name))


def _read_json(path: Path) -> Any:
    try:
        return parse_json(read_regular(path, _MOST_BYTES).removeprefix(_BOM))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read ({printable(error, 200)}); save it as JSON in UTF-8."
        ) from error
