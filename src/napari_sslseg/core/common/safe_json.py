"""Read JSON from strangers: no surprises of size, depth or number."""

import json
import math
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.safe_files import read_regular

DEEPEST = 32
MOST_SIDECAR = 4 * 2**20
"""Bytes of ``best.json`` and ``last.json``, which list the shapes of all tensors."""

MOST_VALUES = 500_000
"""Numbers, texts, lists and objects in all; the largest record has a list of slices per scan."""

SIGNS = (b",", b":", b"[", b"{")

LARGEST = 1e15
"""No setting, count or time is larger, and sums and products of such numbers stay finite."""


def read_json(path: Path, most_bytes: int) -> Any:
    """Read a small JSON file, see :func:`parse_json`.

    Raises
    ------
    ValueError
        With a short reason, if it is larger than ``most_bytes`` or not what JSON should be.
    OSError
        If it cannot be read, or is no plain file.
    """
    return parse_json(read_regular(path, most_bytes))


def parse_json(data: bytes, *, any_number: bool = False) -> Any:
    """Parse JSON (UTF-8) that somebody else may have written.

    Python's own reader takes NaN and Infinity, turns 1e999 into infinity, lets the last of two
    equal keys win, and has no bound but its stack. Here all of these are refused.

    Parameters
    ----------
    data : bytes
        The whole text; its length is for the caller to bound.
    any_number : bool
        Whether NaN, infinity, and whole numbers of up to 100 digits may be in it, as Python writes
        them.

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
    ValueError: NaN is no number of JSON
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
        raise ValueError("it is no text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON, line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_shape(found)
    return found


def check_parts(data: bytes, most_values: int) -> None:
    """Refuse text that would become too many values, before any of them takes memory.

    The real number is found after parsing; here signs between values are counted, of which there
    are at most twice as many.

    Raises
    ------
    ValueError
        If there are more.
    """
    most = 2 * most_values
    if sum(map(data.count, SIGNS)) + data.count(b'"') <= most:
        return
    # Signs within texts do not count; without escapes, these stand between every other pair of ".
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if data.count(b'"') <= most:
        data = b"".join(data.split(b'"')[::2])
        if sum(map(data.count, SIGNS)) <= most:
            return
    raise ValueError(f"it holds more than {most_values:,} values")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _bounded_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _bounded_int(text: str) -> int:
    # By its digits first: Python itself refuses thousands of them, with an error of its own.
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
        raise ValueError("it names the same thing twice")
    return found


def _check_shape(found: Any) -> None:
    """Refuse what is too deep, has too many parts, or text that cannot be written as UTF-8."""
    level = [found]
    count = 0
    for _ in range(DEEPEST):
        count += len(level)
        if count > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values")
        following: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                following.extend(value.keys())
                following.extend(value.values())
            elif isinstance(value, list):
                following.extend(value)
            elif isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
                raise ValueError("it holds text that is no Unicode")
        if not following:
            return
        level = following
    raise ValueError("it is nested too deeply")
