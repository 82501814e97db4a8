"""Names, types and shapes of the tensors in a safetensors file, read without their values.

The library checks that offsets, shapes and the size of the file agree. Checked here are limits on
the sizes, and that only types of weights occur.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_files import open_regular
from napari_sslseg.core.common.text import LONGEST, printable

FLOATS = ("F32", "F16", "BF16")
WEIGHT_TYPES = (*FLOATS, "I64")
"""Types of weights; I64 is that of the counters of batch normalisation."""

FOREIGN_TYPES = (*WEIGHT_TYPES, "F64", "I32", "I16", "I8", "U8", "BOOL")
"""Types that may occur in files of other programs, not only as weights."""

MAX_HEADER = 4 * 2**20
"""Bytes of the header; the library itself accepts 100 MB."""

MAX_WEIGHTS = 4 * 2**30
"""Bytes of a file, twice those of the largest network that is built."""

MAX_AXES = 8


@dataclass(frozen=True)
class StoredTensor:
    """Type and shape of a tensor in a file."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path, types: Container[str] = WEIGHT_TYPES) -> dict[str, StoredTensor]:
    """Read names, types and shapes of the tensors of a safetensors file.

    Parameters
    ----------
    path : Path
        The file.
    types : container of str
        Types that are allowed, by their names in the format.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or too large, or has tensors of other types.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"The weights {path} do not exist; check the run folder.")
    try:
        _check_sizes(path)
        # As NumPy, since no values are read and PyTorch need not be loaded.
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: _stored_tensor(name, found.get_dtype(), found.get_shape(), types)
                for name, found in slices.items()
            }
    except OSError as error:
        raise CheckpointError(
            f"The weights {path} cannot be read ({error.strerror or error}); use another run."
        ) from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"The weights {path} are damaged or not a safetensors file "
            f"({printable(error, LONGEST)}); use another checkpoint or train again."
        ) from error


def _check_sizes(path: Path) -> None:
    with open_regular(path) as file:
        header = int.from_bytes(file.read(8), "little")
        if header > MAX_HEADER:
            raise ValueError(f"the header is larger than {MAX_HEADER / 2**20:.0f} MiB")
        if file.seek(0, 2) > MAX_WEIGHTS + MAX_HEADER:
            raise ValueError(f"the tensors are larger than {MAX_WEIGHTS / 2**30:.0f} GiB")


def _stored_tensor(
    name: str, dtype: str, shape: Iterable[int], types: Container[str]
) -> StoredTensor:
    shape = tuple(shape)
    if dtype not in types:
        raise ValueError(f"the tensor {printable(name, 100)} has the type {dtype}")
    if len(shape) > MAX_AXES:
        raise ValueError(f"the tensor {printable(name, 100)} has {len(shape)} axes")
    return StoredTensor(dtype, shape)


def misfits(
    header: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[tuple[int, ...], bool]]
) -> list[str]:
    """Names of tensors in a file that a network lacks, or has with another shape or kind.

    Parameters
    ----------
    header : mapping of str to StoredTensor
        Tensors of the file.
    shapes : mapping of str to (tuple of int, bool)
        Shape of each tensor of the network, and whether it is of floating point.
    """
    return [
        name
        for name, stored in header.items()
        if shapes.get(name) != (stored.shape, stored.dtype in FLOATS)
    ]
