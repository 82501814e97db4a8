"""A class map: which structure in a label file is which class, as the user says it.

It is a CSV file with the columns of :data:`COLUMNS`, or JSON. An empty ``file`` stands for all
files, and the class ``-`` leaves a structure out.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.safe_files import read_regular
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.text import fold_name, printable
from napari_sslseg.core.scans.classes.segment import Segment, clean_name, fold_class, is_placeholder
from napari_sslseg.core.scans.names import scan_name

COLUMNS = ("file", "value", "name", "class")
"""Columns of the table; a further column ``number`` gives the label value of the class."""

LEFT_OUT = "-"
"""Class of a structure that becomes background."""

ANY = "*"
"""Name of all structures that no other row names."""

_MOST_BYTES = 16 * 2**20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class MapRow:
    """A row of a class map.

    Parameters
    ----------
    target : str
        Name or label value of the class; ``-`` to leave the structure out; empty in a table that
        is still to be filled in.
    file : str
        Name of the label file or of its scan; empty for all files.
    value : int or None
        Label value in the file. Without ``name`` only structures that have no name are meant.
    name : str
        Name in the file; ``*`` for all structures that no other row names.
    number : int or None
        Label value of the class, if ``target`` is its name.
    """

    target: str
    file: str = ""
    value: int | None = None
    name: str = ""
    number: int | None = None

    def means(self, files: Iterable[str], segment: Segment) -> bool:
        """Whether the row is for a structure of a file that has these names."""
        if self.file and fold_name(self.file) not in map(fold_name, files):
            return False
        if self.name == ANY:
            return True
        if self.value is not None and self.value != segment.value:
            return False
        if not self.name:
            return is_placeholder(segment.name)
        return fold_class(self.name) == fold_class(segment.name)

    @property
    def weight(self) -> tuple[bool, bool, bool]:
        """How specific the row is; the most specific one applies."""
        return self.name != ANY, bool(self.file), self.value is not None


@dataclass(frozen=True)
class ClassMap:
    """Which structure is which class.

    Parameters
    ----------
    rows : tuple of MapRow
        The table.
    source : str
        Where it was read, for messages.
    """

    rows: tuple[MapRow, ...] = ()
    source: str = "The class map"

    @classmethod
    def of(cls, given: "ClassMapLike") -> "ClassMap | None":
        """Read a class map.

        Parameters
        ----------
        given : ClassMap, path-like, mapping or None
            A CSV or JSON file; or classes by name in the file, or by value for structures without
            a name, such as ``{"Leber": "liver", 3: "spleen", "BODY": None}``. A class is a name or
            a label value; None leaves the structure out. A mapping of such mappings is by name of
            the file.

        Raises
        ------
        ConfigError
            If it cannot be read, or a class is missing.
        """
        if given is None or isinstance(given, ClassMap):
            return given
        if isinstance(given, Mapping):
            found = cls(tuple(_rows_of_mapping(given, "The class map")))
        else:
            path = Path(given)
            found = cls(tuple(_read(path)), str(path))
        if not found.rows:
            raise ConfigError(f"{found.source} is empty; give at least one structure.")
        return found

    def find(self, file: str, segment: Segment) -> MapRow | None:
        """The most specific row for a structure of a file; None if there is none.

        Raises
        ------
        ConfigError
            If two rows contradict each other.
        """
        names = {file, Path(file).name, scan_name(file)}
        fit = [row for row in self.rows if row.means(names, segment)]
        if not fit:
            return None
        best = max(fit, key=lambda row: row.weight)
        for row in fit:
            if row.weight == best.weight and fold_class(row.target) != fold_class(best.target):
                raise ConfigError(
                    f"{self.source} gives {describe(segment)} of {file} two classes, {row.target} "
                    f"and {best.target}; keep one of the rows."
                )
        return best


ClassMapLike = ClassMap | Mapping[Any, Any] | str | Path | None
"""A class map, or what :meth:`ClassMap.of` makes one of."""


def describe(segment: Segment) -> str:
    """Name a structure in a message."""
    if segment.name:
        return f"{printable(segment.name, 100)} (value {segment.value})"
    return f"the value {segment.value}"


def format_table(rows: Iterable[MapRow]) -> str:
    """Format rows as the CSV that :meth:`ClassMap.of` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        value = "" if row.value is None else row.value
        writer.writerow([printable(part) for part in (row.file, value, row.name, row.target)])
    return text.getvalue().rstrip("\n")


