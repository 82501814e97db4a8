"""Match the structures of several label files to classes: by name, by code, or as the user says.

A class is a meaning, not a number: the liver of one file may have the value that another file
gives to the spleen.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Literal

from napari_sslseg.core.common.errors import ClassesError, ConfigError
from napari_sslseg.core.common.text import join_names, printable
from napari_sslseg.core.scans.classes.class_map import (
    LEFT_OUT,
    ClassMap,
    ClassMapLike,
    MapRow,
    describe,
    format_table,
)
from napari_sslseg.core.scans.classes.name_hints import how_to_copy_names, misspelt_names
from napari_sslseg.core.scans.classes.segment import (
    Segment,
    fold_class,
    is_placeholder,
    words_of_class,
)

How = Literal["said", "name", "code", "number", "new", "unclear"]
"""How the class of a structure was found: said by a class map, by name, code or value."""

LARGEST_VALUE = 2**31 - 1
"""Largest label value."""


@dataclass(frozen=True)
class LabelFile:
    """A label file to match.

    Parameters
    ----------
    name : str
        As in messages and class maps.
    segments : tuple of Segment
        Its structures; empty if nothing names them.
    read_values : callable, optional
        Reads the label values that occur; needed for a file that names no structures.
    path : Path, optional
        The file, or the first of several.
    role : str
        What it is compared as, such as "prediction"; empty if it is not compared.
    """

    name: str
    segments: tuple[Segment, ...] = ()
    read_values: Callable[[], Iterable[int]] | None = None
    path: Path | None = None
    role: str = ""


@dataclass(frozen=True)
class ClassMatch:
    """The classes of several label files.

    Attributes
    ----------
    names : dict of int to str
        Name of each class by its label value.
    values : tuple of (dict of int to int or None)
        For each file the class of each label value, 0 for a structure that is left out; None if
        the values of the file are the classes.
    notes : tuple of str
        What the user should check, in one sentence each.
    """

    names: dict[int, str]
    values: tuple[dict[int, int] | None, ...]
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class _Class:
    """A class that is being put together; ``guessed`` are codes derived from its name."""

    name: str = ""
    key: str = ""
    codes: set[str] = field(default_factory=set)
    guessed: set[str] = field(default_factory=set)
    value: int | None = None
    wanted: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """A structure of a file, its class, and how it was found; without class it is left out.

    ``offer`` is a class that the table of a refusal suggests.
    """

    file: int
    segment: Segment
    kind: _Class | None = None
    how: How = "said"
    problem: str = ""
    offer: str = ""


def describe_names(names: Mapping[int, str]) -> str:
    """List classes by their values, such as "1 liver, 2 spleen"."""
    return ", ".join(f"{value} {printable(names[value], 100)}" for value in sorted(names))


@dataclass(frozen=True)
class Structure:
    """A structure of a label file and its class.

    Attributes
    ----------
    segment : Segment
        The structure in the file.
    how : str
        How its class was found; "new" for a class that was not known, "unclear" if it was not.
    name : str
        Name of the class.
    value : int
        Label value of the class; 0 if the structure is left out or its class is not clear.
    problem : str
        Why the class is not clear.
    """

    segment: Segment
    how: How
    name: str = ""
    value: int = 0
    problem: str = ""


def match_file(
    file: LabelFile,
    known: Iterable[Segment],
    class_map: ClassMapLike = None,
    largest: int = LARGEST_VALUE,
) -> tuple[Structure, ...]:
    """Match the structures of one label file to known classes, such as those of a project.

    As :func:`match_segments`, but the known classes have values that users know. Values of a file
    without names are therefore classes. What is not clear is returned as such.

    Parameters
    ----------
    file, known, class_map, largest
        As in :func:`match_segments`; ``read_values`` of the file gives the values to match.

    Returns
    -------
    tuple of Structure
        One for each value that occurs.

    Raises
    ------
    ConfigError
        If the class map is malformed or contradicts itself.
    """
    occurring = {int(value) for value in (file.read_values or tuple)() if value}
    named = {item.value: item for item in file.segments if item.value in occurring}
    segments = tuple(named.get(value) or Segment(value) for value in sorted(occurring))
    matcher = _Matcher((replace(file, segments=segments),), ClassMap.of(class_map), known, largest)
    return matcher.match_one_file()


def refuse_unclear(file: str, structures: Sequence[Structure], known: Iterable[str] = ()) -> None:
    """Refuse structures whose class is not clear.

    Raises
    ------
    ClassesError
        With the class map to fill in.
    """
    unclear = [item for item in structures if item.how == "unclear"]
    if unclear:
        found = [
            _Found(0, item.segment, _Class(item.name, value=item.value), problem=item.problem)
            for item in structures
        ]
        raise _unclear([item for item in found if item.problem], found, (LabelFile(file),), known)


def match_segments(
    files: Sequence[LabelFile],
    class_map: ClassMapLike = None,
    known: Iterable[Segment] = (),
    largest: int = LARGEST_VALUE,
) -> ClassMatch:
    """Match the structures of label files to classes.

    Structures of one name are one class, whatever their values; see
    :func:`~napari_sslseg.core.scans.classes.segment.fold_class` for equal names. So are structures
    of one code that occurs once in each file. A class keeps its value of ``known``, else the value
    of the first file with it, if no other class has that value, else gets the lowest free one.
    If no file names its structures, values are classes.

    Parameters
    ----------
    files : sequence of LabelFile
        The files, in a fixed order.
    class_map : ClassMap, path-like or mapping, optional
        Which structure is which class, see
        :meth:`~napari_sslseg.core.scans.classes.class_map.ClassMap.of`. It overrides names.
    known : iterable of Segment, optional
        Classes that are known, such as those of a project.
    largest : int
        Largest value of a class.

    Raises
    ------
    ClassesError
        If the class of a structure is not clear: some files name their structures and others do
        not; two structures of a file have the same name; a name and a code disagree; a name has
        the words of another one in another order. The error has the class map to fill in.
    ConfigError
        If the class map is malformed or contradicts itself.
    """
    said = ClassMap.of(class_map)
    matcher = _Matcher(files, said, known, largest)
    if not matcher.by_name and said is None:
        return ClassMatch({}, (None,) * len(files), _note_numbers(files))
    return matcher.match()


def _note_numbers(files: Sequence[LabelFile]) -> tuple[str, ...]:
    """Note that numbers decide where several files have only names that say nothing."""
    named = [file for file in files if any(segment.name for segment in file.segments)]
    if len(named) < 2:
        return ()
    first = next(segment.name for segment in named[0].segments if segment.name)
    return (
        f"The structures of {len(named)} label files have only default names such as "
        f"{printable(first, 60)}, so their numbers are the classes; check that a number is the "
        "same structure in all of them.",
    )


class _Matcher:
    """The state of one matching; see :func:`match_segments`."""

    def __init__(
        self,
        files: Sequence[LabelFile],
        said: ClassMap | None,
        known: Iterable[Segment],
        largest: int,
    ) -> None:
        self.files, self.said, self.largest = files, said, largest
        self.classes = [
            _Class(item.name, _key(item), guessed={item.code} - {""}, value=item.value)
            for item in known
        ]
        self.named = [
            any(not is_placeholder(segment.name) for segment in file.segments) for file in files
        ]
        self.by_name = (
            any(self.named)
            or any(item.key for item in self.classes)
            or _placeholders_differ(file.segments for file in files)
        )
        self.notes: list[str] = []
        self.used: set[MapRow] = set()

    def match(self) -> ClassMatch:
        """Match all files."""
        found: list[_Found] = []
        for number, file in enumerate(self.files):
            found += self._match_file(number, self._segments(file, self.named[number]))
        problems = [item for item in found if item.problem]
        if problems:
            raise _unclear(problems, found, self.files, [item.name for item in self.classes])
        self._note_unused_rows()
        self._give_values()
        values: list[dict[int, int]] = [{} for _ in self.files]
        for item in found:
            values[item.file][item.segment.value] = item.kind.value or 0 if item.kind else 0
        names = {item.value: item.name for item in self.classes if item.name and item.value}
        self._note_missing(found)
        self._note_placeholders(found)
        return ClassMatch(dict(sorted(names.items())), tuple(values), tuple(self.notes))

    def match_one_file(self) -> tuple[Structure, ...]:
        """Match the only file, whose values are classes if it has no names."""
        nameless_class = next((item.name for item in self.classes if not item.key), "")
        found = []
        for item in self._match_file(0, self.files[0].segments):
            if item.problem and not self.named[0]:
                # Such a class was made for this value.
                kind = next(
                    (k for k in self.classes if k.name == f"class {item.segment.value}"), None
                )
                if kind is not None:
                    found.append(_Found(0, item.segment, kind, "name"))
                    continue
                if item.segment.value > self.largest:
                    problem = f"the value {item.segment.value} is above {self.largest}"
                    found.append(replace(item, problem=problem))
                    continue
                old = any(kind.value == item.segment.value for kind in self.classes)
                kind = self._class_of_value(item.segment.value)
                found.append(_Found(0, item.segment, kind, "number" if old else "new"))
            elif item.how == "new" and nameless_class:
                problem = f"{describe(item.segment)} may be {nameless_class}, which has no name yet"
                found.append(replace(item, problem=problem))
            else:
                found.append(item)
        self._give_values()
        return tuple(map(_structure, found))

    def _segments(self, file: LabelFile, named: bool) -> tuple[Segment, ...]:
        """Structures of a file; without names, or if the class map gives values, its values too."""
        by_value = self.said is not None and any(not row.name for row in self.said.rows)
        if file.segments and ((named and not by_value) or file.read_values is None):
            return file.segments
        values = () if file.read_values is None else file.read_values()
        known = {segment.value: segment for segment in file.segments}
        for value in sorted(int(value) for value in values):
            if value and value not in known:
                known[value] = Segment(value)
        return tuple(known.values())

    def _match_file(self, number: int, segments: Sequence[Segment]) -> list[_Found]:
        codes = Counter(segment.code for segment in segments)
        keys = {fold_class(segment.name) for segment in segments}
        found = [
            self._match_one(number, segment, segment.code if codes[segment.code] == 1 else "", keys)
            for segment in segments
        ]
        # Two structures of one file are one class only if the user says so.
        twice = Counter(id(item.kind) for item in found if item.kind and item.how != "said")
        return [
            replace(
                item, problem=f"several structures of {self._name(number)} are {_say(item.kind)}"
            )
            if item.kind is not None and item.how != "said" and twice[id(item.kind)] > 1
            else item
            for item in found
        ]

    def _match_one(self, number: int, segment: Segment, code: str, keys: Collection[str]) -> _Found:
        """Find the class of a structure; ``keys`` are the names of all structures of its file."""
        row = self.said.find(self.files[number].name, segment) if self.said else None
        if row is not None:
            self.used.add(row)
            left_out = row.target in (LEFT_OUT, "0")
            return _Found(number, segment, None if left_out else self._class_of_row(row, segment))
        file = self._name(number)
        nameless = not segment.name or (not self.named[number] and is_placeholder(segment.name))
        if nameless:
            problem = (
                f"the labels of {file} have no names, which a classes.json in their folder can give"
            )
            if segment.name:
                problem = f"names such as {printable(segment.name, 100)} of {file} say nothing"
            if self.named[number]:
                problem = f"{describe(segment)} of {file} has no name"
            return _Found(number, segment, problem=problem)
        if problem := why_no_class(segment, file):
            return _Found(number, segment, problem=problem)
        how: How = "name"
        kind = self._class_of_key(fold_class(segment.name))
        coded = [item for item in self.classes if code and code in item.codes | item.guessed]
        if kind is not None and code and kind.codes and code not in kind.codes:
            problem = (
                f"{describe(segment)} of {file} has another code than {_say(kind)} of other labels"
            )
            return _Found(number, segment, problem=problem)
        if kind is None and len(coded) == 1:
            kind, how = coded[0], "code"
            self.notes.append(
                f"{describe(segment)} of {file} is taken as {_say(kind)}, since both have the code "
                f"{code}."
            )
        elif kind is None and (alike := self._class_of_words(segment.name, keys)):
            problem = f"{describe(segment)} of {file} has the same words as {_say(alike)}"
            return _Found(number, segment, problem=problem, offer=alike.name)
        elif kind is None:
            kind, how = _Class(segment.name, fold_class(segment.name)), "new"
            self.classes.append(kind)
        kind.codes |= {code} - {""}
        kind.wanted.append(segment.value)
        return _Found(number, segment, kind, how)

    def _class_of_row(self, row: MapRow, segment: Segment) -> _Class:
        """The class that a row of the class map names, by its name or label value."""
        if re.fullmatch(r"\d{1,10}", row.target):
            return self._class_of_value(int(row.target))
        key = fold_class(row.target)
        found = self._class_of_key(key)
        if found is None:
            found = _Class(row.target, key)
            self.classes.append(found)
        if row.number is not None and found.value is None:
            found.value = row.number
        found.wanted.append(segment.value)
        return found

    def _class_of_value(self, value: int) -> _Class:
        """The class of a label value; a named class may turn out to have the same value."""
        for item in self.classes:
            if item.value == value:
                return item
        new = _Class(value=value)
        self.classes.append(new)
        return new

    def _class_of_key(self, key: str) -> _Class | None:
        return next((item for item in self.classes if key and item.key == key), None)

    def _class_of_words(self, name: str, keys: Collection[str]) -> _Class | None:
        """The class of the same words in another order, unless the file has both names."""
        words = words_of_class(name)
        return next(
            (
                item
                for item in self.classes
                if len(words) > 1 and item.key not in keys and words_of_class(item.name) == words
            ),
            None,
        )

    def _name(self, number: int) -> str:
        return printable(self.files[number].name, 100)

    def _give_values(self) -> None:
        """Give each class a value: its own, else the first that it has in a file, else a free one.

        Raises
        ------
        ClassesError
            If there are more classes than values.
        """
        taken = {item.value for item in self.classes if item.name and item.value}
        numbers = {item.value for item in self.classes if item.value}
        for item in self.classes:
            if item.value is None:
                own = next((v for v in item.wanted if v not in taken and v <= self.largest), None)
                item.value = own or next(v for v in count(1) if v not in taken | numbers)
                taken.add(item.value)
        twice = Counter(item.value for item in self.classes if item.name)
        for value, number in twice.items():
            if number > 1:
                raise ConfigError(f"Two classes have the value {value}; give each its own number.")
        largest = max((item.value or 0 for item in self.classes), default=0)
        if largest > self.largest:
            raise ClassesError(
                f"The class value {largest} is above {self.largest}, the largest that is possible "
                "here; give smaller values, or leave structures out with a class map."
            )

    def _note_missing(self, found: Sequence[_Found]) -> None:
        """Note which classes some files do not have, since that may be a misspelt name."""
        having: dict[str, set[int]] = {}
        for item in found:
            if item.kind is not None and item.kind.name:
                having.setdefault(printable(item.kind.name, 60), set()).add(item.file)
        filled = {item.file for item in found}
        similar = misspelt_names(having)
        for first, second in similar:
            where = join_names([self._name(number) for number in sorted(having[second])], 2)
            self.notes.insert(
                0,
                f"Did you mean {first}? {second} (in {where}) is taken as another class, since the "
                f"names differ, so it has nothing in common with {first}; correct the name, which "
                "may be in a classes.json beside the labels.",
            )
        if not similar and (note := self._nothing_in_common(having)):
            self.notes.insert(0, note)
            return
        doubtful = {name for pair in similar for name in pair}
        parts = [
            f"{name} (not in {join_names([self._name(n) for n in sorted(filled - files)], 2)})"
            for name, files in having.items()
            if filled - files and name not in doubtful
        ]
        if parts:
            self.notes.append(
                f"Not every label file names every class: {join_names(parts)}; check the spelling."
            )

    def _nothing_in_common(self, having: Mapping[str, set[int]]) -> str:
        """Say that files of two roles have no class in common; empty if they have."""
        by_role: dict[str, list[str]] = {}
        for name, files in having.items():
            roles = {self.files[number].role for number in files}
            if len(roles) > 1:
                return ""
            by_role.setdefault(roles.pop(), []).append(name)
        if len(by_role) != 2:
            return ""
        (one, ones), (other, others) = by_role.items()
        example = {others[0]: ones[0]}
        return (
            f"Each class differs: those of the {one} are {join_names(ones)}, those of the {other} "
            f"{join_names(others)}. If they are the same structures under other names, say which "
            "is which with --class-map FILE, a JSON file such as "
            f"{json.dumps(example, ensure_ascii=False)} (in Python class_map={example})."
        )

    def _note_placeholders(self, found: Sequence[_Found]) -> None:
        """Note names that say nothing, but are one class of several files that name others."""
        having: dict[str, set[int]] = {}
        for item in found:
            if item.kind is not None and item.how != "said" and is_placeholder(item.segment.name):
                having.setdefault(printable(item.kind.name, 60), set()).add(item.file)
        for name, files in having.items():
            if len(files) > 1:
                where = join_names([self._name(number) for number in sorted(files)])
                self.notes.append(
                    f"{name} is taken as one class of {where}, although the name says nothing; "
                    "check that it is one structure."
                )

    def _note_unused_rows(self) -> None:
        rows = self.said.rows if self.said else ()
        unused = [row.name or str(row.value) for row in rows if row not in self.used]
        unused = [name for name in unused if name != "*"]
        if unused and self.said:
            self.notes.append(
                f"{self.said.source} gives classes for structures that no label file has: "
                f"{join_names(unused)}."
            )


def _structure(item: _Found) -> Structure:
    kind = item.kind or _Class()
    if item.problem:
        return Structure(item.segment, "unclear", problem=item.problem)
    return Structure(item.segment, item.how, kind.name, kind.value or 0)


def _unclear(
    problems: Sequence[_Found],
    found: Sequence[_Found],
    files: Sequence[LabelFile],
    known: Iterable[str],
) -> ClassesError:
    """The error, with a table of all structures of the files with a problem."""
    shown = {item.file for item in problems}
    rows = _rows([item for item in found if item.file in shown], found, files)
    more = len({item.problem for item in problems}) - 1
    names = [printable(name, 60) for name in known if name]
    if hint := _copy_hint(problems[0], files):
        return ClassesError(hint, format_table(rows))
    classes = f" (the classes are {join_names(names, 6)})" if names else ""
    return ClassesError(
        f"It is not clear which structure is which class: {problems[0].problem}{classes}"
        f"{f', and {more} more' if more else ''}; save this table as a CSV file, check its "
        "classes, fill in each empty one (- leaves a structure out), and give it with --class-map "
        "(in Python class_map=):",
        format_table(rows),
    )


def _copy_hint(problem: _Found, files: Sequence[LabelFile]) -> str:
    """Say how to name nameless labels as the other ones; empty if there is no list to copy."""
    file = files[problem.file]
    if any(item.name for item in file.segments) or file.path is None:
        return ""
    named = [item.path for item in files if item.path and any(s.name for s in item.segments)]
    command = how_to_copy_names(file.path, named)
    if not command:
        return ""
    return (
        f"Copy the list of names beside the labels ({command}) if each value is the same class "
        f"there: {printable(file.name, 100)} has no names of classes, and other labels have. If "
        "not, save this table as a CSV file, fill in each empty class (- leaves a structure out), "
        "and give it with --class-map (in Python class_map=):"
    )


def _rows(
    shown: Sequence[_Found], found: Sequence[_Found], files: Sequence[LabelFile]
) -> list[MapRow]:
    """Rows for structures; one for all files if the answer is the same in each."""
    answers: dict[tuple[int, str], set[str]] = {}
    for item in found:
        answers.setdefault(_same(item), set()).add(_target(item))
    rows: dict[MapRow, None] = {}
    for item in shown:
        same_everywhere = len(answers[_same(item)]) == 1
        file = "" if same_everywhere else files[item.file].name
        rows[MapRow(_target(item), file, item.segment.value, item.segment.name)] = None
    return sorted(rows, key=lambda row: (row.file, row.value or 0, row.name))


def _same(item: _Found) -> tuple[int, str]:
    return item.segment.value, fold_class(item.segment.name)


def _target(item: _Found) -> str:
    """Class of a structure in the table; that which is offered, or empty, if it is not clear."""
    if item.problem:
        return item.offer
    if item.kind is None:
        return LEFT_OUT
    return item.kind.name or str(item.kind.value)


def why_no_class(segment: Segment, file: str) -> str:
    """Return why a structure is no class by its name, "ignore" or "background"; empty if it is."""
    key, value = fold_class(segment.name), segment.value
    if key in ("ignore", "ignorelabel"):
        return (
            f"{describe(segment)} of {file} marks voxels whose class is unknown, as in nnU-Net "
            f"(then give --ignore-value {value}, in Python ignore={value})"
        )
    if key in ("background", "hintergrund"):
        return (
            f"{describe(segment)} of {file} is no structure (give --background-value {value}, in "
            f"Python background={value}, and --ignore-value 0 if 0 is unknown, as in scribbles)"
        )
    return ""


def _say(item: _Class) -> str:
    return printable(item.name, 100) if item.name else f"class {item.value}"


def _key(segment: Segment) -> str:
    return "" if is_placeholder(segment.name) else fold_class(segment.name)


def _placeholders_differ(files: Iterable[Sequence[Segment]]) -> bool:
    """Whether a name such as Segment_1 has another value in another file."""
    pairs = {(fold_class(item.name), item.value) for file in files for item in file if item.name}
    values = {name: {v for key, v in pairs if key == name} for name, _ in pairs}
    return any(len(found) > 1 for found in values.values())
