"""Read the weights of other programs: tensors by name, and never any code.

A ``.pt`` or ``.pth`` file is a pickle, which can run anything when it is opened. It is gone through
once without building anything, and then read by PyTorch's reader for weights alone.
"""

import os
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.safe_files import open_regular
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.runs.weights.checkpoints import read_tensors
from napari_sslseg.core.runs.weights.header import FOREIGN_BYTES, MOST_WEIGHTS, read_header
from napari_sslseg.core.runs.weights.pickle_check import DTYPES, NotWeightsError, check_pickle

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth")
NESTS = ("network_weights", "state_dict", "model_state_dict", "model_state", "model", "net")
"""Where programs keep the weights within a checkpoint; nnU-Net the first, Lightning the second."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of PyTorch's wrappers: data-parallel training and compiling."""

HOLDERS = ("model.", "net.", "network.", "_model.")
"""Names under which a Lightning module holds the network; dropped where all tensors have one."""

MOST_PICKLE = 64 * 2**20
"""Bytes of the pickle within a file: names and shapes, whereas the numbers lie beside it."""

OLD_PICKLES = 5
"""In files of PyTorch before 1.6: a mark, a version, the machine, the tensors, their storages."""

DAMAGED = (
    # What PyTorch's reader raises on files that are none, by experience with damaged ones.
    EOFError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError,
    AssertionError, OverflowError, RecursionError, NotImplementedError, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ForeignWeights:
    """Tensors of a file by their names there, and what was left out and why.

    Attributes
    ----------
    tensors : dict of str to Tensor
        On the CPU.
    left_out : tuple of (str, str)
        Names of what is no tensor of weights, with the reason.
    ordered : bool
        Whether the file keeps the order in which the network has its layers. Safetensors do not.
    """

    tensors: "dict[str, Tensor]"
    left_out: tuple[tuple[str, str], ...]
    ordered: bool


def read_foreign(path: Path) -> ForeignWeights:
    """Read weights that another program wrote.

    Parameters
    ----------
    path : Path
        A ``.safetensors``, ``.pt`` or ``.pth`` file; of the latter only tensors and plain
        containers are read.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, holds no weights, or could be opened only by running
        code in it.
    """
    if not path.is_file():
        raise CheckpointError(f"The weights {path} do not exist; check the path.")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path} is no file of weights by its name; give one in {', '.join(SUFFIXES)}."
        )
    if suffix == ".safetensors":
        found: Any = read_tensors(path, read_header(path, FOREIGN_BYTES))
    else:
        found = _unwrapped(_load(path), path)
    tensors, left_out = {}, []
    for name, value in found.items():
        problem = _problem(value)
        if problem:
            left_out.append((str(name), problem))
        else:
            tensors[_bare(str(name))] = value
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors of weights; choose another file.")
    return ForeignWeights(_without_holder(tensors), tuple(left_out), suffix != ".safetensors")


def _load(path: Path) -> Any:
    """Read a pickle as PyTorch does where it may build nothing but tensors and containers."""
    import torch

    try:
        with open_regular(path) as file:
            # As PyTorch tells them apart.
            zipped = file.read(4) == b"PK\x03\x04"
        _check(path, zipped=zipped)
        with _numpy_numbers():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except NotWeightsError as error:
        raise CheckpointError(
            f"{path} holds more than weights ({printable(error, 100)})"
            f"{' and would have to run code to open' if error.code else ''}, so it was not opened; "
            "have its state dict saved alone, best as safetensors."
        ) from error
    except UnpicklingError as error:
        raise CheckpointError(f"{path} is no file of PyTorch; choose another file.") from error
    except MemoryError as error:
        raise CheckpointError(
            f"{path} asks for more memory than there is; choose another file."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); choose another file."
        ) from error
    except DAMAGED as error:
        # Without PyTorch's words, which are about its insides and run over many lines.
        raise CheckpointError(
            f"{path} is damaged or no file of PyTorch; choose another file."
        ) from error


