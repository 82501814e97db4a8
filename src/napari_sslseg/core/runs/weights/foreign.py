"""Read weight files of other programs: tensors by name, without running code.

A ``.pt``, ``.pth`` or ``.ckpt`` file is a pickle, which can run any code when it is opened. PyTorch
reads it with ``torch.load(weights_only=True)``, which runs none (version 2.6 or newer). It is
scanned before (see ``pickle_scan``), since PyTorch would still allocate any memory that a pickle
asks for, and never end with some.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_files import open_regular, utf8_path
from napari_sslseg.core.common.text import LONGEST, printable
from napari_sslseg.core.runs.weights.checkpoints import read_tensors
from napari_sslseg.core.runs.weights.file_kinds import (
    PICKLE,
    SAFETENSORS,
    WeightFileKind,
    file_kind,
    pickle_kind,
)
from napari_sslseg.core.runs.weights.pickle_scan import ForbiddenNameError, scan_pickle
from napari_sslseg.core.runs.weights.safetensors_header import (
    FOREIGN_TYPES,
    MAX_WEIGHTS,
    read_header,
)

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
NESTED_KEYS = ("network_weights", "state_dict", "model_state_dict", "model_state", "model", "net")
"""Keys under which programs store the weights in a checkpoint: nnU-Net uses the first, Lightning
the second."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that PyTorch adds for data-parallel training and for compiling."""

ATTRIBUTES = ("model.", "net.", "network.", "_model.")
"""Attributes in which a Lightning module stores the network; removed where all tensors have it."""

MAX_FILE = 16 * 2**30
"""Bytes of a file: the largest weights, and an optimiser state of three times their size."""

MAX_PICKLE = 64 * 2**20
"""Bytes of the pickle in a file: names and shapes, whereas the values are stored separately."""

LEGACY_PICKLES = 5
"""Pickles in a file of PyTorch before 1.6: magic number, protocol, system, tensors,
storage keys."""

DAMAGED = (
    # What PyTorch's reader raises for damaged files, collected by trials.
    EOFError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError,
    AssertionError, OverflowError, RecursionError, NotImplementedError, zipfile.BadZipFile,
    UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ForeignWeights:
    """Tensors of a file by their names in it, and the entries that were left out.

    Attributes
    ----------
    tensors : dict of str to Tensor
        On the CPU.
    left_out : tuple of (str, str)
        Names of entries that are not tensors of weights, with the reason.
    ordered : bool
        Whether the file keeps the order of the layers in the network. Safetensors files do not.
    """

    tensors: "dict[str, Tensor]"
    left_out: tuple[tuple[str, str], ...]
    ordered: bool


def read_foreign(path: Path) -> ForeignWeights:
    """Read weights that another program wrote.

    Parameters
    ----------
    path : Path
        A ``.safetensors``, ``.pt``, ``.pth`` or ``.ckpt`` file; of the latter three only tensors
        and plain containers are read.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, contains no weights, or can be opened only by running
        code in it.
    """
    if not path.is_file():
        raise CheckpointError(f"The weights {path} do not exist; check the path.")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path} does not have the name of a weight file; choose one in {', '.join(SUFFIXES)}."
        )
    _refuse_other_kinds(path, PICKLE if suffix == ".safetensors" else SAFETENSORS)
    if suffix == ".safetensors":
        found: Any = read_tensors(path, read_header(path, FOREIGN_TYPES))
    else:
        found = _unwrapped(_load(path), path)
    tensors, left_out = {}, []
    for name, value in found.items():
        problem = _problem(name, value)
        if problem:
            left_out.append((printable(name, LONGEST), problem))
        else:
            tensors[_without_wrappers(name)] = value
    if not tensors:
        raise CheckpointError(f"{path} contains no tensors of weights; choose another file.")
    return ForeignWeights(_without_attribute(tensors), tuple(left_out), suffix != ".safetensors")


def _refuse_other_kinds(path: Path, other: WeightFileKind) -> None:
    """Refuse a file of a kind that is not read, or of the ``other`` kind than its suffix says."""
    kind = file_kind(path)
    if kind is not None and kind not in {PICKLE, SAFETENSORS} - {other}:
        raise CheckpointError(f"{path} is {kind.name}; {kind.advice}.")


