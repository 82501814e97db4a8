"""Volumes that are not scans: label maps, with the scan that they belong to, and single slices.

Neither values nor names identify label maps alone. A scan may be binary, and a scan may be named
``liver_seg_study``. A volume is therefore taken as a label map if it has the values of one and in
addition a name of label maps, or the grid of a scan that it can belong to.
"""

from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.project.folder import ProjectFolder
from napari_sslseg.core.project.record import ScanEntry
from napari_sslseg.core.project.scans import ProjectScans
from napari_sslseg.core.project.sources import find_path, read_scan
from napari_sslseg.core.scans.classes.class_codes import is_structure
from napari_sslseg.core.scans.find import as_series
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.matching.label_guess import LABEL_MODALITIES, looks_like_labels
from napari_sslseg.core.scans.matching.label_names import (
    count_matching_parts,
    has_label_name,
    without_label_words,
)
from napari_sslseg.core.scans.matching.pairing import best_match
from napari_sslseg.core.scans.matching.subjects import guess_subject
from napari_sslseg.core.scans.names import scan_name, volume_files
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Volume, subsample

FEWEST_SLICES = 2
"""Along each axis of a scan; a volume with fewer is a single slice."""

FEWEST_VALUES = 64
"""Different values of a scan, for other files on its grid to be taken as its labels."""


def may_be_labels(series: Series, volume: Volume) -> bool:
    """Whether the values are those of a label map, which alone does not identify one.

    Always false for DICOM, whose header says what the volume is.
    """
    return series.modality is None and looks_like_labels(volume)


def is_single_slice(volume: Volume) -> bool:
    """Whether a volume is a single slice."""
    return min(volume.geometry.display_shape) < FEWEST_SLICES


