"""Read which structures a label file holds: from the file itself, or from a list beside it."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path

from napari_sslseg.core.common.errors import PATH, check_type
from napari_sslseg.core.scans.classes.class_list import listed_segments
from napari_sslseg.core.scans.classes.segment import Segment, clean_name
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.formats.image_file import check_present
from napari_sslseg.core.scans.formats.registry import DICOM, format_of
from napari_sslseg.core.scans.matching.label_names import structure_names


def read_segments(path: str | Path | Sequence[str | Path]) -> tuple[Segment, ...]:
    """Read the structures of a label file; no voxels are read.

    Parameters
    ----------
    path : path-like
        A label file. DICOM segmentations, structure sets and segmentations of 3D Slicer name their
        structures. For other files, ``classes.json`` or the ``dataset.json`` of nnU-Net in their
        folder is read, or in the folder around a folder such as ``labelsTr``. Several files are
        one structure each, with the name of the file.

    Returns
    -------
    tuple of Segment
        By label value, without the background; empty if nothing names them.

    Raises
    ------
    SslsegError
        If the file or the list cannot be read.
    """
    check_type(path, (*PATH, Iterable), "path", "a label file, or files of one structure each")
    if not isinstance(path, str | Path):
        names = structure_names([Path(file) for file in path])
        return tuple(Segment(value, clean_name(name)) for value, name in enumerate(names, 1))
    path = Path(path)
    check_present(path, "label file")
    file_format = DICOM if is_dicom(path) else format_of(path)
    found = file_format.read_segments(path) if file_format else ()
    found = found or listed_segments(path)
    return tuple(sorted((item for item in found if item.value), key=attrgetter("value")))
