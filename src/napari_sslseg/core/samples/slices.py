"""The slice store: preprocessed slices of many scans, read in batches.

Slices are in memory, or memory-mapped from a folder that is written once and identified by a hash
of the scans and the settings.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sslseg.core.common.compute.memory import release_memory
from napari_sslseg.core.common.errors import DataError, StorageError
from napari_sslseg.core.common.events import Progress, StopFlag, return_value
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.samples.files.slice_files import (
    DiskWriter,
    MemoryWriter,
    SliceArrays,
    open_arrays,
)
from napari_sslseg.core.samples.normalize import Normalizer
from napari_sslseg.core.samples.placement import (
    Placement,
    canvas_size,
    placement,
    resampled_shape,
)
from napari_sslseg.core.samples.planned_spacing import (
    PlannedSpacing,
    warn_about_lost_detail,
    with_planned_spacing,
)
from napari_sslseg.core.samples.preprocess import neighbours, prepare_labels, prepare_slices
from napari_sslseg.core.samples.store import (
    LoadedScan,
    SampleStore,
    StoredScan,
    add_record,
    fingerprint,
    load_scan,
    read_records,
)
from napari_sslseg.core.samples.warnings import (
    warn_about_cropped_slices,
    warn_about_distant_slices,
    warn_about_large_slices,
)
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, name_of, scan_geometry
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.settings.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

MEMORY_LIMIT = 2 * 1024**3
PREPARED_AT_ONCE = 64 * 1024**2
"""Bytes of prepared slices of a scan; the whole scan may have many times more."""

FORMAT = 1


class SliceStore(SampleStore):
    """Preprocessed slices of many scans.

    Attributes
    ----------
    images : ndarray, shape (N, C, H, W), float32
        Normalised slices without neighbours, in memory or memory-mapped.
    labels : ndarray, shape (N, H, W), uint8, or None
        Class indices (0 background, then in the order of ``classes``; 255 unknown).
    settings : Preprocessing
        With ``size`` resolved to the canvas, and ``spacing`` as planned.
    plan : PlannedSpacing or None
        Why slices are sampled more coarsely than the scans; None if they are not.
    """

    noun = "slice"
    settings: Preprocessing

    def __init__(
        self,
        arrays: SliceArrays,
        scans: Sequence[StoredScan],
        settings: Preprocessing,
        classes: Sequence[int] = (),
        plan: PlannedSpacing | None = None,
    ) -> None:
        super().__init__(scans, classes)
        self._arrays = arrays
        self.folder = arrays.folder
        self.images = arrays.images
        self.labels = arrays.labels
        self.annotated = arrays.annotated
        self.foreground = arrays.foreground
        self.partial = self._find_partial(arrays.unknown)
        self.settings = settings
        self.plan = plan

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the slices."""
        return self.images.shape[2], self.images.shape[3]

    @property
    def channels(self) -> int:
        """Channels of the slices."""
        return self.settings.channels

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.labels is not None

    def batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Read the images of a batch, shape (B, C, H, W), float32, in one vectorised read."""
        import torch

        found = [self.images[numbers] for numbers in self._with_neighbours(indices)]
        images = torch.from_numpy(found[0] if len(found) == 1 else np.concatenate(found, axis=1))
        self._arrays.release()
        return images

    def _with_neighbours(self, indices: np.ndarray) -> list[np.ndarray]:
        """Return the indices of slices and of their neighbours within their scans."""
        scans = self.scan_index[indices]
        first = np.searchsorted(self.scan_index, scans)
        last = np.searchsorted(self.scan_index, scans, side="right") - 1
        return neighbours(indices, self.settings.neighbours, first, last)

    def label_batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Read the class indices of a batch, shape (B, H, W), int64; 255 where unknown.

        Raises
        ------
        DataError
            If one of the slices is not annotated.
        """
        import torch

        self._check_annotated(indices)
        assert self.labels is not None
        labels = torch.from_numpy(self.labels[indices].astype(np.int64))
        self._arrays.release()
        return labels

    @classmethod
    def build(
        cls,
        scans: Sequence[Scan],
        settings: Preprocessing,
        *,
        classes: Sequence[int] = (),
        storage: Literal["auto", "memory", "disk"] = "auto",
        cache: Path | None = None,
        modality: Modality | None = None,
    ) -> "SliceStore":
        """Build a store; see :func:`iter_store`."""
        steps = iter_store(
            scans, settings, classes=classes, storage=storage, cache=cache, modality=modality
        )
        store = return_value(steps)
        assert store is not None  # nothing stops it
        return store