def _check(path: Path, *, zipped: bool) -> None:
    """Refuse pickles of more than weights, and weights that are not all in the file.

    Raises
    ------
    NotWeightsError
        If there is more in it.
    ValueError, IndexError, KeyError, TypeError, AttributeError, BadZipFile
        If it is damaged.
    """
    if zipped:
        pickled, stored = _archive(path)

        def same(name: str, size: int) -> None:
            if stored[f"data/{name}"] != size:
                raise ValueError("a storage has another size than its numbers")

        check_pickle(BytesIO(pickled), same)
        return
    claimed: dict[str, int] = {}
    total = 0
    with open_regular(path) as file:
        # The pickles come first, and behind them the numbers of all storages.
        start = BytesIO(file.read(MOST_PICKLE))
        whole = os.fstat(file.fileno()).st_size

    def within(name: str, size: int) -> None:
        nonlocal total
        total += 0 if name in claimed else size
        if claimed.setdefault(name, size) != size or total > whole:
            raise ValueError("its storages add up to more than its size")

    for _ in range(OLD_PICKLES):
        check_pickle(start, within)


def _archive(path: Path) -> tuple[bytes, dict[str, int]]:
    """The pickle of an archive, and the sizes of all that it holds.

    Refuses archives that unfold into more than they are; PyTorch itself compresses nothing.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # Without the folder that all of them are in, whose name is any.
        sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in entries}
        if len(sizes) < len(entries):
            raise ValueError("two parts of it have one name")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("parts of it are compressed")
        if any(e.file_size > MOST_PICKLE for e in entries if e.filename.endswith(".pkl")):
            raise ValueError("its list of tensors is too large")
        if sum(sizes.values()) > path.stat().st_size:
            raise ValueError("its parts add up to more than its size")
        (pickled,) = (e for e in entries if e.filename.partition("/")[2] == "data.pkl")
        return archive.read(pickled), sizes


def _numpy_numbers() -> AbstractContextManager[Any]:
    """Let single NumPy numbers be read, which nnU-Net keeps beside the weights and run nothing."""
    import numpy as np
    import torch

    if torch.__version__ < "2.6":  # which cannot be told of the names of older NumPy
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in DTYPES]
    # The first name is that of NumPy before 2.0.
    names: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    return torch.serialization.safe_globals([*names, np.dtype, *kinds])


def _unwrapped(found: Any, path: Path) -> Mapping[Any, Any]:
    """The dictionary that holds the tensors, within those that programs put around it."""
    import torch

    for _ in range(4):
        if not isinstance(found, Mapping):
            break
        if any(isinstance(value, torch.Tensor) for value in found.values()):
            return found
        inner = next((found[key] for key in NESTS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            keys = ", ".join(printable(key, 30) for key in list(found)[:8]) or "nothing"
            raise CheckpointError(
                f"{path} holds {keys}, but no weights by a name that is known; have its state dict "
                "saved alone."
            )
        found = inner
    raise CheckpointError(f"{path} holds no state dict; have that saved alone.")


def _problem(value: Any) -> str | None:
    """Say why a value is no tensor of weights, if it is not."""
    import torch

    if not isinstance(value, torch.Tensor):
        return "no tensor"
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return "no plain tensor"
    if not value.is_floating_point() and value.dtype != torch.int64:
        return f"of the type {str(value.dtype).removeprefix('torch.')}"
    size = value.numel() * value.element_size()
    if size > min(value.untyped_storage().nbytes(), MOST_WEIGHTS):
        # A view may repeat one number as often as it likes.
        return "larger than what is stored of it"
    return None


def _bare(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def _without_holder(tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
    for holder in HOLDERS:
        if all(name.startswith(holder) for name in tensors):
            return {_bare(name.removeprefix(holder)): value for name, value in tensors.items()}
    return tensors