def _read(path: Path) -> Iterator[MapRow]:
    try:
        data = read_regular(path, _MOST_BYTES).removeprefix(_BOM)
        text = data.decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"The class map {path} cannot be read ({error.strerror or error}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The class map {path} is not in UTF-8; save it as UTF-8.") from error
    except ValueError as error:
        raise ConfigError(f"The class map {path} is too large; {error}.") from error
    if path.suffix.lower() != ".json":
        try:
            return _rows_of_table(_split_table(text), str(path))
        except csv.Error as error:
            raise ConfigError(
                f"The class map {path} cannot be read ({error}); check that each quote in it "
                "is closed."
            ) from error
    try:
        content = parse_json(data)
    except ValueError as error:
        raise ConfigError(f"The class map {path} is not JSON ({error}).") from error
    if isinstance(content, Mapping):
        return _rows_of_mapping(content, str(path))
    if isinstance(content, list) and all(isinstance(item, Mapping) for item in content):
        rows = [{key: "" if v is None else str(v) for key, v in item.items()} for item in content]
        return _rows_of_table(rows, str(path))
    raise ConfigError(
        f'The class map {path} must give classes by structure, such as {{"Leber": "liver"}}.'
    )


def _split_table(text: str) -> list[dict[str, str]]:
    """Rows of a table whose columns a comma, semicolon or tab separates."""
    head = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=head.count)
    # Strict, since a quote that is not closed would make one cell of all lines after it.
    reader = csv.DictReader(
        io.StringIO(text.lstrip(), newline=""), delimiter=separator, strict=True
    )
    rows = []
    for row in reader:
        cells = {str(key): value if isinstance(value, str) else "" for key, value in row.items()}
        if any(cell.strip() for cell in cells.values()):
            rows.append(cells)
    return rows


def _rows_of_table(rows: Sequence[Mapping[str, str]], source: str) -> Iterator[MapRow]:
    for number, given in enumerate(rows, 1):
        row = {key.strip().lower(): value.strip() for key, value in given.items()}
        unknown = set(row) - {*COLUMNS, "number"}
        if unknown or "class" not in row:
            raise ConfigError(
                f"{source} must have the columns {', '.join(COLUMNS)}"
                + (f", not {printable(min(unknown), 40)}." if unknown else ".")
            )
        name, value = clean_name(row.get("name")), row.get("value", "")
        if not name and not value:
            raise ConfigError(f"Row {number} of {source} names no structure; give name or value.")
        if not row["class"]:
            what = name or f"value {value}"
            raise ConfigError(
                f"Row {number} of {source} has no class for {what}; fill it in, or write "
                f"{LEFT_OUT} to leave the structure out."
            )
        yield MapRow(
            clean_name(row["class"]),
            row.get("file", ""),
            _whole(value, number, source),
            name,
            _whole(row.get("number", ""), number, source),
        )


def _whole(text: str, number: int, source: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"\d{1,10}(\.0*)?", text):
        raise ConfigError(f"Row {number} of {source} has {text} where a whole number belongs.")
    return int(text.partition(".")[0])


def _rows_of_mapping(given: Mapping[Any, Any], source: str, file: str = "") -> Iterator[MapRow]:
    for key, target in given.items():
        if isinstance(target, Mapping) and not file:
            yield from _rows_of_mapping(target, source, str(key))
            continue
        if target is not None and not isinstance(target, str | int):
            raise ConfigError(f"{source} gives {key} the class {target}; give a name or a value.")
        text = clean_name(target) if target else "" if target == "" else LEFT_OUT
        if not text:
            raise ConfigError(f"{source} has no class for {key}; give a name, a value or None.")
        is_value = isinstance(key, int) or re.fullmatch(r"\d{1,10}", str(key))
        if is_value:
            yield MapRow(text, file, int(key))
        else:
            yield MapRow(text, file, name=clean_name(key))
