"""The slice store: preprocessed slices of many scans, handed out in batches.

In memory, or memory-mapped from a folder that is built once and found again by a hash of the
scans and the settings.
"""

import hashlib
import math
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from napari_sslseg.core.config import Preprocessing
from napari_sslseg.core.errors import DataError, ScanWarning, StorageError
from napari_sslseg.core.events import Progress, StopFlag
from napari_sslseg.core.geometry import PLANE_AXIS, Geometry
from napari_sslseg.core.label_guess import looks_like_labels
from napari_sslseg.core.labelled import LabelledScan, as_volume, class_indices
from napari_sslseg.core.memory import give_back_memory
from napari_sslseg.core.preprocess import (
    canvas_size,
    placement,
    prepare,
    prepare_labels,
    resampled_shape,
)
from napari_sslseg.core.series import Source, as_series
from napari_sslseg.core.slice_files import (
    INDEX,
    DiskWriter,
    MemoryWriter,
    SliceArrays,
    open_arrays,
)
from napari_sslseg.core.volumes import Modality, Volume, read_geometry

if TYPE_CHECKING:
    import torch

Scan = Volume | Source | LabelledScan

MEMORY_LIMIT = 2 * 1024**3
FORMAT = 1


@dataclass(frozen=True)
class ScanRecord:
    """One scan of a store: ``start`` is the index of its first slice."""

    name: str
    subject: str
    start: int
    n_slices: int


class SliceStore:
    """Preprocessed slices of many scans.

    Attributes
    ----------
    images : ndarray, shape (N, C, H, W), float32
        Normalised slices, in memory or memory-mapped.
    labels : ndarray, shape (N, H, W), uint8, or None
        Index of the class (0 background, then in the order of ``classes``).
    annotated, foreground : ndarray, shape (N,), bool
        Which slices are annotated, and which of these hold a labelled structure.
    scans : tuple of ScanRecord
        Scans, in the order of their slices.
    scan_index : ndarray, shape (N,)
        Scan of each slice.
    settings : Preprocessing
        With ``size`` resolved to the canvas.
    classes : tuple of int
        Label values of the classes.
    folder : Path or None
        Where the slices stand on disk; None in memory.
    """

    def __init__(
        self,
        arrays: SliceArrays,
        scans: Sequence[ScanRecord],
        settings: Preprocessing,
        classes: Sequence[int] = (),
    ) -> None:
        self._arrays = arrays
        self.folder = arrays.folder
        self.images = arrays.images
        self.labels = arrays.labels
        self.annotated = arrays.annotated
        self.foreground = arrays.foreground
        self.scans = tuple(scans)
        self.settings = settings
        self.classes = tuple(classes)
        self.scan_index = np.repeat(np.arange(len(scans)), [scan.n_slices for scan in scans])

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the slices."""
        return self.images.shape[2], self.images.shape[3]

    @property
    def channels(self) -> int:
        """Channels of the slices."""
        return self.images.shape[1]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects in the store, sorted."""
        return tuple(sorted({scan.subject for scan in self.scans}))

    def indices(
        self, subjects: Iterable[str] | None = None, *, annotated: bool = False
    ) -> np.ndarray:
        """Slices of these subjects (all if not given), or only the annotated ones of them."""
        chosen = np.ones(len(self), bool)
        if subjects is not None:
            wanted = set(subjects)
            chosen = np.array([scan.subject in wanted for scan in self.scans])[self.scan_index]
        if annotated:
            chosen = chosen & self.annotated
        return np.flatnonzero(chosen)

    def batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Images of a batch, shape (B, C, H, W), float32, in one vectorised read."""
        import torch

        images = torch.from_numpy(self.images[indices])
        self._arrays.release()
        return images

    def label_batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Class indices of a batch, shape (B, H, W), int64.

        Raises
        ------
        DataError
            If one of the slices is not annotated, so that it has no labels to give.
        """
        import torch

        if self.labels is None or not self.annotated[indices].all():
            raise DataError("A slice that nobody annotated has no labels; choose annotated slices.")
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
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value


