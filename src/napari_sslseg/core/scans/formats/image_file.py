"""What all readers of files share: their shape, and how failures become one sentence."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sslseg.core.common.errors import SslsegError, VolumeError
from napari_sslseg.core.scans.geometry import Geometry

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

_LONGEST_REASON = 200


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
    notes : tuple of str
        What is done to make a regular grid of it, and what its header leaves open.
    """

    @property
    def path(self) -> Path: ...

    @property
    def geometry(self) -> Geometry: ...

    @property
    def frames(self) -> int: ...

    @property
    def header(self) -> Any: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def values(self, frame: int = 0) -> np.ndarray:
        """Values of one volume in the source grid: an integer type, or float32, native order."""
        ...


@contextmanager
def reraise_parser_errors(
    path: Path,
    what: str,
    *,
    advice: str = "export or download it again",
    errors: tuple[type[Exception], ...] = (),
    begins_as_text: bool = False,
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
    errors : tuple of exception types
        What this parser raises besides, such as exceptions of its own.
    begins_as_text : bool
        Files of this kind may begin with text, so that this is no reason to name.
    """
    caught: tuple[type[Exception], ...] = (*PARSER_ERRORS, *errors)
    try:
        yield
    except SslsegError:
        raise
    except MemoryError as error:
        raise VolumeError(
            f"{path} asks for more memory than there is; if it is not damaged, crop it or use a "
            "machine with more memory."
        ) from error
    except caught as error:
        reason = _reason(path, error, begins_as_text)
        raise VolumeError(f"{path} cannot be read as {what} ({reason}); {advice}.") from error


def check_present(path: Path) -> None:
    """Refuse what is missing, a folder, or empty.

    Raises
    ------
    VolumeError
        In one sentence.
    """
    if not path.exists():
        if path.is_symlink():
            raise VolumeError(
                f"{path} is a link to {str(path.readlink())!r}, which is missing; fetch that file, "
                "or remove the link."
            )
        raise VolumeError(f"{path} does not exist; check the path.")
    if path.is_dir():
        raise VolumeError(f"{path} is a folder; choose a scan file in it.")
    if path.stat().st_size == 0:
        raise VolumeError(f"{path} is empty (zero bytes); copy or download it again.")


def units_note(name: str) -> str:
    """What a header in another unit than mm leaves open; ``name`` is that of the unit."""
    return (
        f"its header gives lengths in {name}, which are turned into mm, but programs that pass "
        "over the unit show it in another size and place."
    )


def check_finite(data: np.ndarray, path: Path) -> np.ndarray:
    """Refuse values that are NaN or infinite; return the rest in native byte order."""
    # The sum is finite if all values are, unless it overflows: one pass without a mask in memory.
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = data.dtype.kind == "f" and not np.isfinite(data.sum())
    if suspect:
        bad = data.size - int(np.isfinite(data).sum())
        if bad:
            raise VolumeError(
                f"{path} holds {bad} values that are NaN or infinite; set them to a number, such "
                "as the value of the background."
            )
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _reason(path: Path, error: Exception, begins_as_text: bool) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as unreadable:
        return unreadable.strerror or "it cannot be opened"
    if (
        not begins_as_text
        and start
        and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start)
    ):
        return "it is a text file"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[0].rstrip(".")
    # Parsers quote what they stumbled over, which may be a whole file.
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} …"
