"""Headers of MetaImage files (.mha, and .mhd with a separate data file).

The format is described at https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

import math
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.image_file import reraise_parser_errors
from napari_sslseg.core.scans.formats.itk_header import (
    StoredGrid,
    data_path,
    make_affine,
    volume_shape,
)
from napari_sslseg.core.scans.formats.stored_values import Packing, StoredValues

TYPES = {
    "MET_CHAR": "int8",
    "MET_UCHAR": "uint8",
    "MET_SHORT": "int16",
    "MET_USHORT": "uint16",
    "MET_INT": "int32",
    "MET_UINT": "uint32",
    "MET_LONG": "int32",
    "MET_ULONG": "uint32",
    "MET_LONG_LONG": "int64",
    "MET_ULONG_LONG": "uint64",
    "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}
# Older names of the same fields.
ORIGIN = ("Offset", "Position", "Origin")
MATRIX = ("TransformMatrix", "Rotation", "Orientation")
SPACING = ("ElementSpacing", "ElementSize")

_MAX_LINE = 1 << 16
_MAX_LINES = 10_000


def read_metaimage(path: Path) -> StoredGrid:
    """Read the header of a MetaImage file.

    Raises
    ------
    VolumeError
        If the file is damaged, or not a grey-value image.
    """
    with reraise_parser_errors(path, "a MetaImage file", begins_as_text=True):
        fields, end = _fields(path)
        axes = int(fields.get("NDims", 0))
        sizes = [int(size) for size in fields.get("DimSize", "").split()]
        if len(sizes) != axes or min(sizes, default=0) < 1:
            raise ValueError(f"its sizes are {fields.get('DimSize')!r} on {axes} axes")
        if axes > 4:
            raise ValueError(f"it has {axes} axes")
        frames = math.prod(sizes[3:])
        shape = volume_shape(path, sizes[:3])
        _check_grey(path, fields)
        affine = _affine(fields, axes)
        stored = _stored(path, fields, end, shape, frames)
    return StoredGrid(stored, affine, planar=axes == 2)


def read_fields(path: Path) -> dict[str, str]:
    """Read the fields of the header, also those that the format does not define.

    Raises
    ------
    VolumeError
        If the file is not a MetaImage file.
    """
    with reraise_parser_errors(path, "a MetaImage file", begins_as_text=True):
        return _fields(path)[0]


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Read the fields of the header, and the byte offset after the last field, ElementDataFile."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_MAX_LINES):
            name, sign, value = file.readline(_MAX_LINE).partition(b"=")
            if not sign:
                break
            key = name.decode("latin-1").strip()
            fields[key] = value.decode("utf-8", "replace").strip()
            if key == "ElementDataFile":
                return fields, file.tell()
    raise ValueError("it does not start like a MetaImage file")


def _check_grey(path: Path, fields: dict[str, str]) -> None:
    if fields.get("ObjectType", "Image") != "Image":
        raise ValueError(f"it holds a {fields['ObjectType']!r} and not an Image")
    channels = fields.get("ElementNumberOfChannels", "1")
    if int(channels) != 1:
        raise VolumeError(
            f"{path} holds {int(channels)} values per voxel, such as colours or vectors; export it "
            "as grey values."
        )
    slope = float(fields.get("ElementToIntensityFunctionSlope", 1))
    intercept = float(fields.get("ElementToIntensityFunctionOffset", 0))
    if (slope, intercept) != (1.0, 0.0):
        raise VolumeError(
            f"{path} has the intensity scaling {slope:g} and {intercept:g}, which some programs "
            "apply and others ignore; save it with the scaled values."
        )


def _affine(fields: dict[str, str], axes: int) -> np.ndarray:
    spacing = _numbers(fields, SPACING, [1.0] * axes)
    origin = _numbers(fields, ORIGIN, [0.0] * axes)
    # The file has one row per axis of the grid; the transpose has directions as columns.
    matrix = _numbers(fields, MATRIX, list(np.eye(axes).ravel())).reshape(axes, axes).T
    inside = min(axes, 3)
    if matrix[inside:, :inside].any() or matrix[:inside, inside:].any():
        raise ValueError("its axes in space are mixed with time")
    return make_affine((matrix * spacing)[:inside, :inside], origin[:inside])


def _numbers(fields: dict[str, str], names: tuple[str, ...], default: list[float]) -> np.ndarray:
    for name in names:
        if name in fields:
            numbers = np.array([float(text) for text in fields[name].split()])
            if len(numbers) != len(default) or not np.isfinite(numbers).all():
                raise ValueError(f"its {name} is {fields[name]!r}")
            return numbers
    return np.array(default)


def _stored(
    path: Path, fields: dict[str, str], end: int, shape: tuple[int, int, int], frames: int
) -> StoredValues:
    name = fields.get("ElementType", "")
    if name not in TYPES:
        raise ValueError(f"its ElementType is {name!r}")
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    dtype = np.dtype(TYPES[name]).newbyteorder(">" if _is_true(big) else "<")
    packing: Packing = "raw"
    if not _is_true(fields.get("BinaryData", "True")):
        packing = "text"
    elif _is_true(fields.get("CompressedData", "False")):
        packing = "zlib"
    detached = fields["ElementDataFile"]
    local = detached.lower() == "local"
    values = path if local else data_path(path, detached)
    skip = int(fields.get("HeaderSize", 0))
    stored = StoredValues(
        values, dtype, shape, frames, end if local else 0, packing, within=skip != 0
    )
    if skip == -1 and packing == "raw":
        stored.start = max(values.stat().st_size - stored.size, stored.start)
    elif skip >= 0:
        stored.start += skip
    else:
        raise ValueError(f"its HeaderSize is {skip}")
    return stored


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")