def iter_store(
    scans: Sequence[Scan],
    settings: Preprocessing,
    *,
    classes: Sequence[int] = (),
    storage: Literal["auto", "memory", "disk"] = "auto",
    cache: Path | None = None,
    modality: Modality | None = None,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, SliceStore | None]:
    """Preprocess scans one at a time into a store, which the generator returns (None if stopped).

    Parameters
    ----------
    scans : sequence of Volume, Path, Series or LabelledScan
        Scans; a LabelledScan brings its labels.
    settings : Preprocessing
        Without ``size`` the canvas holds the largest slice.
    classes : sequence of int
        Label values to tell apart; needed with labels.
    storage : {"auto", "memory", "disk"}
        Where the slices stand; auto takes the disk from 2 GiB on, if ``cache`` is given.
    cache : Path, optional
        Folder of stores on disk. A store of the same scans and settings is used again.
    modality : {"MR", "CT"}, optional
        Overrides the guess for every scan that is loaded here.
    stop : StopFlag, optional
        Ends the building after the current scan; nothing is kept.

    Yields
    ------
    Progress
        Scans read.
    """
    if not scans:
        raise DataError("There is no scan to work on; choose at least one.")
    geometries = [scan_geometry(scan) for scan in scans]
    shapes = [resampled_shape(geometry, settings) for geometry in geometries]
    settings = settings.model_copy(update={"size": canvas_size(shapes, settings)})
    assert settings.size is not None
    counts = [geometry.display_shape[PLANE_AXIS[settings.plane]] for geometry in geometries]
    labelled = any(isinstance(scan, LabelledScan) for scan in scans)
    shape = (sum(counts), settings.channels, *settings.size)
    too_large = 4 * math.prod(shape) > MEMORY_LIMIT
    on_disk = storage == "disk" or (storage == "auto" and too_large and cache is not None)
    if on_disk:
        if cache is None:
            raise StorageError("A store on disk needs a folder; name one as the cache.")
        folder = cache / _fingerprint(scans, settings, classes)
        found = open_arrays(folder) if (folder / INDEX).exists() else None
        if found is not None:
            arrays, index = found
            yield Progress("Reading scans", len(scans), len(scans))
            records = [ScanRecord(**record) for record in index["scans"]]
            return SliceStore(arrays, records, settings, classes)
        writer: MemoryWriter | DiskWriter = DiskWriter(folder, shape, labelled)
    else:
        writer = MemoryWriter(shape, labelled)
    records = []
    try:
        for number, (scan, geometry) in enumerate(zip(scans, geometries, strict=True)):
            if stop is not None and stop.is_set:
                return None
            place = placement(geometry, settings, settings.size)
            if isinstance(scan, LabelledScan):
                volume, labels = scan.load(modality)
                mask = scan.annotated_mask(counts[number])
                values = np.moveaxis(labels.data, PLANE_AXIS[settings.plane], 0).copy()
                values[~mask] = 0
                values = class_indices(values, classes, scan.name)
                writer.add(prepare(volume, settings, place), prepare_labels(values, place), mask)
            else:
                volume = as_volume(scan, modality)
                if looks_like_labels(volume):
                    warnings.warn(
                        f"{volume.name} looks like a label map and not like a scan; leave it out.",
                        ScanWarning,
                        stacklevel=2,
                    )
                writer.add(prepare(volume, settings, place))
            start = records[-1].start + records[-1].n_slices if records else 0
            records.append(ScanRecord(volume.name, volume.subject, start, counts[number]))
            give_back_memory()
            yield Progress("Reading scans", number + 1, len(scans))
        index = {"format": FORMAT, "scans": [asdict(record) for record in records]}
        arrays = writer.finish(index)
        return SliceStore(arrays, records, settings, classes)
    finally:
        writer.close()


def scan_geometry(scan: Scan) -> Geometry:
    """Geometry of a scan, from its header alone if it is not loaded."""
    return scan.geometry if isinstance(scan, Volume | LabelledScan) else read_geometry(scan)


def scan_subject(scan: Scan) -> str:
    """Subject of a scan that may not be loaded yet."""
    if isinstance(scan, LabelledScan):
        scan = scan.scan
    return scan.subject if isinstance(scan, Volume) else as_series(scan).subject


def _fingerprint(scans: Sequence[Scan], settings: Preprocessing, classes: Sequence[int]) -> str:
    """Hash of the contents of all scans and labels, and of all that shapes the store."""
    total = hashlib.blake2b(digest_size=16)
    total.update(f"{FORMAT} {settings.model_dump_json()} {list(classes)}".encode())
    for scan in scans:
        parts: list[Volume | Source]
        if isinstance(scan, LabelledScan):
            parts = [scan.scan, scan.labels]
            total.update(repr(scan.annotated).encode())
        else:
            parts = [scan]
        for part in parts:
            if isinstance(part, Volume):
                total.update(f"{part.name} {part.subject} {part.modality}".encode())
                total.update(part.geometry.affine.tobytes())
                total.update(np.ascontiguousarray(part.data).data)
            else:
                total.update(as_series(part).name.encode())
                for path in as_series(part).files:
                    with path.open("rb") as file:
                        while block := file.read(2**20):
                            total.update(block)
    return total.hexdigest()


Item = TypeVar("Item", bound=Scan)


def hold_out(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Keep the scans of a share of the subjects apart: the others, and those held out."""
    subjects = map(scan_subject, items)
    apart = set(split_subjects(subjects, {"held out": share}, seed)["held out"])
    return (
        [item for item in items if scan_subject(item) not in apart],
        [item for item in items if scan_subject(item) in apart],
    )


def split_subjects(
    subjects: Iterable[str], shares: dict[str, float], seed: int = 0
) -> dict[str, list[str]]:
    """Deal subjects at random into parts of given shares; no subject is in two parts.

    Parameters
    ----------
    subjects : iterable of str
        Subjects; repeats count once.
    shares : dict
        Share of each part; they sum to at most 1. Each part with a positive share gets at least
        one subject while there are any.
    seed : int
        The same seed deals the same parts.
    """
    if sum(shares.values()) > 1 + 1e-9 or min(shares.values()) < 0:
        raise DataError(f"The shares of a split must be positive and sum to 1, not {shares}.")
    order = sorted(set(subjects))
    np.random.default_rng(seed).shuffle(order)
    parts, start, total = {}, 0, len(order)
    for name, share in shares.items():
        n = min(max(round(share * total), 1 if share > 0 else 0), total - start)
        parts[name] = sorted(order[start : start + n])
        start += n
    if parts and abs(sum(shares.values()) - 1) < 1e-9:
        # What rounding left over belongs to somebody.
        parts[name] = sorted([*parts[name], *order[start:]])
    return parts
