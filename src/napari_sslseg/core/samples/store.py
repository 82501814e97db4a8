"""Base class of stores of slices and crops, their records of scans, and loading of scans."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.sizes import PLANE_AXIS, UNKNOWN, Plane
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.scans.classes.scan_classes import class_indices
from napari_sslseg.core.scans.find import as_series
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, as_volume, scan_subject
from napari_sslseg.core.scans.matching.label_guess import looks_like_labels
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.scans.series import Source
from napari_sslseg.core.scans.slices.ranges import format_ranges
from napari_sslseg.core.scans.sources import without_labels
from napari_sslseg.core.scans.volume import Modality, Volume
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StoredScan:
    """A scan of a store: ``start`` is the index of its first sample (slice or crop).

    ``content`` and ``labels`` are hashes of its values and of its labels. ``like_labels`` is True
    if its values are those of a label map. ``hidden`` are the indices of classes that are not
    labelled in it. ``counts`` are its annotated voxels of the background, of each class, and of no
    known class, and ``shown`` the ranges of its annotated slices that show a class.
    """

    name: str
    subject: str
    start: int
    n_slices: int
    content: str = ""
    labels: str = ""
    like_labels: bool = False
    hidden: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    shown: str = ""


class SampleStore(ABC):
    """Preprocessed samples of many scans, read in batches.

    Attributes
    ----------
    scans : tuple of StoredScan
        Scans, in the order of their samples.
    scan_index : ndarray, shape (N,)
        Scan of each sample.
    annotated, foreground : ndarray, shape (N,), bool
        Which samples are annotated, and which of these contain a labelled structure.
    partial : ndarray, shape (N,), bool
        Which annotated samples have unknown voxels, or classes that are not labelled there.
    settings : Preprocessing or VolumePreprocessing
        Preprocessing, with all defaults resolved.
    classes : tuple of int
        Label values of the classes.
    folder : Path or None
        Folder of the samples; None in memory.
    noun : str
        Name of a sample in messages.
    """

    noun: str
    annotated: np.ndarray
    foreground: np.ndarray
    partial: np.ndarray
    settings: Preprocessing | VolumePreprocessing
    folder: Path | None

    def __init__(self, scans: Sequence[StoredScan], classes: Sequence[int]) -> None:
        self.scans = tuple(scans)
        self.classes = tuple(classes)
        self.scan_index = np.repeat(np.arange(len(scans)), [scan.n_slices for scan in scans])
        self._hidden = np.zeros((len(scans), 1 + len(classes)), bool)
        for number, scan in enumerate(scans):
            self._hidden[number, list(scan.hidden)] = True

    def __len__(self) -> int:
        return len(self.scan_index)

    def describe(self, indices: np.ndarray, most: int = 32) -> str:
        """Describe samples by their scan and index, such as ``slices 3, 9 of case_1``.

        At most ``most`` samples are listed.
        """
        found: dict[int, list[int]] = {}
        for index in np.unique(indices)[:most].tolist():
            number = int(self.scan_index[index])
            found.setdefault(number, []).append(index - self.scans[number].start)
        parts = [
            f"{self.noun}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))} of "
            f"{self.scans[scan].name}"
            for scan, numbers in found.items()
        ]
        more = len(np.unique(indices)) - most
        return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")

    @property
    @abstractmethod
    def size(self) -> tuple[int, ...]:
        """Size of the samples: height and width, or slices, height and width."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of the samples."""

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Whether there are labels."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects in the store, sorted."""
        return tuple(sorted({scan.subject for scan in self.scans}))

    def indices(
        self, subjects: Iterable[str] | None = None, *, annotated: bool = False
    ) -> np.ndarray:
        """Return the indices of the samples of some subjects (default: all), or annotated ones."""
        chosen = np.ones(len(self), bool)
        if subjects is not None:
            wanted = set(subjects)
            chosen = np.array([scan.subject in wanted for scan in self.scans])[self.scan_index]
        if annotated:
            chosen = chosen & self.annotated
        return np.flatnonzero(chosen)

    @abstractmethod
    def batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Read the images of a batch, shape (B, C, *size), float32."""

    @abstractmethod
    def label_batch(self, indices: np.ndarray) -> "torch.Tensor":
        """Read the class indices of a batch, shape (B, *size), int64; 255 where unknown.

        Raises
        ------
        DataError
            If one of the samples is not annotated.
        """

    def hidden_classes(self, indices: np.ndarray) -> np.ndarray:
        """Return which classes are not labelled in samples, shape (B, 1 + classes), bool."""
        return self._hidden[self.scan_index[indices]]

    def _find_partial(self, unknown: np.ndarray) -> np.ndarray:
        """Return which annotated samples are partial, given those with unknown voxels."""
        somewhere = np.asarray(self._hidden.any(axis=1))
        return self.annotated & (unknown | somewhere[self.scan_index])

    def _check_annotated(self, indices: np.ndarray) -> None:
        if not self.labelled or not self.annotated[indices].all():
            raise DataError(
                f"A {self.noun} that is not annotated has no labels; choose annotated ones."
            )


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """A scan with its labels as class indices, shape (S, H, W), and its annotated slices."""

    volume: Volume
    classes: np.ndarray | None = None
    annotated: np.ndarray | None = None
    hidden: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    shown: str = ""

    def digests(self) -> tuple[str, str]:
        """Return hashes of the values on their grid and of the labels, from memory.

        Only annotated slices contribute to the hash of the labels.
        """
        labels = ""
        if self.classes is not None and self.annotated is not None:
            labels = content_hash(self.annotated.tobytes(), self.classes)
        return scan_hash(self.volume), labels


def scan_hash(volume: Volume) -> str:
    """Hash of the values of a scan on their grid, as the record of a run has it."""
    # In the order of the source grid, which is the memory order of most scans.
    values = volume.geometry.to_source(volume.data).T
    return content_hash(volume.geometry.affine.tobytes(), values)


def add_record(records: list[StoredScan], loaded: LoadedScan, n_samples: int) -> None:
    """Append the record of a scan, whose samples follow those of the previous scans."""
    start = records[-1].start + records[-1].n_slices if records else 0
    volume = loaded.volume
    hashes = loaded.digests()
    like = looks_like_labels(volume)
    records.append(
        StoredScan(
            volume.name,
            volume.subject,
            start,
            n_samples,
            *hashes,
            like,
            loaded.hidden,
            loaded.counts,
            loaded.shown,
        )
    )


def read_records(index: Mapping[str, Any]) -> list[StoredScan]:
    """Return the records of the scans in the index of a store on disk."""
    # JSON has no tuples, and stores of early versions lack some fields.
    lists = ("hidden", "counts")
    return [
        StoredScan(**{**record, **{name: tuple(record.get(name, ())) for name in lists}})
        for record in index["scans"]
    ]


def find_contents(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which samples show a class, and which have unknown voxels, each (N,), bool."""
    axes = tuple(range(1, labels.ndim))
    unknown = labels == UNKNOWN
    return ((labels > 0) & ~unknown).any(axis=axes), unknown.any(axis=axes)


