"""Slices of a store, in memory or in memory-mapped files that are written once."""

import contextlib
import json
import mmap
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_sslseg.core.common.atomic import (
    MARKER,
    TemporaryFolder,
    is_leftover,
    remove_leftovers,
    write_text,
)
from napari_sslseg.core.common.errors import StorageError, remedy
from napari_sslseg.core.common.safe_files import is_link, open_regular, read_regular
from napari_sslseg.core.common.safe_json import check_parts
from napari_sslseg.core.samples.store import find_contents
from napari_sslseg.core.scans.slices.ranges import format_ranges, parse_ranges

Opened = TypeVar("Opened")

INDEX = "index.json"
STORE_NAME = re.compile(r"[0-9a-f]{32}")
STORE_FILES = re.compile(
    rf"index\.json|(images|labels)\.raw|(image|labels)-\d{{5}}\.npy|{re.escape(MARKER)}"
)
"""Names of all files of a store of slices or crops."""

MOST_INDEX = 128 * 2**20
"""Largest size of the index in bytes."""

MOST_NUMBERS = 10_000_000
"""Largest number of values in the index, which has about 30 for each scan."""


LOCK_SECONDS = 60.0

MARKS = ("annotated", "foreground", "unknown")
"""Lists of slices in the index, see :class:`SliceArrays`."""


@dataclass(frozen=True, eq=False)
class SliceArrays:
    """The arrays of a store; ``maps`` are their open memory maps, if any.

    ``unknown`` says which slices have unknown pixels.
    """

    images: np.ndarray
    labels: np.ndarray | None
    annotated: np.ndarray
    foreground: np.ndarray
    unknown: np.ndarray
    maps: Sequence[mmap.mmap] = ()
    folder: Path | None = None

    def release(self) -> None:
        """Release the pages that were read.

        Until then they count as memory of this process. The system caches them as long as there is
        enough memory.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self.maps:
                mapped.madvise(mmap.MADV_DONTNEED)


class MemoryWriter:
    """Collects slices in memory.

    Parameters
    ----------
    shape : tuple of int
        (N, C, H, W) of all slices.
    labelled : bool
        Whether slices may have labels.
    """

    def __init__(self, shape: tuple[int, ...], labelled: bool) -> None:
        self.images = np.empty(shape, np.float32)
        self.labels = np.zeros((shape[0], *shape[2:]), np.uint8) if labelled else None
        self.annotated = np.zeros(shape[0], bool)
        self.foreground = np.zeros(shape[0], bool)
        self.unknown = np.zeros(shape[0], bool)
        self.filled = 0

    def add(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        annotated: np.ndarray | None = None,
    ) -> None:
        """Append slices of one scan."""
        here = slice(self.filled, self.filled + len(images))
        self.images[here] = images
        if self.labels is not None and labels is not None and annotated is not None:
            self.labels[here] = labels
            self.annotated[here] = annotated
            self.foreground[here], self.unknown[here] = find_contents(labels)
        self.filled = here.stop

    def finish(self, index: dict[str, Any]) -> SliceArrays:
        """Return the slices."""
        n = self.filled
        labels = None if self.labels is None else self.labels[:n]
        marks = {name: getattr(self, name)[:n] for name in MARKS}
        return SliceArrays(self.images[:n], labels, **marks)

    def close(self) -> None:
        """Do nothing: no file is open."""


class DiskWriter:
    """Appends slices to files in a temporary folder, which is renamed when it is complete.

    The files are written, not mapped: writing to a mapped file on a full disk kills the process.
    Parameters as in :class:`MemoryWriter`.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], labelled: bool) -> None:
        self.folder = folder
        self.shape = shape
        self.temporary = begin_folder(folder)
        self.images = (self.temporary.path / "images.raw").open("wb")
        self.labels = (self.temporary.path / "labels.raw").open("wb") if labelled else None
        self.annotated: list[np.ndarray] = []
        self.foreground: list[np.ndarray] = []
        self.unknown: list[np.ndarray] = []

    def add(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        annotated: np.ndarray | None = None,
    ) -> None:
        """Append slices of one scan."""
        n = len(images)
        if labels is None:
            labels = np.zeros((n, *self.shape[2:]), np.uint8)
        self.annotated.append(np.zeros(n, bool) if annotated is None else annotated)
        foreground, unknown = find_contents(labels)
        self.foreground.append(foreground)
        self.unknown.append(unknown)
        try:
            self.images.write(np.ascontiguousarray(images, "<f4").data)
            if self.labels is not None:
                self.labels.write(np.ascontiguousarray(labels).data)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def finish(self, index: dict[str, Any]) -> SliceArrays:
        """Write the index, rename the folder, and map the files."""
        index = index | {
            "shape": [sum(map(len, self.annotated)), *self.shape[1:]],
            "labelled": self.labels is not None,
        }
        for name in MARKS:
            index[name] = format_ranges(np.flatnonzero(np.concatenate(getattr(self, name))))
        try:
            self._close_files()
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        return finish_folder(self.temporary, self.folder, index, open_arrays)[0]

    def close(self) -> None:
        """Remove an incomplete store."""
        self._close_files()
        self.temporary.remove()

    def _close_files(self) -> None:
        self.images.close()
        if self.labels is not None:
            self.labels.close()