class LabelOwners:
    """Distinguishes label maps from binary scans, and finds the scan that labels belong to.

    Use it after all scans were added, since label maps are often listed before their scan.

    Parameters
    ----------
    folder : ProjectFolder
        The project.
    scans : ProjectScans
        Scans that the labels may belong to.
    """

    def __init__(self, folder: ProjectFolder, scans: ProjectScans) -> None:
        self._folder = folder
        self._scans = scans
        self._many_valued: dict[str | Path, bool] = {}

    def are_labels(self, series: Series) -> bool:
        """Whether a volume with the values of a label map is one."""
        if series.modality in LABEL_MODALITIES or has_label_name(series.path):
            return True
        scans = self._on_grid(series.opened().geometry)
        return any(
            self._has_many_values(scan.name) for scan in scans
        ) or self._is_in_folder_with_its_scan(series)

    def owner(self, series: Series) -> str | None:
        """Name of the scan that labels clearly belong to; None if there is none, or several.

        The scan has the same grid, and the names fit by the rule of
        :mod:`~napari_sslseg.core.scans.matching.pairing`; or both are the only ones in a folder,
        such as that of a patient, with names such as ``ct`` and ``labels``. From another folder the
        name must identify the patient, since each patient may have a ``ct``.
        """
        if series.modality in LABEL_MODALITIES:
            return self._referenced(series)
        if series.geometry is None:
            return None
        own = series.path.absolute()  # Labels that were added as a scan.
        candidates = [
            entry
            for entry in self._on_grid(series.geometry)
            if find_path(entry, self._folder.path) != own
        ]
        name = scan_name(series.path)
        wanted = best_match(name, [n for entry in candidates for n in (entry.series, entry.name)])
        chosen = [entry for entry in candidates if {entry.series, entry.name} & {*wanted}]
        parts = not without_label_words(name) or is_structure(name)
        if not chosen and (parts or _is_label_folder(own.parent)):
            chosen = [entry for entry in candidates if self._is_in_folder_of(entry, series.path)]
        if not chosen:
            # The user may have corrected the patients.
            subject = guess_subject(name)
            chosen = [entry for entry in candidates if subject != name and entry.subject == subject]
        for is_closer in (self._is_in_folder_of, self._is_in_label_folder_of):
            near = [entry for entry in chosen if is_closer(entry, series.path)]
            if near:
                return near[0].name if len(near) == 1 else None
        identifying = [entry for entry in chosen if _identifies_patient(entry.series)]
        return identifying[0].name if len(chosen) == len(identifying) == 1 else None

    def _is_in_folder_of(self, entry: ScanEntry, path: Path) -> bool:
        """Whether a file is in the folder of a scan, or in the one around its folder of slices.

        Or in a folder such as ``segmentations`` within it.
        """
        place = find_path(entry, self._folder.path)
        folder = path.absolute().parent
        around = (place, place.parent) if entry.files else (place.parent,)
        return folder in around or (_is_label_folder(folder) and folder.parent in around)

    def _is_in_label_folder_of(self, entry: ScanEntry, path: Path) -> bool:
        """Whether a file is in a folder such as labelsTr next to the folder of a scan."""
        folder = path.absolute().parent
        siblings = find_path(entry, self._folder.path).parent.parent == folder.parent
        return siblings and _is_label_folder(folder)

    def _on_grid(self, geometry: Geometry) -> list[ScanEntry]:
        """Scans of the project with this grid."""
        found = []
        for entry in self._folder.record.scans:
            if sorted(entry.shape) != sorted(geometry.display_shape):
                continue
            try:
                grid = self._scans.series(entry.name).geometry
            except (SslsegError, OSError):
                continue  # The window reports missing scans.
            if grid is not None and grid.has_voxels_of(geometry):
                found.append(entry)
        return found

    def _has_many_values(self, scan: str | Path) -> bool:
        """Whether a scan, given by its name in the project or its file, has many values.

        Otherwise binary scans with one grid would be taken as labels of each other.
        """
        if scan not in self._many_valued:
            try:
                series = as_series(scan) if isinstance(scan, Path) else self._scans.series(scan)
                volume, _ = read_scan(series)
                many = len(np.unique(subsample(volume.data))) >= FEWEST_VALUES
                self._many_valued[scan] = many and not looks_like_labels(volume)
            except (SslsegError, OSError):
                self._many_valued[scan] = False
        return self._many_valued[scan]

    def _is_in_folder_with_its_scan(self, series: Series) -> bool:
        """Whether its folder has a scan on the same grid whose name begins that of the series."""
        name = scan_name(series.path)
        for path in volume_files(series.path.absolute().parent):
            if path.name != series.path.name and count_matching_parts(name, scan_name(path)):
                try:
                    grid = as_series(path).geometry
                except SslsegError:
                    continue
                here = grid is not None and grid.has_voxels_of(series.opened().geometry)
                if here and self._has_many_values(path):
                    return True
        return False

    def _referenced(self, series: Series) -> str | None:
        """Name of the scan that a DICOM segmentation or structure set refers to."""
        from napari_sslseg.core.scans.formats.dicom.labels.read import referenced_series

        names, scans = [], []
        same = [entry for entry in self._folder.record.scans if entry.subject == series.subject]
        # The user may have corrected the patients.
        for entry in same or self._folder.record.scans:
            try:
                scan = self._scans.series(entry.name)
            except (SslsegError, OSError):
                continue
            if entry in same or (scan.files and is_dicom(scan.files[0])):
                scans.append(scan)
                names.append(entry.name)
        try:
            found = referenced_series(series.path, scans)
        except (SslsegError, OSError):
            return None
        return names[scans.index(found[0])] if len(found) == 1 else None


def _is_label_folder(folder: Path) -> bool:
    """Whether the name of a folder consists of words for labels, as in ``labelsTr``."""
    return not without_label_words(folder.name)


def _identifies_patient(name: str) -> bool:
    """Whether a name is specific for a patient, as ``liver_07`` is, unlike ``ct`` or ``t1``."""
    return len(without_label_words(name)) > 1 and any(char.isdigit() for char in name)
