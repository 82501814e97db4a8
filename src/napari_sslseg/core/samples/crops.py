"""The crop store: preprocessed volumes of many scans, read as crops of one size.

Crops are on a grid that covers each scan and overlap by half, so that every voxel is in several
crops, and a crop has an index, like a slice. A small scan is a single crop.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sslseg.core.common.compute.memory import release_memory
from napari_sslseg.core.common.errors import DataError, StorageError
from napari_sslseg.core.common.events import Progress, StopFlag
from napari_sslseg.core.common.sizes import UNKNOWN
from napari_sslseg.core.samples.files.crop_files import (
    VolumeArrays,
    VolumeDisk,
    VolumeMemory,
    open_volumes,
)
from napari_sslseg.core.samples.placement import (
    Placement,
    resampled_shape,
    round_up_shape,
    volume_placement,
)
from napari_sslseg.core.samples.preprocess import prepare_labels, prepare_volume
from napari_sslseg.core.samples.slices import MEMORY_LIMIT
from napari_sslseg.core.samples.store import (
    LoadedScan,
    SampleStore,
    StoredScan,
    add_record,
    find_contents,
    fingerprint,
    load_scan,
    read_records,
)
from napari_sslseg.core.scans.labelled import Scan, scan_geometry
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing

if TYPE_CHECKING:
    import torch

FORMAT = 1
LARGEST_SIDE = 96
"""Default side of the crops of large scans."""


class CropStore(SampleStore):
    """Crops of preprocessed volumes.

    Parameters
    ----------
    arrays : VolumeArrays
        Volumes, each at least as large as a crop.
    crops : ndarray, shape (N, 4), integer
        Volume index of each crop, and its first slice, row and column, in the order of the scans.
    scans : sequence of StoredScan
        Records of the scans.
    size : tuple of int
        Slices, height and width of the crops.
    settings : VolumePreprocessing
        Preprocessing of the volumes.
    classes : sequence of int
        Label values of the classes.
    sides : ndarray, shape (N,), int8, optional
        Side of the body in each crop: 0 left, 1 right, −1 unknown.
    """

    noun = "crop"
    settings: VolumePreprocessing

    def __init__(
        self,
        arrays: VolumeArrays,
        crops: np.ndarray,
        scans: Sequence[StoredScan],
        size: tuple[int, int, int],
        settings: VolumePreprocessing,
        classes: Sequence[int] = (),
        sides: np.ndarray | None = None,
    ) -> None:
        super().__init__(scans, classes)
        self._arrays = arrays
        self._crops = crops
        self._size = size
        self.folder = arrays.folder
        self.settings = settings
        self.sides = np.full(len(crops), -1, np.int8) if sides is None else sides
        labelled = np.array([arrays.labels[crop[0]] is not None for crop in crops], bool)
        self.annotated, self.foreground = np.zeros((2, len(crops)), bool)
        unknown = np.zeros(len(crops), bool)
        for number in np.flatnonzero(labelled).tolist():
            labels = self._labels(number)
            (self.foreground[number],), (unknown[number],) = find_contents(labels[None])
            self.annotated[number] = not unknown[number] or bool((labels != UNKNOWN).any())
        self.partial = self._find_partial(unknown)

    @property
    def size(self) -> tuple[int, int, int]:
        """Slices, height and width of the crops."""
        return self._size

    @property
    def channels(self) -> int:
        """Channels of the crops."""
        return self._arrays.images[0].shape[0]

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return bool(self.annotated.any())

    def batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Read the images of a batch, shape (B, C, D, H, W), float32."""
        import torch

        return torch.from_numpy(
            np.stack(
                [
                    self._arrays.images[self._crops[number, 0]][(slice(None), *self._place(number))]
                    for number in indices
                ]
            )
        )

    def label_batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Read the class indices of a batch, shape (B, D, H, W), int64; 255 where unknown.

        Raises
        ------
        DataError
            If one of the crops is of a scan that is not annotated.
        """
        import torch

        self._check_annotated(indices)
        labels = np.stack([self._labels(number) for number in indices])
        return torch.from_numpy(labels.astype(np.int64))

    def _place(self, number: int) -> tuple[slice, ...]:
        corner = self._crops[number, 1:].tolist()
        return tuple(slice(a, a + side) for a, side in zip(corner, self._size, strict=True))

    def _labels(self, number: int) -> np.ndarray:
        labels = self._arrays.labels[self._crops[number, 0]]
        assert labels is not None
        return labels[self._place(number)]


def iter_crops(
    scans: Sequence[Scan],
    settings: VolumePreprocessing,
    *,
    classes: Sequence[int] = (),
    storage: Literal["auto", "memory", "disk"] = "auto",
    cache: Path | None = None,
    modality: Modality | None = None,
    stop: StopFlag | None = None,
    reader: ScanReader | None = None,
) -> Generator[Progress, None, CropStore | None]:
    """Preprocess scans one at a time into a store, which is the return value (None if stopped).

    Parameters
    ----------
    scans : sequence of Volume, Path, Series or LabelledScan
        Scans; a LabelledScan has labels, of all its slices.
    settings : VolumePreprocessing
        Without ``size``, crops fit the largest scan, but have at most 96 voxels per side.
    classes, storage, cache, modality, stop, reader
        As in :func:`~napari_sslseg.core.samples.slices.iter_store`.

    Yields
    ------
    Progress
        Number of scans read.

    Raises
    ------
    DataError
        If only some slices of a scan are annotated.
    """
    if not scans:
        raise DataError("There are no scans; choose at least one.")
    geometries = [scan_geometry(scan) for scan in scans]
    shapes = [resampled_shape(geometry, settings) for geometry in geometries]
    size = crop_size(shapes, settings)
    if settings.size is None:
        settings = settings.model_copy(update={"size": size})
    places = [volume_placement(geometry, settings, size) for geometry in geometries]
    grids = [_grid(number, place.canvas, size) for number, place in enumerate(places)]
    crops = np.concatenate(grids)
    too_large = 4 * settings.channels * sum(math.prod(p.canvas) for p in places) > MEMORY_LIMIT
    records: list[StoredScan] = []
    writer: VolumeMemory | VolumeDisk = VolumeMemory()
    if storage == "disk" or (storage == "auto" and too_large and cache is not None):
        if cache is None:
            raise StorageError("A store on disk needs a folder; pass one as the cache.")
        head = f"crops {FORMAT} {size} {settings.model_dump_json()} {list(classes)}"
        folder = cache / fingerprint(head, scans)
        found = open_volumes(folder)
        if found is not None:
            arrays, index = found
            yield Progress("Reading scans", len(scans), len(scans))
            records += read_records(index)
            return CropStore(arrays, crops, records, size, settings, classes)
        writer = VolumeDisk(folder)
    try:
        for number, (scan, place) in enumerate(zip(scans, places, strict=True)):
            if stop is not None and stop.is_set:
                return None
            loaded = load_scan(scan, settings.plane, classes, modality, reader, whole=True)
            labels = _whole_labels(loaded, place)
            writer.add(prepare_volume(loaded.volume, settings, place), labels)
            add_record(records, loaded, len(grids[number]))
            release_memory()
            yield Progress("Reading scans", number + 1, len(scans))
        arrays = writer.finish({"scans": [asdict(record) for record in records]})
        return CropStore(arrays, crops, records, size, settings, classes)
    finally:
        writer.close()


def _whole_labels(loaded: LoadedScan, place: Placement) -> np.ndarray | None:
    """Place the labels of a scan on the canvas; None without labels.

    Raises
    ------
    DataError
        If only some slices are annotated.
    """
    if loaded.classes is None or loaded.annotated is None:
        return None
    if not loaded.annotated.all():
        raise DataError(
            f"Only some slices of {loaded.volume.name} are annotated, but a network of volumes is "
            "trained on whole scans; annotate all slices, or choose a network of slices, such as "
            "unet2d."
        )
    return prepare_labels(loaded.classes[None], place)[0]


def crop_size(
    shapes: Sequence[tuple[int, ...]], settings: VolumePreprocessing
) -> tuple[int, int, int]:
    """Return the size of the crops for scans of some shapes, see :class:`VolumePreprocessing`."""
    if isinstance(settings.size, tuple):
        return settings.size
    largest = round_up_shape([max(sides) for sides in zip(*shapes, strict=True)])
    if settings.size is None:
        largest = tuple(min(side, LARGEST_SIDE) for side in largest)
    return largest[0], largest[1], largest[2]


def _grid(number: int, shape: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Return volume index and corners of crops that cover a volume and overlap by at least half."""
    starts = []
    for length, side in zip(shape, size, strict=True):
        steps = math.ceil(2 * (length - side) / side)
        starts.append(np.linspace(0, length - side, steps + 1).round().astype(int))
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.column_stack([np.full(len(corners), number), corners])
