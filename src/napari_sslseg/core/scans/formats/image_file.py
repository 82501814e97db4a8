"""The interface of opened files, and errors of parsers as one-sentence messages."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sslseg.core.common.errors import SslsegError, VolumeError
from napari_sslseg.core.scans.geometry import Geometry

# Exceptions that parsers raise on damaged files. A programming error of this package would be
# reported as a damaged file too, so blocks under `reraise_parser_errors` do little besides parsing.
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
    """An opened scan or label map; only its header has been read.

    Attributes
    ----------
    path : Path
        The file, or the folder of the files.
    geometry : Geometry
        Grid of one volume.
    frames : int
        Number of volumes on this grid; more than 1 for a time series.
    header : object
        Information that a writer needs for labels in the same frame.
    notes : tuple of str
        Changes that make the grid regular, and ambiguities of the header.
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
        """Read a volume in the source grid: integers or float32, in native byte order."""
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
    """Convert errors of a parser inside the block to a VolumeError of one sentence.

    Parameters
    ----------
    path : Path
        The file, for the message.
    what : str
        Type of the file, such as "a NIfTI file".
    advice : str
        Advice for the user.
    errors : tuple of exception types
        Further exceptions of this parser.
    begins_as_text : bool
        Whether valid files may begin with text. Otherwise text is named as the reason.
    """
    caught: tuple[type[Exception], ...] = (*PARSER_ERRORS, *errors)
    try:
        yield
    except SslsegError:
        raise
    except MemoryError as error:
        raise VolumeError(
            f"{path} needs more memory than is available; if it is not damaged, crop it or use a "
            "machine with more memory."
        ) from error
    except caught as error:
        reason = _reason(path, error, begins_as_text)
        raise VolumeError(f"{path} cannot be read as {what} ({reason}); {advice}.") from error


def check_present(path: Path, what: str = "scan file") -> None:
    """Check that a path is a file that is not empty.

    Parameters
    ----------
    path : Path
        The path.
    what : str
        What the file is, for messages.

    Raises
    ------
    VolumeError
        If it is missing, a broken link, a folder, a pipe, a device, or empty.
    """
    if not path.exists():
        if path.is_symlink():
            raise VolumeError(
                f"{path} is a link to {str(path.readlink())!r}, which is missing; restore that "
                "file, or remove the link."
            )
        raise VolumeError(f"{path} does not exist; check the path.")
    if path.is_dir():
        raise VolumeError(f"{path} is a folder; choose a {what} in it.")
    if not path.is_file():
        raise VolumeError(
            f"{path} is a pipe or a device and not a file; choose a {what}, or remove it."
        )
    if path.stat().st_size == 0:
        raise VolumeError(f"{path} is empty (zero bytes); copy or download it again.")


def units_note(name: str) -> str:
    """Return the note on a header whose unit of length is not mm but ``name``."""
    return (
        f"its header gives lengths in {name}, which are converted to mm, but programs that ignore "
        "the unit show another size and position."
    )


def check_finite(data: np.ndarray, path: Path) -> np.ndarray:
    """Return the values in native byte order after checking that all are finite.

    Raises
    ------
    VolumeError
        If there are NaN or infinite values.
    """
    # A finite sum implies finite values: one pass, without a mask in memory.
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = data.dtype.kind == "f" and not np.isfinite(data.sum())
    if suspect:
        bad = data.size - int(np.isfinite(data).sum())
        if bad:
            raise VolumeError(
                f"{path} holds {bad} values that are NaN or infinite; set them to a number, such "
                "as the background value."
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
    # Parsers may quote the whole file.
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} …"
