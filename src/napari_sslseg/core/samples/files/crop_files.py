"""Volumes of a crop store, in memory or in memory-mapped files."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_sslseg.core.common.safe_files import open_regular
from napari_sslseg.core.samples.files.slice_files import (
    begin_folder,
    cannot_write,
    finish_folder,
    not_shared,
    read_index,
)


@dataclass(frozen=True, eq=False)
class VolumeArrays:
    """Volumes (C, D, H, W), float32, and their class indices (D, H, W), uint8, where known."""

    images: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray | None] = field(default_factory=list)
    folder: Path | None = None


class VolumeMemory:
    """Collects volumes in memory."""

    def __init__(self) -> None:
        self.arrays = VolumeArrays()

    def add(self, image: np.ndarray, labels: np.ndarray | None) -> None:
        """Append a volume."""
        self.arrays.images.append(image)
        self.arrays.labels.append(labels)

    def finish(self, index: dict[str, Any]) -> VolumeArrays:
        """Return the volumes."""
        return self.arrays

    def close(self) -> None:
        """Do nothing: no file is open."""


class VolumeDisk:
    """Writes volumes to a temporary folder, which is renamed when it is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.labelled: list[bool] = []
        self.temporary = begin_folder(folder)

    def add(self, image: np.ndarray, labels: np.ndarray | None) -> None:
        """Write a volume, and its labels if there are any."""
        number = len(self.labelled)
        try:
            np.save(self.temporary.path / _image(number), image)
            if labels is not None:
                np.save(self.temporary.path / _labels(number), labels)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        self.labelled.append(labels is not None)

    def finish(self, index: dict[str, Any]) -> VolumeArrays:
        """Write the index, rename the folder, and map the files."""
        index = index | {"labelled": self.labelled}
        return finish_folder(self.temporary, self.folder, index, open_volumes)[0]

    def close(self) -> None:
        """Remove an incomplete store."""
        self.temporary.remove()


def open_volumes(folder: Path) -> tuple[VolumeArrays, dict[str, Any]] | None:
    """Map the files of a complete store and return its index; None if missing or damaged.

    Raises
    ------
    StorageError
        If they are those of another user who does not share them.
    """
    try:
        index = read_index(folder)
        images, labels = [], []
        for number, labelled in enumerate(index["labelled"]):
            images.append(_map_array(folder / _image(number)))
            labels.append(_map_array(folder / _labels(number)) if labelled else None)
    except PermissionError as error:
        raise not_shared(folder) from error
    except (OSError, ValueError, KeyError, TypeError):
        # The volumes can be rebuilt from the scans.
        return None
    return VolumeArrays(images, labels, folder), index


def _map_array(path: Path) -> np.ndarray:
    open_regular(path).close()
    return np.load(path, mmap_mode="r")


def _image(number: int) -> str:
    return f"image-{number:05}.npy"


def _labels(number: int) -> str:
    return f"labels-{number:05}.npy"
