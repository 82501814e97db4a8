"""Read untrusted JSON with limits on its size, depth and numbers."""

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from napari_sslseg.core.common.safe_files import read_regular

MAX_DEPTH = 32
MOST_SIDECAR = 4 * 2**20
"""Bytes of ``best.json`` and ``last.json``, which have the shapes of all tensors."""

MOST_VALUES = 2_500_000
"""Numbers, texts, lists and objects in total; a record has about 25 for each scan."""

SEPARATORS = (b",", b":", b"[", b"{")

_NOT_UNICODE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# The rest, U+DC80 to U+DCFF, are the bytes of a file name that is not UTF-8, see PEP 383.

MOST_PATH = 4096


def _check_path(text: str) -> str:
    if not 0 < len(text) <= MOST_PATH:
        raise ValueError(f"it has {len(text)} characters, not 1 to {MOST_PATH}")
    return text


StoredPath = Annotated[str, AfterValidator(_check_path)]
"""Path or name of a file in a model; the limits of Pydantic itself refuse names without UTF-8."""

LARGEST = 1e15
"""Largest number: no setting, count or time is larger, and sums and products stay finite."""


def read_json(path: Path, most_bytes: int) -> Any:
    """Read a small JSON file, see :func:`parse_json`.

    Raises
    ------
    ValueError
        With a short reason, if it is larger than ``most_bytes`` or not valid.
    OSError
        If it cannot be read or is not a regular file.
    """
    return parse_json(read_regular(path, most_bytes))


def parse_json(data: bytes, *, any_number: bool = False) -> Any:
    """Parse untrusted JSON (UTF-8).

    The reader of Python accepts NaN and Infinity, reads 1e999 as infinity, keeps the last of two
    equal keys, and is limited only by its stack. All of these are refused here.

    Parameters
    ----------
    data : bytes
        The whole text, whose length the caller limits.
    any_number : bool
        Whether NaN, infinity and integers of up to 100 digits are allowed, as Python writes them.

    Raises
    ------
    ValueError
        With a short reason, such as "it is nested too deeply".

    Examples
    --------
    >>> parse_json(b'{"widths": [8, 16]}')
    {'widths': [8, 16]}
    >>> parse_json(b"[NaN]")
    Traceback (most recent call last):
    ValueError: NaN is not a number in JSON
    """
    check_parts(data, MOST_VALUES)
    try:
        found = json.loads(
            data.decode("utf-8"),
            parse_constant=float if any_number else _no_constant,
            parse_float=float if any_number else _bounded_float,
            parse_int=_long_int if any_number else _bounded_int,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON, line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_shape(found)
    return found


def check_parts(data: bytes, most_values: int) -> None:
    """Refuse text with too many values before they are created in memory.

    Counts the characters between values, of which there are at most twice as many as values. The
    exact number is checked after parsing.

    Raises
    ------
    ValueError
        If there are more.
    """
    most = 2 * most_values
    if sum(map(data.count, SEPARATORS)) + data.count(b'"') <= most:
        return
    # Without characters in texts: after escapes are removed, texts are every second part.
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if data.count(b'"') <= most:
        data = b"".join(data.split(b'"')[::2])
        if sum(map(data.count, SEPARATORS)) <= most:
            return
    raise ValueError(f"it has more than {most_values:,} values")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _bounded_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _bounded_int(text: str) -> int:
    # The digits are counted first, since Python raises its own error for thousands of them.
    if len(text) > 17 or abs(int(text)) > LARGEST:
        raise ValueError(f"the number {text[:20]} is too large")
    return int(text)


def _long_int(text: str) -> int:
    if len(text) > 100:
        raise ValueError(f"the number {text[:20]} is too large")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has the same key twice")
    return found


def _check_shape(found: Any) -> None:
    """Refuse too many levels or values, and text that is neither Unicode nor a file name."""
    level = [found]
    count = 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values")
        following: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                following.extend(value.keys())
                following.extend(value.values())
            elif isinstance(value, list):
                following.extend(value)
            elif isinstance(value, str) and _NOT_UNICODE.search(value):
                raise ValueError("it has text that is not Unicode")
        if not following:
            return
        level = following
    raise ValueError("it is nested too deeply")
