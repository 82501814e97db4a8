"""Lists of class names in a folder of label files: ``classes.json`` and ``dataset.json``."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.errors import DataError, StorageError
from napari_sslseg.core.common.safe_files import read_regular
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.scans.classes.segment import Segment, clean_name, fold_class
from napari_sslseg.core.scans.matching.label_names import without_label_words
from napari_sslseg.core.scans.names import volume_files

CLASS_LIST = "classes.json"
"""Names of the classes by label value, for all label files of a folder."""

DATASET = "dataset.json"
"""Description of a data set by the Medical Segmentation Decathlon and nnU-Net."""

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
    folder: Path, names: Mapping[int, str], files: Sequence[Path], *, overwrite: bool = False
) -> None:
    """Write ``classes.json`` for label files in a folder.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist.
    names : mapping of int to str
        Names by label value.
    files : sequence of Path
        The label files that are written.
    overwrite : bool
        Whether to replace another list, if all label files of the folder are replaced too.

    Raises
    ------
    StorageError
        If the folder has a list of other names.
    """
    path = folder / CLASS_LIST
    found = read_class_names(path)
    merged = {**found, **names}
    if any(merged[value] != name for value, name in found.items()):
        others = {file.name for file in volume_files(folder)} - {file.name for file in files}
        if others or not overwrite:
            raise StorageError(
                f"{path} has other names of classes; choose another folder for these predictions."
            )
        merged = dict(names)
    if merged != found:
        texts = {str(value): merged[value] for value in sorted(merged)}
        write_text(path, json.dumps(texts, indent=1, ensure_ascii=False) + "\n")


def listed_segments(path: Path) -> list[Segment]:
    """Return the structures in the list that belongs to the folder of a label file."""
    for place in _folders(path.absolute()):
        # The window exports lists such as labels_classes.json.
        lists = sorted(place.glob(f"*_{CLASS_LIST}"))
        lists = [place / CLASS_LIST] if (place / CLASS_LIST).is_file() else lists
        if lists:
            return [Segment(value, name) for value, name in _one_list(lists).items() if value]
        if (place / DATASET).is_file():
            return list(_of_dataset(place / DATASET))
    return []


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
