"""Lists of class names around label files: ``classes.json``, ``dataset.json``, and projects."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.errors import DataError
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

PROJECT = "project.json"
"""Record of a project of the window, in the folder around that of its label files."""

_MOST_PROJECT = 64 * 2**20
_MOST_BYTES = 16 * 2**20
_BOM = b"\xef\xbb\xbf"


def read_class_names(path: str | Path) -> dict[int, str]:
    """Read class names by label value, such as ``{"1": "liver"}``.

    Raises
    ------
    DataError
        If the file is missing or malformed.
    """
    if not Path(path).is_file():
        raise DataError(f"The file of class names {path} does not exist; check the path.")
    return {int(value): clean_name(name) for value, name in list_entries(Path(path)).items()}


def list_entries(path: Path) -> dict[str, Any]:
    """Read the entries of a list as they are; empty if there is no file.

    Raises
    ------
    DataError
        If the file is malformed.
    """
    if not path.exists():
        return {}
    content = _read_json(path)
    try:
        for value, name in content.items():
            int(value)
            clean_name(name)
    except (AttributeError, ValueError) as error:
        raise DataError(
            f'{path} must hold names by label value, such as {{"1": "liver"}}.'
        ) from error
    return dict(content)


def listed_segments(path: Path) -> list[Segment]:
    """Return the structures in the list that belongs to the folder of a label file."""
    path = Path(os.path.abspath(path))  # Without "..", which has no name.
    own = path.parent
    for place in _folders(path):
        if lists := own_lists(place):
            return [Segment(value, name) for value, name in _one_list(lists).items() if value]
        if (place / DATASET).is_file():
            return list(_of_dataset(place / DATASET))
        # The label files of a project are in a folder of its own folder.
        if place != own and (found := _of_project(place / PROJECT)):
            return found
    return []


def own_lists(folder: Path) -> list[Path]:
    """Return the lists of names in a folder itself."""
    if (folder / CLASS_LIST).is_file():
        return [folder / CLASS_LIST]
    # Early versions of the window exported lists such as labels_classes.json.
    return sorted(folder.glob(f"*_{CLASS_LIST}"))


def files_of_list(folder: Path) -> list[Path]:
    """Return the files that have the names of the list of a folder, whether it exists or not.

    They are in the folder itself, and in folders of labels in it that have no list of their own.
    """
    found = volume_files(folder)
    for inner in sorted(folder.iterdir()) if folder.is_dir() else ():
        if inner.is_dir() and _is_for_labels(inner):
            has_list = own_lists(inner) or (inner / DATASET).is_file()
            found += () if has_list else volume_files(inner)
    return found


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
    if _is_for_labels(path.parent):
        yield path.parent.parent


def _is_for_labels(folder: Path) -> bool:
    """Whether a folder such as ``labelsTr`` may have its list in the folder around it."""
    return not without_label_words(folder.name)


def _of_dataset(path: Path) -> Iterator[Segment]:
    """Structures in a ``dataset.json``: names by value (Decathlon), or values by name (nnU-Net)."""
    content = _read_json(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    for key, other in labels.items() if isinstance(labels, dict) else ():
        value, name = (key, other) if re.fullmatch(r"\d{1,10}", key) else (other, key)
        # Regions, which consist of several values, are not structures.
        if isinstance(value, str | int) and re.fullmatch(r"[1-9]\d{0,9}", str(value)):
            yield Segment(int(value), clean_name(name))


def _of_project(path: Path) -> list[Segment]:
    """Structures in the record of a project; none if the file is of another program or damaged."""
    try:
        content = parse_json(read_regular(path, _MOST_PROJECT)) if path.is_file() else None
    except (OSError, ValueError):
        return []
    if not isinstance(content, dict) or not isinstance(content.get("scans"), list):
        return []
    classes = content.get("classes")
    return [
        Segment(item["value"], clean_name(item["name"]))
        for item in (classes if isinstance(classes, list) else ())
        if isinstance(item, dict)
        and isinstance(item.get("value"), int)
        and isinstance(item.get("name"), str)
    ]


def _read_json(path: Path) -> Any:
    try:
        return parse_json(read_regular(path, _MOST_BYTES).removeprefix(_BOM))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read ({printable(error, 200)}); save it as JSON in UTF-8."
        ) from error
