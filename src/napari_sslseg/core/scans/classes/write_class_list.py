"""Write ``classes.json`` for label files, so that it contradicts no other file of the folder."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from napari_sslseg.core.common.atomic import PREFIX, atomic_path, sync_written, written_file
from napari_sslseg.core.common.errors import ScanWarning, SslsegError, StorageError
from napari_sslseg.core.common.lock import try_lock
from napari_sslseg.core.common.safe_files import open_own
from napari_sslseg.core.common.text import join_names, printable
from napari_sslseg.core.scans.classes.class_list import (
    CLASS_LIST,
    files_of_list,
    list_entries,
    listed_segments,
    own_lists,
)
from napari_sslseg.core.scans.classes.matching import (
    LabelFile,
    describe_names,
    match_segments,
)
from napari_sslseg.core.scans.classes.renumber import renumber, values_in
from napari_sslseg.core.scans.classes.segment import Segment, clean_name, fold_class
from napari_sslseg.core.scans.formats.registry import format_of
from napari_sslseg.core.scans.matching.label_names import has_label_words
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.volume import Volume

_LOCK = f"{PREFIX}{b'classes!'.hex()}.lock"
"""Named as a temporary file of this program, which it is, so that no other file has the name."""

_PATIENCE = 60.0  # seconds; others write large label files meanwhile


def write_class_list(
    folder: Path,
    names: Mapping[int, str],
    files: Sequence[Path],
    *,
    values: Iterable[int] = (),
    overwrite: bool = False,
) -> None:
    """Name the classes of label files in ``classes.json`` of their folder.

    Classes that the folder has already are kept. Nothing is written if it has all of them.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist.
    names : mapping of int to str
        Names by label value.
    files : sequence of Path
        The label files that are written.
    values : iterable of int
        Label values in these files. Those without a name must have none in the folder either.
    overwrite : bool
        Whether to replace a list of other classes, if the only label file of the folder is the
        file that is written, and the only one. The old file is removed before.

    Warns
    -----
    ScanWarning
        If there are label files whose values had no names until now.

    Raises
    ------
    StorageError
        If the folder gives a value another name, or a name another value.
    """
    with listed_classes(folder, names, files, values=values, overwrite=overwrite) as write:
        write()


@contextmanager
def listed_classes(
    folder: Path,
    names: Mapping[int, str],
    files: Sequence[Path],
    *,
    values: Iterable[int] = (),
    overwrite: bool = False,
) -> Iterator[Callable[[], None]]:
    """Name classes as :func:`write_class_list`, at the moment when a label file gets its name.

    Yields a function that names them. Call it within the block when the label file is complete
    under a temporary name, and rename the file within the block too: until its end no other process
    changes the list, so that two that write one file never leave the names of one with the labels
    of the other.
    """
    names = {value: clean_name(name) for value, name in names.items() if value}
    if not names:
        yield lambda: None
        return
    values = list(values)
    try:  # Before anything is made in the folder.
        check_class_list(folder, names, files, values=values, overwrite=overwrite)
    except StorageError:
        if not folder.is_dir():
            raise
        with _lock(folder):  # Another process may just replace labels and list.
            check_class_list(folder, names, files, values=values, overwrite=overwrite)
    with ExitStack() as stack:

        def write() -> None:
            stack.enter_context(_lock(folder))
            entries = _merge(folder, names, files, values, overwrite=overwrite)
            if entries is None:
                return
            text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
            with atomic_path(folder / CLASS_LIST, follow_link=True) as temporary:
                temporary.write_text(text, encoding="utf-8")
                sync_written(temporary, folder / CLASS_LIST)
                if _contradicts(folder, names, values):
                    # Whenever the process is killed, there are no old labels with new names.
                    for file in files:
                        written_file(file).unlink(missing_ok=True)

        yield write


def check_class_list(
    folder: Path,
    names: Mapping[int, str],
    files: Sequence[Path],
    *,
    values: Iterable[int] = (),
    overwrite: bool = False,
) -> dict[int, str]:
    """Check that the list of a folder agrees with label files that will be written.

    Parameters
    ----------
    folder, names, files, values, overwrite
        As in :func:`write_class_list`. Nothing is written.

    Returns
    -------
    dict of int to str
        Names in the list of the folder, by label value.

    Raises
    ------
    StorageError
        If the folder gives a value another name, or a name another value.
    """
    listed = binding_names(folder, files, names, values, overwrite=overwrite)
    if problem := conflict(listed, names, values):
        raise StorageError(
            f"The label files in {folder} have other names of classes: the list there {problem}; "
            "choose another folder, or give the classes the same values."
        )
    return listed


def _contradicts(folder: Path, names: Mapping[int, str], values: Iterable[int]) -> bool:
    """Whether the list of a folder, which may be replaced, has other names."""
    listed = {item.value: item.name for item in listed_segments(folder / CLASS_LIST)}
    return bool(conflict(listed, names, values))


def _merge(
    folder: Path,
    names: Mapping[int, str],
    files: Sequence[Path],
    values: Iterable[int],
    *,
    overwrite: bool,
) -> dict[str, Any] | None:
    """Entries of the list with the names of the files; None if it has them already."""
    listed = check_class_list(folder, names, files, values=values, overwrite=overwrite)
    missing = {value: name for value, name in names.items() if value not in listed}
    if not missing:
        return None
    nameless = _nameless(folder, files)
    if nameless and not listed:
        shown = join_names([str(file.relative_to(folder)) for file in nameless], 2)
        warnings.warn(
            f"{folder / CLASS_LIST} now names the values of all label files of its folder, also of "
            f"{shown}; check that their values mean the same.",
            ScanWarning,
            stacklevel=4,
        )
    # The background, and the spelling of the numbers, are kept as the user wrote them.
    entries = list_entries(folder / CLASS_LIST)
    kept = {key: name for key, name in entries.items() if int(key) in listed or not int(key)}
    known = {int(key) for key in kept}
    new = {value: name for value, name in {**listed, **missing}.items() if value not in known}
    return {**kept, **{str(value): new[value] for value in sorted(new)}}


def binding_names(
    folder: Path,
    files: Sequence[Path],
    names: Mapping[int, str],
    values: Iterable[int] = (),
    *,
    overwrite: bool = False,
) -> dict[int, str]:
    """Return the names that new label files of a folder must agree with, by label value.

    Parameters
    ----------
    folder, files, names, values, overwrite
        As in :func:`write_class_list`.

    Returns
    -------
    dict of int to str
        Names in the list of the folder; none if the new files contradict a list that is of no
        other file.
    """
    listed = {item.value: item.name for item in listed_segments(folder / CLASS_LIST)}
    # Of several files, some would keep their labels if the work stops, with the names of others.
    exists = any(map(os.path.exists, files))
    alone = overwrite and len(files) == 1 if exists else not own_lists(folder)
    replaceable = alone and not _others(folder, files)
    return {} if replaceable and conflict(listed, names, values) else listed


def conflict(listed: Mapping[int, str], names: Mapping[int, str], values: Iterable[int]) -> str:
    """Say how names contradict those of a list, in a part of a sentence; empty if they do not.

    Parameters
    ----------
    listed, names : mapping of int to str
        Names by label value, in the list and in the files.
    values : iterable of int
        Label values in the files.
    """
    value_of = {fold_class(name): value for value, name in listed.items()}
    for value, name in sorted(names.items()):
        if fold_class(listed.get(value, name)) != fold_class(name):
            return f"has {_quote(listed[value])} for the value {value}, not {_quote(name)}"
        other = value_of.get(fold_class(name), value)
        if other != value:
            return f"has the value {other} for {_quote(name)}, not {value}"
    for value in sorted(int(value) for value in values):
        if value and value in listed and value not in names:
            return f"has {_quote(listed[value])} for the value {value}, which has no name here"
    return ""


def _quote(name: str) -> str:
    return printable(name, 60)


def _nameless(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Other label files of a list that do not name their structures themselves."""
    others = _others(folder, files)
    if any(has_label_words(scan_name(file)) for file in files):
        # Scans may lie beside labels that have names of labels.
        others = [f for f in others if f.parent != folder or has_label_words(scan_name(f))]
    return [file for file in others if not _names_itself(file)]


