"""Headers of NRRD files (.nrrd, and .nhdr with a separate data file).

The format is described at https://teem.sourceforge.net/nrrd/format.html.
"""

import math
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.image_file import reraise_parser_errors, units_note
from napari_sslseg.core.scans.formats.itk_header import (
    MM,
    StoredGrid,
    Unit,
    data_path,
    make_affine,
    volume_shape,
)
from napari_sslseg.core.scans.formats.stored_values import Packing, StoredValues

TYPES = {
    "int8": "signed char, int8, int8_t",
    "uint8": "uchar, unsigned char, uint8, uint8_t",
    "int16": "short, short int, signed short, signed short int, int16, int16_t",
    "uint16": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "int32": "int, signed int, int32, int32_t",
    "uint32": "uint, unsigned int, uint32, uint32_t",
    "int64": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "uint64": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "float32": "float",
    "float64": "double",
}
DTYPES = {name: dtype for dtype, names in TYPES.items() for name in names.split(", ")}
PACKINGS: dict[str, Packing] = {
    "raw": "raw",
    "gz": "gzip",
    "gzip": "gzip",
    "bz2": "bzip2",
    "bzip2": "bzip2",
    "txt": "text",
    "text": "text",
    "ascii": "text",
    "hex": "hex",
}
# Signs that convert coordinates of a space to left, posterior, superior.
SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
NAMES = {
    1e-6: "nm, nanometer, nanometers, nanometre, nanometres",
    # The micro sign, and the Greek letter that looks like it.
    1e-3: "um, \u00b5m, \u03bcm, micron, microns, micrometer, micrometers, micrometre, micrometres",
    1.0: "mm, millimeter, millimeters, millimetre, millimetres",
    10.0: "cm, centimeter, centimeters, centimetre, centimetres",
    1000.0: "m, meter, meters, metre, metres",
}
LENGTHS = {name: mm for mm, names in NAMES.items() for name in names.split(", ")}
"""Length of each unit in mm."""
FIELDS = {
    *("content", "number", "type", "blocksize", "dimension", "space", "spacedimension", "sizes"),
    *("spacings", "thicknesses", "axismins", "axismaxs", "spacedirections", "spaceorigin"),
    *("centers", "centerings", "kinds", "labels", "units", "spaceunits", "measurementframe"),
    *("min", "max", "oldmin", "oldmax", "sampleunits", "endian", "encoding", "lineskip"),
    *("byteskip", "datafile"),
}
SEGMENT = re.compile(r"Segment\d+_")
"""Begin of the keys with which 3D Slicer describes a segment."""

UNKNOWN = ("???", "none")
IN_SPACE = ("domain", "space", *UNKNOWN)
SEVERAL = ("time", "list", *IN_SPACE)
"""Kinds of a last axis that counts volumes."""

_MAX_LINE = 1 << 20
_MAX_HEADER = 1 << 24


def read_nrrd(path: Path, *, layers: bool = False) -> StoredGrid:
    """Read the header of an NRRD file.

    Parameters
    ----------
    path : Path
        The file.
    layers : bool
        Whether the file is a segmentation whose first axis counts layers. They are merged with the
        first axis in space in the shape of the values, but not in the affine.

    Raises
    ------
    VolumeError
        If the file is damaged, or not a grey-value image.
    """
    with reraise_parser_errors(path, "an NRRD file", begins_as_text=True):
        fields, end = _fields(path)
        sizes = [int(size) for size in _field(fields, "sizes").split()]
        if len(sizes) != int(_field(fields, "dimension")) or min(sizes, default=0) < 1:
            raise ValueError(f"its sizes are {fields['sizes']!r}")
        kinds = [kind.lower() for kind in fields.get("kinds", "").split()] or ["???"] * len(sizes)
        steps = _steps(fields, kinds)
        if not len(sizes) == len(kinds) == len(steps):
            raise ValueError("its fields differ in length")
        if layers:
            spatial, several = [1, 2, 3], None
        else:
            spatial, several = _axes(path, sizes, kinds, steps)
        shape = volume_shape(path, [sizes[axis] for axis in spatial])
        if layers:
            shape = (sizes[0] * shape[0], *shape[1:])
        frames = 1 if several is None else sizes[several]
        stored = _stored(path, fields, end, shape, frames)
        unit = _unit(path, fields, spatial)
        affine = _affine(fields, steps, spatial, unit)
    notes = _notes(fields, unit)
    return StoredGrid(stored, affine, planar=_is_planar(spatial, steps), unit=unit, notes=notes)


def read_pairs(path: Path) -> dict[str, str]:
    """Read the key/value pairs of the header, in which programs store what NRRD has no field for.

    Raises
    ------
    VolumeError
        If the file is not an NRRD file.
    """
    found = {}
    with reraise_parser_errors(path, "an NRRD file", begins_as_text=True), path.open("rb") as file:
        if not file.readline(16).startswith(b"NRRD000"):
            raise ValueError("it does not start like an NRRD file")
        while line := file.readline(_MAX_LINE).rstrip(b"\r\n"):
            _refuse_endless(file)
            pair = re.fullmatch(r"([^:#][^:]*):=(.*)", _decode(line))
            if pair:
                found[pair[1]] = pair[2].replace("\\n", "\n").replace("\\\\", "\\")
    return found


