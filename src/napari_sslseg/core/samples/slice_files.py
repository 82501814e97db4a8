"""Where the slices of a store stand: in memory, or in files that are written once and mapped."""

import json
import mmap
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.common.safe_files import open_regular, read_regular
from napari_sslseg.core.common.safe_json import check_parts

INDEX = "index.json"
MOST_INDEX = 128 * 2**20
MOST_NUMBERS = 10_000_000
"""Bytes of it, and numbers in it, which has those of all annotated slices."""


@dataclass(frozen=True, eq=False)
class SliceArrays:
    """The arrays of a store; ``maps`` are the open mappings behind them, if any."""

    images: np.ndarray
    labels: np.ndarray | None
    annotated: np.ndarray
    foreground: np.ndarray
    maps: Sequence[mmap.mmap] = ()
    folder: Path | None = None

    def release(self) -> None:
        """Give back the pages that were read.

        They count as this process's memory until then; the system keeps them cached as long as
        it has room.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self.maps:
                mapped.madvise(mmap.MADV_DONTNEED)


class MemoryWriter:
    """Collects slices in memory.

    Parameters
    ----------
    shape : tuple of int
        (N, C, H, W) when all slices are there.
    labelled : bool
        Whether slices may have labels.
    """

    def __init__(self, shape: tuple[int, ...], labelled: bool) -> None:
        self.images = np.empty(shape, np.float32)
        self.labels = np.zeros((shape[0], *shape[2:]), np.uint8) if labelled else None
        self.annotated = np.zeros(shape[0], bool)
        self.filled = 0

    def add(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        annotated: np.ndarray | None = None,
    ) -> None:
        """Append the slices of one scan."""
        here = slice(self.filled, self.filled + len(images))
        self.images[here] = images
        if self.labels is not None and labels is not None and annotated is not None:
            self.labels[here] = labels
            self.annotated[here] = annotated
        self.filled = here.stop

    def finish(self, index: dict[str, Any]) -> SliceArrays:
        """Return what was added."""
        n = self.filled
        labels = None if self.labels is None else self.labels[:n]
        foreground = np.zeros(n, bool) if labels is None else np.asarray(labels.any(axis=(1, 2)))
        return SliceArrays(self.images[:n], labels, self.annotated[:n], foreground)

    def close(self) -> None:
        """Nothing is open."""


class DiskWriter:
    """Appends slices to files in a temporary folder, which takes its name when it is whole.

    The files are written, not mapped, since writing to a mapped file on a full disk kills the
    process. Parameters as for :class:`MemoryWriter`.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], labelled: bool) -> None:
        self.folder = folder
        self.shape = shape
        self.temporary = begin_folder(folder)
        self.images = (self.temporary / "images.raw").open("wb")
        self.labels = (self.temporary / "labels.raw").open("wb") if labelled else None
        self.annotated: list[np.ndarray] = []
        self.foreground: list[np.ndarray] = []

    def add(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        annotated: np.ndarray | None = None,
    ) -> None:
        """Append the slices of one scan."""
        n = len(images)
        if labels is None:
            labels = np.zeros((n, *self.shape[2:]), np.uint8)
        self.annotated.append(np.zeros(n, bool) if annotated is None else annotated)
        self.foreground.append(np.asarray(labels.any(axis=(1, 2))))
        try:
            self.images.write(np.ascontiguousarray(images, "<f4").data)
            if self.labels is not None:
                self.labels.write(np.ascontiguousarray(labels).data)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def finish(self, index: dict[str, Any]) -> SliceArrays:
        """Write the index, rename the folder, and map the files."""
        annotated, foreground = np.concatenate(self.annotated), np.concatenate(self.foreground)
        index = index | {
            "shape": [len(annotated), *self.shape[1:]],
            "labelled": self.labels is not None,
            "annotated": np.flatnonzero(annotated).tolist(),
            "foreground": np.flatnonzero(foreground).tolist(),
        }
        try:
            self._close_files()
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        finish_folder(self.temporary, self.folder, index)
        found = open_arrays(self.folder)
        if found is None:
            raise StorageError(f"The slices in {self.folder} were changed while they were written.")
        return found[0]

    def close(self) -> None:
        """Leave no half-built store behind."""
        self._close_files()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def _close_files(self) -> None:
        self.images.close()
        if self.labels is not None:
            self.labels.close()


def begin_folder(folder: Path) -> Path:
    """Make a temporary folder beside ``folder``, to take its name when it is whole.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise cannot_write(folder, error) from error


def finish_folder(temporary: Path, folder: Path, index: dict[str, Any]) -> None:
    """Write the index of a temporary folder, and give it its name in place of an older one.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    try:
        write_text(temporary / INDEX, json.dumps(index))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error


def open_arrays(folder: Path) -> tuple[SliceArrays, dict[str, Any]] | None:
    """Map the files of a finished store; also returns its index. None if they are damaged."""
    try:
        return _map_arrays(folder)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        # Slices can be made again from the scans, so damage costs only time.
        return None


def read_index(folder: Path) -> Any:
    """Index of a finished store; raises an OSError or a ValueError if there is none."""
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
    annotated, foreground = np.zeros(n, bool), np.zeros(n, bool)
    annotated[index["annotated"]] = True
    foreground[index["foreground"]] = True
    return SliceArrays(images, labels, annotated, foreground, maps, folder), index


def cannot_write(folder: Path, error: OSError) -> StorageError:
    """Say that samples could not be written, and what to do."""
    return StorageError(
        f"The slices could not be written to {folder.parent}: {error.strerror or error}; "
        "free some space or choose another cache folder."
    )
