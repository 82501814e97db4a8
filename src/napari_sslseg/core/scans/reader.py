"""Read each scan and each label map once, though several steps need its values."""

from pathlib import Path

from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, as_volume
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.series import Source
from napari_sslseg.core.scans.volume import Modality, Volume

MOST_BYTES = 2**29


class ScanReader:
    """Reads scans and label maps, and keeps them until they are taken.

    The modality and the classes are found before the samples are built, and both need values. A
    volume that :meth:`volume` or :meth:`labels` has read is kept in memory; :meth:`take` hands it
    out and forgets it.

    Parameters
    ----------
    limit : int
        Bytes to keep; volumes beyond this are read again when they are taken.
    """

    def __init__(self, limit: int = MOST_BYTES) -> None:
        self._limit = limit
        self._kept: dict[object, Volume] = {}

    def volume(self, scan: Volume | Source, modality: Modality | None = None) -> Volume:
        """Read a scan, and keep it."""
        if isinstance(scan, Volume):
            return scan
        key = scan, modality
        if key not in self._kept:
            return self._keep(key, as_volume(scan, modality))
        return self._kept[key]

    def labels(self, item: LabelledScan) -> Volume:
        """Read the labels of a scan, and keep them.

        Raises
        ------
        SslsegError
            If they cannot be read, or do not lie on the grid of the scan.
        """
        if isinstance(item.labels, Volume):
            return item.labels
        if item.labels in self._kept:
            return self._kept[item.labels]
        found = load_labels(item.labels, like=item.geometry)
        # DICOM labels are placed anew with the header of the loaded scan.
        return found if is_dicom(item.labels) else self._keep(item.labels, found)

    def take(self, scan: Scan, modality: Modality | None = None) -> tuple[Volume, Volume | None]:
        """Hand out a scan and its labels (None if it has none), and forget them."""
        if not isinstance(scan, LabelledScan):
            return self._taken(scan, modality), None
        labels = scan.labels
        if isinstance(labels, Path):
            labels = self._kept.pop(labels, labels)
        volume = self._taken(scan.scan, modality)
        return LabelledScan(volume, labels, scan.annotated).load()

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def _taken(self, scan: Volume | Source, modality: Modality | None) -> Volume:
        found = self._kept.pop((scan, modality), None)
        return as_volume(scan, modality) if found is None else found

    def _keep(self, key: object, volume: Volume) -> Volume:
        if volume.data.nbytes + sum(v.data.nbytes for v in self._kept.values()) <= self._limit:
            self._kept[key] = volume
        return volume