def count_layers(path: Path) -> int:
    """Return the number of label maps that a segmentation of 3D Slicer holds.

    Overlapping structures are in several layers along the first axis. 0 if 3D Slicer did not write
    the file, and 1 if there is no such axis.
    """
    with reraise_parser_errors(path, "an NRRD file", begins_as_text=True):
        fields, _ = _fields(path)
        sizes = [int(size) for size in fields.get("sizes", "").split()]
        kinds = fields.get("kinds", "").lower().split()
    if not any(SEGMENT.match(key) for key in read_pairs(path)):
        return 0
    return sizes[0] if len(sizes) == 4 and kinds[:1] == ["list"] else 1


def _decode(line: bytes) -> str:
    """Decode a line of the header; old programs do not write UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Read the fields by name without blanks, and the byte offset after the header."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        if not re.fullmatch(rb"NRRD000[1-6]\r?\n", file.readline(16)):
            raise ValueError("it does not start like an NRRD file")
        while line := file.readline(_MAX_LINE):
            _refuse_endless(file)
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if not text:
                break
            if text.startswith("#") or re.match(r"[^:]+:=", text):  # comment, or key/value pair
                continue
            name, _, value = text.partition(":")
            name = name.lower().replace(" ", "")
            # Not ignored: it may be a damaged field that affects the place of the scan.
            if name not in FIELDS or name in fields:
                raise ValueError(f"the header line {text[:40]!r} is invalid")
            fields[name] = value.strip()
            if name == "datafile" and value.split()[:1] == ["LIST"]:
                break  # names of files follow
        return fields, file.tell()


def _refuse_endless(file: BinaryIO) -> None:
    if file.tell() > _MAX_HEADER:
        raise ValueError(f"its header is longer than {_MAX_HEADER >> 20} MiB")


def _field(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise ValueError(f"its header has no field {name}")
    return fields[name]


def _vector(text: str) -> np.ndarray | None:
    if text.lower() == "none":
        return None
    vector = np.array([float(number) for number in text.strip("()").split(",")])
    if not np.isfinite(vector).all():
        raise ValueError(f"its header holds the vector {text!r}")
    return vector


def _steps(fields: dict[str, str], kinds: list[str]) -> list[np.ndarray | None]:
    """Return the step between voxels along each axis; None for an axis that is not spatial."""
    if "spacedirections" in fields:
        found = re.findall(r"\([^()]*\)|none", fields["spacedirections"], re.IGNORECASE)
        return [_vector(text) for text in found]
    lengths = [float(text) for text in fields.get("spacings", "").split()] or [math.nan] * len(
        kinds
    )
    along = [axis for axis, kind in enumerate(kinds) if kind in (*IN_SPACE, "time")]
    steps: list[np.ndarray | None] = [None] * len(lengths)
    for place, axis in enumerate(along[:3]):
        # A spacing of NaN means unknown; all readers replace it by 1.
        length = 1.0 if math.isnan(lengths[axis]) else lengths[axis]
        steps[axis] = length * np.eye(min(len(along), 3))[place]
    return steps


def _axes(
    path: Path, sizes: list[int], kinds: list[str], steps: list[np.ndarray | None]
) -> tuple[list[int], int | None]:
    """Return the spatial axes, and the axis that counts volumes."""
    spatial = [axis for axis, step in enumerate(steps) if step is not None][:3]
    others = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    if not others:
        return spatial, None
    if others == [len(sizes) - 1] and kinds[-1] in SEVERAL and len(spatial) == 3:
        return spatial, others[0]
    if count_layers(path) > 1:
        raise VolumeError(
            f"{path} is a segmentation of 3D Slicer with overlapping structures; open it as labels "
            "of its scan."
        )
    raise VolumeError(
        f"{path} holds {math.prod(sizes[axis] for axis in others)} values per voxel, such as "
        "colours, vectors or a series; save its grey values, or each volume, as a separate file."
    )


def _unit(path: Path, fields: dict[str, str], spatial: list[int]) -> Unit:
    """Return the unit of length of all axes; mm if none is given."""
    if "spaceunits" in fields:
        units = _strings(fields["spaceunits"])[:3]  # a fourth unit is of time
    else:
        named = _strings(fields.get("units", ""))
        units = [named[axis] for axis in spatial if axis < len(named)]
    found = {MM if unit in ("", *UNKNOWN) else _parse_unit(path, unit) for unit in units}
    if len({unit.mm for unit in found}) > 1:
        names = ", ".join(sorted(unit.name for unit in found))
        raise VolumeError(f"{path} gives lengths in several units ({names}); save it in mm.")
    return min(found, key=lambda unit: unit.name, default=MM)


def _parse_unit(path: Path, unit: str) -> Unit:
    mm = LENGTHS.get(unit.lower())
    if mm is None:
        raise VolumeError(
            f"{path} gives lengths in {unit[:20]!r}, which is not a known unit of length; save it "
            "in mm."
        )
    return MM if mm == 1 else Unit(unit, mm)


def _strings(text: str) -> list[str]:
    """Split a list of words, with or without quotes."""
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([^"\s]+)', text)]


def _affine(
    fields: dict[str, str], steps: list[np.ndarray | None], spatial: list[int], unit: Unit
) -> np.ndarray:
    origin = None
    if "spacedirections" in fields and "spaceorigin" in fields:
        origin = _vector(fields["spaceorigin"])
    found = [step for step in steps if step is not None]
    if len({len(vector) for vector in (*found, *([] if origin is None else [origin]))}) > 1:
        raise ValueError("its space directions and space origin differ in length")
    columns = np.array([steps[axis] for axis in spatial]).T
    if origin is None:
        origin = np.zeros(len(columns))
    if "spacedirections" not in fields:
        origin = _first_centers(fields, columns, spatial)
    if len(columns) == 4:  # a space with time
        if columns[3].any() or any(step[:3].any() for step in found[3:]):
            raise ValueError("its axes in space are mixed with time")
        columns, origin = columns[:3], origin[:3]
    signs = np.array(SPACES.get(_space(fields), (1, 1, 1))[: len(columns)])
    return make_affine(signs[:, None] * columns * unit.mm, signs * origin * unit.mm)


def _first_centers(fields: dict[str, str], steps: np.ndarray, spatial: list[int]) -> np.ndarray:
    """Return the centre of the first voxel on axes that are given by their minimum positions."""
    least = [float(text) for text in fields.get("axismins", "").split()]
    if not least:
        return np.zeros(len(steps))
    centers = (fields.get("centers", fields.get("centerings", "")).split() + ["cell"] * 9)[:9]
    half = [0.0 if centers[axis].lower() == "node" else 0.5 for axis in spatial]
    first = np.array([least[axis] for axis in spatial]) + half * np.diag(steps)
    return np.nan_to_num(first)


def _space(fields: dict[str, str]) -> str:
    name = fields.get("space", "").lower()
    short = {"rast": "ras", "last": "las", "lpst": "lps"}
    return short.get(name, name.removesuffix("-time"))


def _notes(fields: dict[str, str], unit: Unit) -> tuple[str, ...]:
    notes = []
    if _space(fields) not in SPACES:
        said = (
            f"places them in the space {fields['space']!r}"
            if "space" in fields
            else "names no space"
        )
        notes.append(
            f"its header {said}, so its axes are assumed to point to the patient's left, back and "
            "head, as in other readers; check the orientation."
        )
    if unit != MM:
        notes.append(units_note(unit.name))
    return tuple(notes)


def _is_planar(spatial: list[int], steps: list[np.ndarray | None]) -> bool:
    return len(spatial) == 2 and all(
        step is not None and not step[2:].any() for step in (steps[axis] for axis in spatial)
    )


def _stored(
    path: Path, fields: dict[str, str], end: int, shape: tuple[int, int, int], frames: int
) -> StoredValues:
    packing = PACKINGS.get(_field(fields, "encoding").lower())
    if packing is None:
        raise ValueError(f"its encoding is {fields['encoding']!r}")
    name = _field(fields, "type").lower()
    if name not in DTYPES:
        raise ValueError(f"its values are of the type {name!r}")
    dtype = np.dtype(DTYPES[name])
    if dtype.itemsize > 1 and packing != "text":
        order = {"little": "<", "big": ">"}.get(_field(fields, "endian").lower())
        if order is None:
            raise ValueError(f"its byte order is {fields['endian']!r}")
        dtype = dtype.newbyteorder(order)  # type: ignore[arg-type]
    detached = fields.get("datafile")
    values = path if detached is None else data_path(path, detached)
    skip = int(fields.get("byteskip", 0))
    stored = StoredValues(values, dtype, shape, frames, packing=packing, within=skip != 0)
    stored.start = _after_lines(
        values, end if detached is None else 0, int(fields.get("lineskip", 0))
    )
    if packing != "raw":
        if skip < -1 or (packing in ("text", "hex") and skip):
            raise ValueError(f"its byte skip is {skip}")
        stored.skip = skip
    elif skip >= 0:
        stored.start += skip
    else:
        # -1 means that the values come last; -1 - n means that n bytes follow them.
        first = values.stat().st_size - stored.size + skip + 1
        if first < stored.start:
            raise ValueError(f"its byte skip of {skip} points before its values")
        stored.start = first
    return stored


def _after_lines(path: Path, start: int, lines: int) -> int:
    with path.open("rb") as file:
        file.seek(start)
        for _ in range(lines):
            if not file.readline(_MAX_LINE):
                raise ValueError(f"it has no {lines} lines to skip")
        return file.tell()
