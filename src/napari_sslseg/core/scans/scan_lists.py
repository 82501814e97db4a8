"""Lists that a user writes for scans: JSON by scan, or a table with one line for each scan."""

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from napari_sslseg.core.common.errors import PATH, DataError, check_type
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.text import LONGEST, printable
from napari_sslseg.core.scans.names import listed_name

Value = TypeVar("Value")


def read_scan_list(
    path: str | Path,
    what: str,
    wanted: str,
    *,
    is_value: Callable[[Any], bool],
    read_table: Callable[[str], dict[str, Any]] | None = None,
    json: bool = True,
) -> dict[str, Any]:
    """Read a list by scan.

    Parameters
    ----------
    path : path-like
        JSON in UTF-8, such as ``{"p07": [3, 9]}``; or a table, if the file does not end in
        ``.json`` and tables are known.
    what, wanted : str
        What is listed, and what the file must hold, for messages.
    is_value : callable
        Whether the value of a scan is well-formed.
    read_table : callable, optional
        Reads the text of a table; it raises a ValueError with a short reason.
    json : bool
        Whether the file may be JSON.

    Raises
    ------
    DataError
        If the file is missing or malformed, or names a scan twice.
    """
    check_type(path, PATH, f"The list of {what}", "the path of a file")
    path = Path(path)
    if not path.is_file():
        raise DataError(f"The list of {what} {path} does not exist; check the path.")
    as_table = not json or path.suffix.lower() != ".json"
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = read_table(text) if read_table and as_table else parse_json(text.encode())
    except (ValueError, OSError, csv.Error) as error:
        reason = str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = "it is not text in UTF-8"
        elif isinstance(error, csv.Error):
            reason += "; check that each quote in it is closed"
        raise DataError(
            f"The list of {what} {path} cannot be read ({reason}); it must hold {wanted}."
        ) from error
    if not isinstance(found, dict) or not all(map(is_value, found.values())):
        raise DataError(f"The list of {what} {path} must hold {wanted}.")
    return found


def read_rows(text: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a table, each with its number and its cells in some columns.

    Parameters
    ----------
    text : str
        The table, separated by commas, semicolons or tabs.
    columns : sequence of str
        Titles in its first line; others are ignored, and lines without any of these are left out.

    Raises
    ------
    ValueError
        With a short reason, if a column is missing, or a line has more cells than the first one.
    csv.Error
        If a quote is not closed.
    """
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    # Strict, since a quote that is not closed would make one cell of all lines after it.
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
    titles = {str(title).strip().casefold(): title for title in rows.fieldnames or ()}
    if not set(columns) <= set(titles):
        raise ValueError(
            f"the columns {' and '.join(columns)} are missing in its first line, "
            f"{printable(text.partition(chr(10))[0].strip(), LONGEST)}"
        )
    for row in rows:
        cells = {column: str(row[titles[column]] or "").strip() for column in columns}
        if any(part.strip() for part in row.get(None) or ()):
            raise ValueError(
                f"line {rows.line_num} has more cells than the first line; put a cell that "
                f"contains {delimiter!r} in quotes, or separate its values by blanks"
            )
        if any(cells.values()):
            yield rows.line_num, cells


def by_scan(listed: Mapping[str, Value], scans: Collection[str], what: str) -> dict[str, Value]:
    """Return the values of a list by the names of the scans.

    Parameters
    ----------
    listed : mapping of str to value
        Values by name of the scan, or by its file name.
    scans : collection of str
        Names of all scans.
    what : str
        What is listed, for messages.

    Raises
    ------
    DataError
        If there is no scan of a name, or a scan is named twice.
    """
    found: dict[str, Value] = {}
    for given, value in listed.items():
        scan = listed_name(given, scans)
        if scan not in scans:
            raise DataError(
                f"The list of {what} names {given}, but there is no scan of that name; correct the "
                "list."
            )
        if scan in found:
            raise DataError(f"The list of {what} names {scan} twice; keep one of the entries.")
        found[scan] = value
    return found