def refuse_label_maps(scans: Sequence[StoredScan], labelled: Sequence[StoredScan] = ()) -> None:
    """Check that there are no label maps among the scans without labels.

    Parameters
    ----------
    scans : sequence of StoredScan
        Scans without labels.
    labelled : sequence of StoredScan
        Scans with labels. If their own values look like label maps, such scans are intended.

    Raises
    ------
    DataError
        If there are label maps; the message names some.
    """
    found = [scan.name for scan in scans if scan.like_labels]
    if found and not any(scan.like_labels for scan in labelled):
        raise DataError(
            f"{len(found)} of the {len(scans)} scans without labels look like label maps: "
            f"{join_names(found)}; leave such files out."
        )


def load_scan(
    scan: Scan,
    plane: Plane,
    classes: Sequence[int],
    modality: Modality | None,
    reader: ScanReader | None = None,
    *,
    whole: bool = False,
) -> LoadedScan:
    """Load a scan; labels of slices that are not annotated are set to background.

    Slices on which every voxel is unknown count as not annotated, unless samples are crops of the
    ``whole`` scan.

    Raises
    ------
    SslsegError
        If the scan or its labels cannot be read, or a label value is not among the classes.
    """
    volume, labels = (reader or ScanReader()).take(scan, modality)
    if isinstance(scan, LabelledScan) and labels is not None:
        values = np.moveaxis(labels.data, PLANE_AXIS[plane], 0).copy()
        mask = scan.annotated_mask(values)
        values[~mask] = 0
        found = class_indices(
            values, classes, scan.name, ignore=scan.ignore, background=scan.background
        )
        if not whole:
            mask &= (found != UNKNOWN).any(axis=(1, 2))
            found[~mask] = 0
        hidden = scan.hidden_classes(classes)
        if hidden and (wrong := np.intersect1d(found, hidden)).size:
            raise DataError(
                f"The class {classes[wrong[0] - 1]} occurs in the labels of {scan.name}, although "
                "it is said not to be labelled there; correct the list of labelled classes."
            )
        total = np.zeros(UNKNOWN + 1, np.int64)
        for plane_labels in found[mask]:
            total += np.bincount(plane_labels.ravel(), minlength=UNKNOWN + 1)
        counts = (*total[: 1 + len(classes)].tolist(), int(total[UNKNOWN]))
        shown = format_ranges(np.flatnonzero(find_contents(found)[0]))
        return LoadedScan(volume, found, mask, hidden, counts, shown)
    return LoadedScan(volume)


def content_hash(head: bytes, values: np.ndarray) -> str:
    """Hash ``head`` and an array, plane by plane, without copying the whole array."""
    total = hashlib.blake2b(head, digest_size=16)
    total.update(f"{values.dtype.str} {values.shape}".encode())
    for plane in values:
        total.update(np.ascontiguousarray(plane).data)
    return total.hexdigest()


def fingerprint(head: str, scans: Sequence[Scan]) -> str:
    """Hash the contents of all scans and labels, and ``head``, a text of all other inputs."""
    total = hashlib.blake2b(digest_size=16)
    total.update(head.encode())
    for scan in scans:
        parts: list[Volume | Source]
        # The split depends on it, and the user may correct it.
        total.update(os.fsencode(f"{scan_subject(scan)}\0"))
        if isinstance(scan, LabelledScan):
            labels = scan.labels if isinstance(scan.labels, tuple) else (scan.labels,)
            parts = [scan.scan, *labels]
            total.update(repr(scan.annotated).encode())
            if scan.values is not None:
                total.update(repr(sorted(scan.values.items())).encode())
            said = scan.ignore, scan.background, scan.labelled_classes
            if said != (None, 0, None):  # Stores of scans without them keep their names.
                total.update(repr(said).encode())
        else:
            parts = [scan]
        for part in parts:
            if isinstance(part, Volume):
                total.update(os.fsencode(f"{part.name} {part.subject} {part.modality}"))
                total.update(part.geometry.affine.tobytes())
                total.update(np.ascontiguousarray(part.data).data)
            else:
                total.update(os.fsencode(as_series(part).name))
                for path in as_series(part).files:
                    with path.open("rb") as file:
                        while block := file.read(2**20):
                            total.update(block)
    return total.hexdigest()


def hash_scan(scan: Scan) -> str:
    """Load a scan and hash its values, see ``LoadedScan.digests``."""
    return LoadedScan(as_volume(without_labels(scan))).digests()[0]