def _load(path: Path) -> Any:
    """Load a pickle with PyTorch, restricted to tensors and plain containers."""
    import torch

    try:
        with open_regular(path) as file:
            # PyTorch recognises an archive in the same way.
            zipped = file.read(4) == b"PK\x03\x04"
            if os.fstat(file.fileno()).st_size > MAX_FILE:
                raise ValueError("the file is too large")
        if zipped:
            data = _archived_pickle(path)
            scan_pickle(BytesIO(data))
        else:
            data = _read_start(path)
            start = BytesIO(data)
            for _ in range(LEGACY_PICKLES):
                scan_pickle(start)
        with _numpy_ignored(), utf8_path(path) as readable:
            return torch.load(readable, map_location="cpu", weights_only=True, mmap=zipped)
    except ForbiddenNameError as error:
        kind = pickle_kind(data)
        raise CheckpointError(
            f"{path} is {kind.name} ({printable(error, 100)}) and would have to run code to be "
            f"opened, so it was not opened; {kind.advice}."
        ) from error
    except MemoryError as error:
        raise CheckpointError(
            f"{path} needs more memory than there is; choose another file."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); choose another file."
        ) from error
    except DAMAGED as error:
        # Without PyTorch's message, which has many lines about its implementation.
        raise CheckpointError(
            f"{path} is damaged or not a file of PyTorch; choose another file."
        ) from error


def _archived_pickle(path: Path) -> bytes:
    """Read the pickle in an archive.

    Raises
    ------
    ValueError, BadZipFile
        If the archive is damaged, compressed (which PyTorch never does, and reads wrongly with
        ``mmap``), has two files of one name, or gives wrong sizes.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # Without the top folder, whose name is arbitrary.
        names = [entry.filename.partition("/")[2] for entry in entries]
        # PyTorch does not distinguish case, so it may read another one than was scanned.
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError("two files in the archive have one name")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("the files in the archive are larger than the archive")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("files in the archive are compressed")
        entry = entries[names.index("data.pkl")]
        if entry.file_size > MAX_PICKLE:
            raise ValueError("the pickle is too large")
        return archive.read(entry)


def _read_start(path: Path) -> bytes:
    """Read the pickles at the start of a file in PyTorch's format before 1.6."""
    with open_regular(path) as file:
        return file.read(MAX_PICKLE)


class _Ignored:
    """Takes the place of a NumPy number or type in a checkpoint, which is not used."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


@contextmanager
def _numpy_ignored() -> Iterator[None]:
    """Let checkpoints contain NumPy numbers, as those of nnU-Net do, without creating them."""
    import torch

    names = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    replaced: list[Any] = [(_Ignored, name) for name in names]
    with torch.serialization.safe_globals([_Ignored, *replaced]):
        yield


def _unwrapped(found: Any, path: Path) -> dict[Any, Any]:
    """The dictionary that contains the tensors, within those that programs put around it."""
    import torch

    for _ in range(4):
        if not isinstance(found, dict):
            break
        # Not by methods of the object, which attributes from the file may shadow.
        found = dict(dict.items(found))
        if any(isinstance(value, torch.Tensor) for value in found.values()):
            return found
        inner = next((found[key] for key in NESTED_KEYS if isinstance(found.get(key), dict)), None)
        if inner is None:
            keys = ", ".join(printable(key, 30) for key in list(found)[:8]) or "nothing"
            raise CheckpointError(
                f"{path} contains {keys}, but no weights under a known name; save its state dict "
                "alone."
            )
        found = inner
    raise CheckpointError(f"{path} contains no state dict; save that alone.")


def _problem(name: object, value: Any) -> str | None:
    """Why an entry is not a tensor of weights; None if it is one."""
    import torch

    if not isinstance(value, torch.Tensor) or not isinstance(name, str):
        return "no tensor"
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return "no plain tensor"
    if not value.is_floating_point() and value.dtype != torch.int64:
        return f"of the type {str(value.dtype).removeprefix('torch.')}"
    size = value.numel() * value.element_size()
    if size > min(value.untyped_storage().nbytes(), MAX_WEIGHTS):
        # A view may repeat one number any number of times.
        return "larger than its stored values"
    return None


def _without_wrappers(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def _without_attribute(tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
    for attribute in ATTRIBUTES:
        if all(name.startswith(attribute) for name in tensors):
            return {
                _without_wrappers(name.removeprefix(attribute)): value
                for name, value in tensors.items()
            }
    return tensors
