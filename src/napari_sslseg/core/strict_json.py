"""Read JSON from strangers: no surprises of size, depth or number."""

import json
import math
from pathlib import Path
from typing import Any

DEEPEST = 32
MOST_VALUES = 500_000
"""Numbers, texts, lists and objects in all; the largest record has a list of slices per scan."""

LARGEST = 1e15
"""No setting, count or time is larger, and sums and products of such numbers stay finite."""


def read_json(path: Path, most_bytes: int) -> Any:
    """Read a small JSON file, see :func:`parse_json`.

    Raises
    ------
    ValueError
        With a short reason, if it is larger than ``most_bytes`` or not what JSON should be.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        # Not by its size: a file may grow, and some have none, such as pipes.
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes / 2**20:.3g} MiB")
    return parse_json(data)


def parse_json(data: bytes) -> Any:
    """Parse JSON (UTF-8) that somebody else may have written.

    Python's own reader takes NaN and Infinity, turns 1e999 into infinity, lets the last of two
    equal keys win, and has no bound but its stack. Here all of these are refused.

    Parameters
    ----------
    data : bytes
        The whole text; its length is for the caller to bound.

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
    try:
        found = json.loads(
            data.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_bounded_float,
            parse_int=_bounded_int,
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
