"""Read which structures a label file holds: from the file itself, or from a list beside it."""

import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.safe_files import read_regular
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.scans.classes.segment import Segment, clean_name
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.formats.image_file import check_present
from napari_sslseg.core.scans.formats.registry import DICOM, format_of
from napari_sslseg.core.scans.label_guess import without_label_words

CLASS_LIST = "classes.json"
"""Names of the classes by label value, for all label files of a folder."""

DATASET = "dataset.json"
"""Description of a data set by the Medical Segmentation Decathlon and nnU-Net."""

_MOST_BYTES = 16 * 2**20
_BOM = b"\xef\xbb\xbf"


def read_segments(path: str | Path) -> tuple[Segment, ...]:
    """Read the structures of a label file; no voxels are read.

    Parameters
    ----------
    path : path-like
        A label file. DICOM segmentations, structure sets and segmentations of 3D Slicer name their
        structures. For other files, ``classes.json`` or the ``dataset.json`` of nnU-Net in their
        folder is read, or in the folder around a folder such as ``labelsTr``.

    Returns
    -------
    tuple of Segment
        By label value, without the background; empty if nothing names them.

    Raises
    ------
    SslsegError
        If the file or the list cannot be read.
    """
    path = Path(path)
    check_present(path)
    file_format = DICOM if is_dicom(path) else format_of(path)
    found = file_format.read_segments(path) if file_format else ()
    found = found or _listed(path)
    return tuple(sorted((item for item in found if item.value), key=attrgetter("value")))


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


def _listed(path: Path) -> list[Segment]:
    """Structures in a list that belongs to the folder of a label file."""
    for place in _folders(path.absolute()):
        if (place / CLASS_LIST).is_file():
            names = read_class_names(place / CLASS_LIST)
            return [Segment(value, name) for value, name in names.items() if value]
        if (place / DATASET).is_file():
            return list(_of_dataset(place / DATASET))
    return []


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
