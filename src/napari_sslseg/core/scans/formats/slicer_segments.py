"""Structures in segmentations of 3D Slicer (.seg.nrrd): their names, values and codes.

The format is described at
https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import GeometryError, VolumeError
from napari_sslseg.core.common.sizes import UNKNOWN
from napari_sslseg.core.scans.classes.class_codes import (
    Algorithm,
    Code,
    SegmentClass,
    describe_classes,
)
from napari_sslseg.core.scans.classes.segment import Segment, clean_name, code_text
from napari_sslseg.core.scans.formats.image_file import check_present
from napari_sslseg.core.scans.formats.itk import ItkHeader, write_itk
from napari_sslseg.core.scans.formats.labels.painting import paint_labels
from napari_sslseg.core.scans.formats.nrrd import count_layers, read_nrrd, read_pairs
from napari_sslseg.core.scans.geometry import Geometry


def read_slicer_segments(path: Path) -> list[Segment]:
    """Read the structures of an NRRD file; empty if 3D Slicer did not write it.

    Raises
    ------
    VolumeError
        If the header is damaged, or structures have the same value in the same layer.
    """
    pairs = read_pairs(path)
    values = _values(pairs)
    stored = {_number(pairs, number, "LabelValue", 1) for number in values}
    if len(stored) < len(values) and count_layers(path) == 1:
        raise VolumeError(
            f"{path} gives some of its segments no label value of their own; save it again with a "
            "newer version of 3D Slicer."
        )
    return [Segment(values[n], _name(pairs, n), _code(pairs, n)) for n in values]


def write_slicer_segments(
    source: np.ndarray,
    geometry: Geometry,
    header: object,
    path: Path,
    *,
    classes: Mapping[int, str | SegmentClass] | None = None,
    algorithm: Algorithm = "MANUAL",
) -> None:
    """Write labels on the source grid as NRRD; with classes, as a segmentation of 3D Slicer.

    Parameters
    ----------
    source, geometry, header, path
        As in :func:`~napari_sslseg.core.scans.formats.itk.write_itk`.
    classes : mapping of int to str or SegmentClass, optional
        Classes by label value. A value without one is called "class N", but 255, which often
        marks unknown voxels, is no structure.
    algorithm : {"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}
        Not stored.
    """
    pairs = {}
    if classes:
        # Older versions of 3D Slicer have the second name.
        for key in ("Segmentation_SourceRepresentation", "Segmentation_MasterRepresentation"):
            pairs[key] = "Binary labelmap"
        values = (int(value) for value in np.unique(source) if value != UNKNOWN)
        extent = " ".join(f"0 {size - 1}" for size in source.shape)
        described = describe_classes(values, classes, algorithm)
        for number, (value, item) in enumerate(described.items()):
            pairs |= _pairs(number, value, item, extent)
    write_itk(source, geometry, header, path, pairs=pairs)


def _pairs(number: int, value: int, item: SegmentClass, extent: str) -> dict[str, str]:
    """Pairs of the header that describe a segment."""
    codes = "~".join(_caret(code) for code in (item.category, item.type, item.side))
    tags = f"Segmentation category and type - 3D Slicer General Anatomy list~{codes}"
    fields = {
        "ID": f"Segment_{number + 1}",
        "Name": clean_name(item.name),
        "LabelValue": str(value),
        "Layer": "0",
        "Extent": extent,
        "Tags": f"TerminologyEntry:{tags}~Anatomic codes - DICOM master list~^^~^^|",
    }
    if item.color is not None:
        fields["Color"] = " ".join(f"{part / 255:.6g}" for part in item.color)
    return {f"Segment{number}_{field}": text for field, text in fields.items()}


def _caret(code: Code | None) -> str:
    """A code as 3D Slicer stores it: scheme, value and meaning."""
    value, scheme, meaning = code or ("", "", "")
    return f"{scheme}^{value}^{meaning}"


def has_layers(path: Path) -> bool:
    """Whether an NRRD file is a segmentation with several layers; False if it is damaged."""
    try:
        return count_layers(path) > 1
    except VolumeError:
        return False


class SlicerLayers:
    """Labels of a segmentation of 3D Slicer whose structures overlap; see ImageFile.

    Such a file has several label maps in layers, and each structure a value in one layer.
    """

    frames = 1

    def __init__(self, path: Path) -> None:
        check_present(path)
        self.path = path
        self._layers = count_layers(path)
        layout = read_nrrd(path, layers=True)
        layout.stored.check()
        self._stored = layout.stored
        self.header, self.notes = ItkHeader(unit=layout.unit), layout.notes
        first, second, third = layout.stored.shape
        try:
            self.geometry = Geometry(layout.affine, (first // self._layers, second, third))
        except GeometryError as error:
            raise GeometryError(f"{path}: {error}") from error

    def values(self, frame: int = 0) -> np.ndarray:
        """Read the labels in the source grid, with the values of :func:`read_slicer_segments`.

        Where structures overlap, the smaller one is kept.

        Raises
        ------
        VolumeError
            If the header names no layer for a structure, or a voxel belongs to no structure.
        """
        pairs = read_pairs(self.path)
        shape = self.geometry.shape
        data = self._stored.read().reshape((self._layers, *shape), order="F")
        voxels, names, unlisted = {}, {}, data != 0
        for number, value in _values(pairs).items():
            layer = _number(pairs, number, "Layer", number)
            if layer >= self._layers:
                raise VolumeError(
                    f"{self.path} has {self._layers} layers, but its segment {number} is in layer "
                    f"{layer}; save it again with 3D Slicer."
                )
            inside = data[layer] == _number(pairs, number, "LabelValue", 1)
            unlisted[layer] &= ~inside
            voxels[value], names[value] = np.flatnonzero(inside), _name(pairs, number)
        if count := np.count_nonzero(unlisted):
            raise VolumeError(
                f"{self.path} has {count} labelled voxels that belong to no segment of its header; "
                "save it again with 3D Slicer."
            )
        return paint_labels(shape, voxels, self.path, names)


def _values(pairs: Mapping[str, str]) -> dict[int, int]:
    """Return the label value of each segment.

    Values in different layers may be equal, and files before Slicer 4.11 store none; then the
    segments have the values 1, 2, … in their order.
    """
    numbers = sorted({int(n) for key in pairs for n in re.findall(r"^Segment(\d{1,6})_", key)})
    values = [_number(pairs, number, "LabelValue", 1) for number in numbers]
    if len(set(values)) < len(values):
        values = list(range(1, len(values) + 1))
    return dict(zip(numbers, values, strict=True))


def _number(pairs: Mapping[str, str], number: int, field: str, default: int) -> int:
    text = pairs.get(f"Segment{number}_{field}", "").strip()
    return int(text) if re.fullmatch(r"\d{1,10}", text) else default


def _name(pairs: Mapping[str, str], number: int) -> str:
    return clean_name(pairs.get(f"Segment{number}_Name"))


def _code(pairs: Mapping[str, str], number: int) -> str:
    """Code in the tags; texts between the codes are the names of their tables."""
    tags = pairs.get(f"Segment{number}_Tags", "")
    entry = next((t for t in tags.split("|") if t.startswith("TerminologyEntry:")), "")
    parts = [*entry.split("~"), *[""] * 7]
    kind, modifier, region = (_triple(parts[place]) for place in (2, 3, 5))
    return code_text(kind, modifier, region)


def _triple(text: str) -> tuple[str, str]:
    """Value and scheme of a code that is stored as scheme, value and meaning."""
    scheme, value, *_ = [*text.split("^"), "", ""]
    return value, scheme