def begin_folder(folder: Path) -> TemporaryFolder:
    """Create a temporary folder next to ``folder``, which gets its name when it is complete.

    Those of killed processes are removed; several trainings may share the folder around.

    Raises
    ------
    StorageError
        If it cannot be created.
    """
    try:
        remove_leftovers(folder.parent)
        return TemporaryFolder(folder.parent)
    except OSError as error:
        raise cannot_write(folder, error) from error


def finish_folder(
    temporary: TemporaryFolder,
    folder: Path,
    index: dict[str, Any],
    open_store: Callable[[Path], Opened | None],
) -> Opened:
    """Write the index of a temporary folder, rename it, and open the store.

    A complete store of the same name, which another training has built meanwhile and reads, is
    opened instead. A damaged one is replaced.

    Raises
    ------
    StorageError
        If it cannot be written, or there are other files in the place of the store.
    """
    try:
        write_text(temporary.path / INDEX, json.dumps(index))
        with _one_at_a_time(folder.parent):
            found = open_store(folder)
            if found is None:
                if folder.exists():
                    remove_store(folder)
                temporary.finish(folder)
                found = open_store(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    if found is None:
        raise StorageError(f"The samples in {folder} were changed while they were written.")
    return found


@contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    """Let one process at a time replace stores in a folder.

    None waits longer than a minute, nor at all on disks without locks. Then two processes may still
    not replace a damaged store at the same moment, in which case one of them reports an error.
    """
    handle = None
    if sys.platform != "win32":
        import fcntl

        handle = os.open(cache, os.O_RDONLY | os.O_CLOEXEC)
        until = time.monotonic() + LOCK_SECONDS
        with contextlib.suppress(OSError):  # Network disks may lock no folders.
            while time.monotonic() < until:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.1)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def is_store(folder: Path) -> bool:
    """Whether a folder has the name of a store of slices or crops, and no other files."""
    return (
        bool(STORE_NAME.fullmatch(folder.name))
        and not is_link(folder)
        and folder.is_dir()
        and all(
            (STORE_FILES.fullmatch(path.name) or is_leftover(path)) and not path.is_dir()
            for path in folder.iterdir()
        )
    )


def remove_store(folder: Path) -> None:
    """Remove preprocessed slices or crops.

    Raises
    ------
    StorageError
        If the folder has other files.
    OSError
        If it cannot be removed.
    """
    if not is_store(folder):
        raise StorageError(
            f"{folder} has files that are not preprocessed slices, so it is not replaced; move it "
            "away."
        )
    for path in folder.iterdir():
        path.unlink(missing_ok=True)
    folder.rmdir()


def open_arrays(folder: Path) -> tuple[SliceArrays, dict[str, Any]] | None:
    """Map the files of a complete store and return its index; None if missing or damaged.

    Raises
    ------
    StorageError
        If they are those of another user who does not share them.
    """
    try:
        return _map_arrays(folder)
    except PermissionError as error:
        raise not_shared(folder) from error
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        # The slices can be rebuilt from the scans.
        return None


def read_index(folder: Path) -> Any:
    """Read the index of a complete store.

    Raises
    ------
    OSError, ValueError
        If it is missing or malformed.
    """
    try:
        data = read_regular(folder / INDEX, MOST_INDEX)
        check_parts(data, MOST_NUMBERS)
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _map_arrays(folder: Path) -> tuple[SliceArrays, dict[str, Any]]:
    index = read_index(folder)
    n, _, height, width = shape = tuple(index["shape"])
    maps: list[mmap.mmap] = []

    def mapped(name: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        with open_regular(folder / name) as file:
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return np.frombuffer(maps[-1], kind).reshape(shape)

    images = mapped("images.raw", "<f4", shape)
    labels = mapped("labels.raw", "u1", (n, height, width)) if index["labelled"] else None
    marks = {name: np.zeros(n, bool) for name in MARKS}
    # Stores of early versions have no unknown pixels, and list single slices instead of ranges.
    index = {"unknown": []} | index
    for name, mark in marks.items():
        found = index[name]
        mark[list(parse_ranges(found, n)) if isinstance(found, str) else found] = True
    return SliceArrays(images, labels, **marks, maps=maps, folder=folder), index


def not_shared(folder: Path) -> StorageError:
    """Return the error for a store that this user may not read."""
    return StorageError(
        f"The samples in {folder} may not be read, as if another user made them; choose another "
        "cache folder, or have them shared."
    )


def cannot_write(folder: Path, error: OSError) -> StorageError:
    """Return the error for samples that could not be written."""
    return StorageError(
        f"The slices could not be written to {folder.parent}: {error.strerror or error}; "
        f"{remedy(error)}."
    )
