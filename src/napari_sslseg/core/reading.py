"""What all readers of files share: their shape, and how failures become one sentence."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sslseg.core.errors import SslsegError, VolumeError
from napari_sslseg.core.geometry import Geometry

# What the parsers of damaged files were seen to raise. A programming error of ours in between
# would be told as a damaged file, so the blocks under `refusing` call a library and little else.
PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class ImageFile(Protocol):
    """An opened scan or label map: its header is read, its values are not.

    Attributes
    ----------
    path : Path
        The file, or the folder of the files.
    geometry : Geometry
        Grid of one volume.
    frames : int
        How many volumes of this grid it holds; more than 1 for a series in time.
    header : object
        What a writer needs to write labels in the same frame.
    """

    path: Path
    geometry: Geometry
    frames: int
    header: Any

    def values(self, frame: int = 0) -> np.ndarray:
        """Values of one volume in the source grid: an integer type, or float32, native order."""
        ...


@contextmanager
def refusing(
    path: Path, what: str, *, advice: str = "export or download it again"
) -> Iterator[None]:
    """Turn whatever a parser raises inside the block into a VolumeError of one sentence.

    Parameters
    ----------
    path : Path
        The file, for the sentence.
    what : str
        What it was read as, such as "a NIfTI file".
    advice : str
        What the user can do.
    """
    try:
        yield
    except SslsegError:
        raise
    except MemoryError as error:
        raise VolumeError(
            f"{path} asks for more memory than there is; if it is not damaged, crop it or use a "
            "machine with more memory."
        ) from error
    except PARSER_ERRORS as error:
        raise VolumeError(
            f"{path} cannot be read as {what} ({_reason(path, error)}); {advice}."
        ) from error


def check_present(path: Path) -> None:
    """Refuse what is missing, a folder, or empty.

    Raises
    ------
    VolumeError
        In one sentence.
    """
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check the path.")
    if path.is_dir():
        raise VolumeError(f"{path} is a folder; choose a scan file in it.")
    if path.stat().st_size == 0:
        raise VolumeError(f"{path} is empty (zero bytes); copy or download it again.")


def finite(data: np.ndarray, path: Path) -> np.ndarray:
    """Refuse values that are NaN or infinite; return the rest in native byte order."""
    if data.dtype.kind == "f":
        bad = data.size - int(np.isfinite(data).sum())
        if bad:
            raise VolumeError(
                f"{path} holds {bad} values that are NaN or infinite; set them to a number, such "
                "as the value of the background."
            )
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _reason(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as unreadable:
        return unreadable.strerror or "it cannot be opened"
    if start and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start):
        return "it is a text file"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