def iter_store(
    scans: Sequence[Scan],
    settings: Preprocessing,
    *,
    classes: Sequence[int] = (),
    storage: Literal["auto", "memory", "disk"] = "auto",
    cache: Path | None = None,
    modality: Modality | None = None,
    stop: StopFlag | None = None,
    reader: ScanReader | None = None,
) -> Generator[Progress, None, SliceStore | None]:
    """Preprocess scans one at a time into a store, which is the return value (None if stopped).

    Parameters
    ----------
    scans : sequence of Volume, Path, Series or LabelledScan
        Scans; a LabelledScan has labels.
    settings : Preprocessing
        Without ``size``, the canvas fits the largest slice.
    classes : sequence of int
        Label values of the classes; required with labels.
    storage : {"auto", "memory", "disk"}
        Where slices are stored. ``auto`` uses the disk from 2 GiB on, if ``cache`` is given.
    cache : Path, optional
        Folder for stores on disk. A store of the same scans and settings is reused.
    modality : {"MR", "CT"}, optional
        Overrides the guess for every scan that is loaded here.
    stop : StopFlag, optional
        Stops after the current scan; nothing is stored.
    reader : ScanReader, optional
        Reads the scans, and may have read some of them already.

    Yields
    ------
    Progress
        Number of scans read.
    """
    if not scans:
        raise DataError("There are no scans; choose at least one.")
    geometries = [scan_geometry(scan) for scan in scans]
    settings, plan = with_planned_spacing(settings, geometries, scans, classes, reader)
    # Without a size the plan has measured the structures, and left them enough pixels.
    unmeasured = classes if plan is None or plan.size else ()
    warn_about_lost_detail(settings, scans, geometries, unmeasured, reader)
    settings = _with_canvas(scans, geometries, settings)
    assert settings.size is not None
    counts = [geometry.display_shape[PLANE_AXIS[settings.plane]] for geometry in geometries]
    labelled = any(isinstance(scan, LabelledScan) for scan in scans)
    shape = (sum(counts), settings.slice_channels, *settings.size)
    too_large = 4 * math.prod(shape) > MEMORY_LIMIT
    writer: MemoryWriter | DiskWriter = MemoryWriter(shape, labelled)
    if storage == "disk" or (storage == "auto" and too_large and cache is not None):
        folder = _store_folder(scans, settings, classes, cache)
        found = open_arrays(folder)
        if found is not None:
            yield Progress("Reading scans", len(scans), len(scans))
            return _reopened(found, settings, classes, plan)
        writer = DiskWriter(folder, shape, labelled)
    records: list[StoredScan] = []
    try:
        for number, (scan, geometry) in enumerate(zip(scans, geometries, strict=True)):
            if stop is not None and stop.is_set:
                return None
            place = placement(geometry, settings, settings.size)
            loaded = load_scan(scan, settings.plane, classes, modality, reader)
            _add_scan(writer, loaded, settings, place)
            add_record(records, loaded, counts[number])
            release_memory()
            yield Progress("Reading scans", number + 1, len(scans))
        index = {"format": FORMAT, "scans": [asdict(record) for record in records]}
        return SliceStore(writer.finish(index), records, settings, classes, plan)
    finally:
        writer.close()


def _add_scan(
    writer: MemoryWriter | DiskWriter, loaded: LoadedScan, settings: Preprocessing, place: Placement
) -> None:
    """Prepare the slices of a scan, a few at a time, and append them."""
    scan = Normalizer(loaded.volume, settings)
    pixels = max(math.prod(shape) for shape in (place.pixels, place.resampled, place.canvas))
    step = max(1, PREPARED_AT_ONCE // (4 * settings.slice_channels * pixels))
    for start in range(0, scan.count, step):
        here = slice(start, start + step)
        labels = annotated = None
        if loaded.classes is not None and loaded.annotated is not None:
            labels = prepare_labels(loaded.classes[here], place)
            annotated = loaded.annotated[here]
        writer.add(prepare_slices(scan, place, here), labels, annotated)


def _with_canvas(
    scans: Sequence[Scan], geometries: Sequence[Geometry], settings: Preprocessing
) -> Preprocessing:
    """Resolve the canvas, and warn about scans whose slices differ from the others."""
    names = [name_of(scan) for scan in scans]
    warn_about_distant_slices(names, geometries, settings)
    shapes = [resampled_shape(geometry, settings) for geometry in geometries]
    canvas = canvas_size(shapes, settings)
    if settings.size is None:
        warn_about_large_slices(names, shapes, canvas)
    elif settings.fit == "pad":
        warn_about_cropped_slices(names, shapes, canvas)
    return settings.model_copy(update={"size": canvas})


def _store_folder(
    scans: Sequence[Scan], settings: Preprocessing, classes: Sequence[int], cache: Path | None
) -> Path:
    """Return the folder of a store on disk, named by a hash of scans and settings."""
    if cache is None:
        raise StorageError("A store on disk needs a folder; pass one as the cache.")
    # Neighbouring slices are in the store anyway.
    stored = settings.model_dump_json(exclude={"neighbours"})
    return cache / fingerprint(f"{FORMAT} {stored} {list(classes)}", scans)


def _reopened(
    found: tuple[SliceArrays, dict[str, Any]],
    settings: Preprocessing,
    classes: Sequence[int],
    plan: PlannedSpacing | None,
) -> SliceStore:
    """Return a store of arrays that were found on disk."""
    arrays, index = found
    return SliceStore(arrays, read_records(index), settings, classes, plan)
