"""Training states on disk: all that a training needs to resume as if it was never interrupted.

::

    states/0000000400.safetensors    tensors by name; in the header numbers as JSON and a digest
    states/0000000500.safetensors    the newest; the one before stays until the next is written

Each state is one file, written as a whole or not at all, and read without running code. The digest
covers all contents, so that damage is found before the state is used.
"""

import hashlib
import json
import math
import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sslseg.core.common.atomic import atomic_path
from napari_sslseg.core.common.errors import CheckpointError, StorageError
from napari_sslseg.core.common.events import Message
from napari_sslseg.core.common.lock import check_locks
from napari_sslseg.core.common.safe_files import open_regular, refuse_links, utf8_path
from napari_sslseg.core.common.safe_json import MOST_SIDECAR, parse_json, read_json
from napari_sslseg.core.common.sync import sync_folder
from napari_sslseg.core.common.text import LONGEST, printable
from napari_sslseg.core.runs.states.state import DamagedStateError, State

if TYPE_CHECKING:
    from torch import Tensor

    from napari_sslseg.core.settings.training import Training

FOLDER = "states"
STATES_KEPT = 2
FORMAT = 1
DAMAGED = ".damaged"
MOST_HEADER = 16 * 2**20
NAME = re.compile(r"[0-9]{10,16}\.safetensors")


def write_state(folder: Path, state: State) -> Path:
    """Write a state into a run folder, and remove all but the newest two.

    Raises
    ------
    StorageError
        If it cannot be written, or the folder of the states is a link now; earlier states stay.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    numbers = json.dumps({"format": FORMAT, "step": state.step, **state.numbers})
    header = {"numbers": numbers, "digest": _digest(numbers, tensors)}
    path = folder / FOLDER / state_name(state.step)
    refuse_links(folder)  # It may have become one during the training.
    with atomic_path(path) as temporary:
        # As bytes through Python's own file, so that a full disk is an ordinary OSError.
        temporary.write_bytes(save(tensors, header))
    for old in _files(folder)[STATES_KEPT:]:
        old.unlink(missing_ok=True)
    return path


def read_state(path: Path) -> State:
    """Read a state.

    Raises
    ------
    DamagedStateError
        If its contents are not those that were written.
    CheckpointError
        If it is missing, cannot be read at the moment, or is of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path) as file:
            # The library accepts headers of up to 100 MB.
            if int.from_bytes(file.read(8), "little") > MOST_HEADER:
                raise ValueError("its header is too large")
        with utf8_path(path) as readable, safe_open(readable, framework="pt") as found:
            header = found.metadata() or {}
            tensors = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118
        if header["digest"] != _digest(header["numbers"], tensors):
            raise ValueError("its digest differs")
        numbers = parse_json(header["numbers"].encode(), any_number=True)
        version, step = numbers["format"], numbers["step"]
        if type(version) is not int or type(step) is not int:
            raise TypeError("its version or step is not an integer")
    except OSError as error:
        # The file may be intact and readable later.
        raise CheckpointError(
            f"The training state {path} cannot be read ({error.strerror or error}); make it "
            "readable, then resume."
        ) from error
    except (MemoryError, RuntimeError) as error:
        # PyTorch raises a RuntimeError if there is too little memory.
        raise CheckpointError(
            f"The training state {path} cannot be read with the memory that is free "
            f"({printable(error, LONGEST)}); free some memory, then resume."
        ) from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedStateError(
            f"The training state {path} is damaged ({printable(error, LONGEST)})."
        ) from error
    if version > FORMAT:
        raise CheckpointError(f"{path} was written by a newer version; update this one.")
    return State(step, tensors, numbers)


def newest_state(
    folder: Path, training: "Training | None" = None
) -> Generator[Message, None, State | None]:
    """Find the newest intact state of a run folder; None if none was ever written.

    Damaged files are renamed, so that they do not count as newer than later states.

    Parameters
    ----------
    folder : Path
        The run folder.
    training : Training, optional
        Settings of the training; a state that does not fit them counts as damaged.

    Yields
    ------
    Message
        If the newest state is missing or damaged, with the one used instead.

    Raises
    ------
    CheckpointError
        If states were written but none of them can be used; or the newest cannot be read at the
        moment, or is of a newer version.
    """
    expected = _expected(folder)
    wrong = ""
    names = [path.name for path in _files(folder)]
    if isinstance(expected, str) and (not names or expected > names[0]):
        wrong = f"The training state {folder / FOLDER / expected} is missing"
    for path in _files(folder):
        try:
            state = _usable(path, training)
        except DamagedStateError as error:
            wrong = wrong or str(error).rstrip(".")
            _set_aside(path)
            continue
        if wrong:
            yield Message(f"{wrong}, so the training resumes from step {state.step}.")
        return state
    if wrong or names:
        raise CheckpointError(
            f"{wrong}, and there is no other state in {folder}; start again with --overwrite (in "
            "Python overwrite=True), or from the weights with --init."
        )
    if expected is False:
        raise CheckpointError(
            f"{folder} was written by a version without training states and cannot be resumed; "
            "start again with --overwrite, or from the weights with --init."
        )
    return None


def _usable(path: Path, training: "Training | None") -> State:
    from napari_sslseg.core.runs.states.state_check import check_state

    state = read_state(path)
    try:
        if path.name != state_name(state.step):
            raise ValueError(f"it is of step {state.step}")
        if training is not None:
            check_state(state, training)
    except ValueError as error:
        raise DamagedStateError(
            f"The training state {path} is damaged ({printable(error, LONGEST)})."
        ) from error
    return state


def _set_aside(path: Path) -> None:
    try:
        check_locks(path)
        path.replace(path.with_name(path.name + DAMAGED))
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"Could not rename the damaged file {path}: {error.strerror or error}; make its folder "
            "writable."
        ) from error


def remove_states(folder: Path) -> None:
    """Remove all states of a run folder, also damaged ones; raises a StorageError for a link."""
    refuse_links(folder)
    for path in (folder / FOLDER).iterdir() if (folder / FOLDER).is_dir() else ():
        if NAME.fullmatch(path.name.removesuffix(DAMAGED)):
            path.unlink(missing_ok=True)
    if (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


def state_name(step: int) -> str:
    """File name of a state; the names sort by step."""
    return f"{step:010}.safetensors"


def state_size(tensors: "Mapping[str, Tensor]") -> int:
    """Bytes that tensors take on disk."""
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors.values())


def _files(folder: Path) -> list[Path]:
    """States of a run folder, newest first."""
    found = (folder / FOLDER).glob("[0-9]*.safetensors")
    return sorted((path for path in found if NAME.fullmatch(path.name)), reverse=True)


def _expected(folder: Path) -> str | bool | None:
    """Name of the state that ``last`` was written with; None if unknown, False for old runs."""
    try:
        found = read_json(folder / "last.json", MOST_SIDECAR)
        name = found.get("state", False)
    except (OSError, ValueError, AttributeError):
        return None
    named = isinstance(name, str) and NAME.fullmatch(name)
    return name if named or name is False else None


def _digest(numbers: str, tensors: "Mapping[str, Tensor]") -> str:
    import torch

    total = hashlib.blake2b(numbers.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