def _others(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Files that have the names of the list of a folder, without those that are written."""
    new = {os.path.abspath(file) for file in files}
    return [file for file in files_of_list(folder) if os.path.abspath(file) not in new]


def _names_itself(path: Path) -> bool:
    file_format = format_of(path)
    try:
        return bool(file_format and file_format.read_segments(path))
    except SslsegError:
        return False  # Nor can it be used as labels.


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process or thread at a time change the list of a folder; others wait."""
    path = folder / _LOCK
    end = time.monotonic() + _PATIENCE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while (handle := _try_lock(path)) is None:
            if time.monotonic() > end:
                raise StorageError(
                    f"Another process changes the list of classes of {folder}; try it again."
                )
            time.sleep(0.02)
    except OSError as error:
        raise StorageError(
            f"Could not write to {folder}: {error.strerror or error}; choose another folder, or "
            "make this one writable."
        ) from error
    try:
        yield
    finally:
        # Windows cannot remove open files, and another process may have opened it.
        if sys.platform == "win32":
            os.close(handle)
        with suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(handle)


def _try_lock(path: Path) -> int | None:
    """Lock a file and return its handle; None if another has it, or removed it meanwhile."""
    handle = open_own(path)
    with suppress(FileNotFoundError):
        is_free = try_lock(handle) is not False
        if is_free and os.path.samestat(os.fstat(handle), path.lstat()):
            return handle
    os.close(handle)
    return None


def inherited_names(folder: Path, values: Iterable[int]) -> list[str]:
    """Say which names labels without names get from the list of their folder.

    Parameters
    ----------
    folder : Path
        The folder of the label files.
    values : iterable of int
        Their label values.

    Returns
    -------
    list of str
        One sentence, or none if the folder names none of the values.
    """
    listed = {item.value: item.name for item in listed_segments(folder / CLASS_LIST)}
    shown = {value: listed[value] for value in values if value in listed}
    if not shown:
        return []
    return [
        f"the labels have no names of classes; by {folder / CLASS_LIST} they are "
        f"{describe_names(shown)}; check it."
    ]


def agree_with_folder(
    labels: Volume, names: Mapping[int, str], path: Path
) -> tuple[Volume, dict[int, str], list[str]]:
    """Give labels the values of the classes that the other label files of a folder have.

    Parameters
    ----------
    labels : Volume
        The labels.
    names : mapping of int to str
        Names of their values; empty if there are none.
    path : Path
        The file to write, in a format that stores no names.

    Returns
    -------
    labels : Volume
        With values that agree with ``classes.json`` of the folder.
    names : dict of int to str
        Names of these values.
    notes : list of str
        What the user should know.

    Raises
    ------
    ClassesError
        If it is not clear which class of the folder a value is.
    """
    values, names = values_in(labels.data), dict(names)
    listed = binding_names(path.parent, [path], names, values, overwrite=True)
    if not names:
        return labels, names, inherited_names(path.parent, values)
    if not conflict(listed, names, values):
        return labels, names, [f"{CLASS_LIST} beside {path.name} names {describe_names(names)}."]
    segments = tuple(Segment(value, name) for value, name in sorted(names.items()))
    known = [Segment(value, name) for value, name in listed.items()]
    match = match_segments([LabelFile(labels.name, segments, lambda: values)], known=known)
    new = match.values[0] or {}
    moved = ", ".join(
        f"{printable(match.names[new[value]], 60)} {new[value]} instead of {value}"
        for value in sorted(names)
        if new.get(value, value) != value
    )
    note = (
        f"{path.name} has the label values of the other files of its folder, by {CLASS_LIST}: "
        f"{moved}."
    )
    found = {new[value]: match.names[new[value]] for value in sorted(names)}
    return renumber(labels, new), found, [note]
