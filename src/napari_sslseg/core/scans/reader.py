"""Read each scan and each label map once, although several steps need its values."""

from dataclasses import replace

from napari_sslseg.core.scans.classes.renumber import renumber
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, as_volume
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.series import Source
from napari_sslseg.core.scans.volume import Modality, Volume

MOST_BYTES = 2**29


class ScanReader:
    """Reads scans and label maps, and caches them until they are taken.

    Modality and classes are determined before the samples are built, and both need values. Volumes
    read by :meth:`volume` and :meth:`labels` are cached in memory; :meth:`take` returns them and
    removes them from the cache.

    Parameters
    ----------
    limit : int
        Size of the cache in bytes; further volumes are read again when they are taken.
    """

    def __init__(self, limit: int = MOST_BYTES) -> None:
        self._limit = limit
        self._cache: dict[object, Volume] = {}

    def volume(self, scan: Volume | Source, modality: Modality | None = None) -> Volume:
        """Read and cache a scan."""
        if isinstance(scan, Volume):
            return scan
        key = scan, modality
        if key not in self._cache:
            return self._store(key, as_volume(scan, modality))
        return self._cache[key]

    def labels(self, item: LabelledScan) -> Volume:
        """Read and cache the labels of a scan.

        Raises
        ------
        SslsegError
            If they cannot be read, or have another grid than the scan.
        """
        return renumber(self._labels(item), item.values)

    def take(self, scan: Scan, modality: Modality | None = None) -> tuple[Volume, Volume | None]:
        """Return a scan and its labels (None if it has none), and remove them from the cache."""
        if not isinstance(scan, LabelledScan):
            return self._take_volume(scan, modality), None
        labels = scan.labels
        if not isinstance(labels, Volume):
            labels = self._cache.pop(labels, labels)
        volume = self._take_volume(scan.scan, modality)
        return replace(scan, scan=volume, labels=labels).load()

    def clear(self) -> None:
        """Clear the cache."""
        self._cache.clear()

    def _labels(self, item: LabelledScan) -> Volume:
        """Labels with the values of their file."""
        if isinstance(item.labels, Volume):
            return item.labels
        if item.labels in self._cache:
            return self._cache[item.labels]
        return self._store(item.labels, load_labels(item.labels, like=item.grid))

    def _take_volume(self, scan: Volume | Source, modality: Modality | None) -> Volume:
        found = self._cache.pop((scan, modality), None)
        return as_volume(scan, modality) if found is None else found

    def _store(self, key: object, volume: Volume) -> Volume:
        if volume.data.nbytes + sum(v.data.nbytes for v in self._cache.values()) <= self._limit:
            self._cache[key] = volume
        return volume
