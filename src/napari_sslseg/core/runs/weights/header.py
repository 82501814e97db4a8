"""What a safetensors file says it holds, checked before any of it is read.

The layout, from https://github.com/huggingface/safetensors: eight bytes with the length of the
header (little-endian), the header as JSON, and the numbers of all tensors one after another.
"""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_files import open_regular
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.text import printable

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
"""What weights are made of; whole numbers are the counters of BatchNorm."""

FOREIGN_BYTES = ITEM_BYTES | {"F64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""What may stand beside the weights in files of other programs."""

FLOATS = ("F32", "F16", "BF16")
MOST_HEADER = 4 * 2**20
MOST_WEIGHTS = 4 * 2**30
"""Of all tensors together, twice the largest network that is built."""

MOST_AXES = 8


@dataclass(frozen=True)
class StoredTensor:
    """Type and shape of a tensor in a file, and where its numbers end and begin."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path, types: Mapping[str, int] = ITEM_BYTES) -> dict[str, StoredTensor]:
    """Read names, types and shapes of the tensors of a safetensors file, in their order there.

    Parameters
    ----------
    path : Path
        The file.
    types : mapping of str to int
        Types that are allowed, and the bytes of one number.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, or holds anything but weights: tensors of other types,
        that overlap or leave gaps, or whose sizes do not add up to the file.
    """
    if not path.is_file():
        raise CheckpointError(f"The weights {path} do not exist; check the run folder.")
    try:
        return _tensors(*_header(path), types)
    except OSError as error:
        raise CheckpointError(
            f"The weights {path} cannot be read ({error.strerror or error}); use another run."
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"The weights {path} are damaged ({error}); use another checkpoint or run again."
        ) from error


def _header(path: Path) -> tuple[Any, int]:
    """Header as parsed, and the bytes after it."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("the file is cut short")
        (length,) = struct.unpack("<Q", start)
        if length > min(MOST_HEADER, size - 8):
            raise ValueError("it is no safetensors file, or cut short")
        return parse_json(file.read(length)), size - 8 - length


def _tensors(header: Any, available: int, types: Mapping[str, int]) -> dict[str, StoredTensor]:
    if not isinstance(header, dict):
        raise ValueError("it is no safetensors file")
    found = {
        name: _tensor(name, entry, types)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    in_order = dict(sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)))
    ends = [0, *(tensor.end for tensor in in_order.values())]
    begins = [*(tensor.begin for tensor in in_order.values()), available]
    if ends != begins:
        raise ValueError("its tensors do not add up to its size")
    if available > MOST_WEIGHTS:
        raise ValueError(f"its tensors take more than {MOST_WEIGHTS / 2**30:.0f} GiB")
    return in_order


def _tensor(name: str, entry: Any, types: Mapping[str, int]) -> StoredTensor:
    shown = printable(name, 100)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the tensor {shown} is not described")
    dtype = entry["dtype"]
    shape, offsets = _counts(entry["shape"]), _counts(entry["data_offsets"])
    if not isinstance(dtype, str) or len(shape) > MOST_AXES or len(offsets) != 2:
        raise ValueError(f"the tensor {shown} is not described")
    if dtype not in types:
        raise ValueError(f"the tensor {shown} is of the type {printable(dtype, 20)}")
    begin, end = offsets
    if math.prod(shape) * types[dtype] != end - begin:
        raise ValueError(f"the tensor {shown} has another size than its shape")
    return StoredTensor(dtype, shape, begin, end)


def _counts(values: Any) -> tuple[int, ...]:
    """Whole numbers from 0 on, as they were written."""
    if not isinstance(values, list) or any(type(v) is not int or v < 0 for v in values):
        raise ValueError("a shape or a place in it is no list of whole numbers")
    return tuple(values)


def misfits(
    header: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[tuple[int, ...], bool]]
) -> list[str]:
    """Names of tensors that a file has and a network lacks, or of other shapes or kinds.

    Parameters
    ----------
    header : mapping of str to StoredTensor
        Tensors of the file.
    shapes : mapping of str to (tuple of int, bool)
        Shape of each tensor of the network, and whether it is of fractions.
    """
    return [
        name
        for name, stored in header.items()
        if shapes.get(name) != (stored.shape, stored.dtype in FLOATS)
    ]
