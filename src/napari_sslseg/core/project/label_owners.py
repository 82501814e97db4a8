"""What is no scan for a project though it can be read: labels, and single slices.

Neither values nor names tell labels alone. A scan may be binary, and a scan may be called
``liver_seg_study``. So labels are what has the values of a label map and one more sign: a name
that says so, or a scan on the very same grid that it can be of.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.project.record import ScanEntry
from napari_sslseg.core.project.sources import found_path, read_scan
from napari_sslseg.core.scans.class_codes import is_structure
from napari_sslseg.core.scans.find import as_series
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.label_guess import (
    LABEL_MODALITIES,
    count_matching_parts,
    has_label_name,
    looks_like_labels,
    without_label_words,
)
from napari_sslseg.core.scans.names import guess_subject, scan_name, volume_files
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Volume, subsample

if TYPE_CHECKING:
    from napari_sslseg.core.project.scans import ProjectScans

FEWEST_SLICES = 2
"""Of a scan, along each of its axes; what has fewer is a picture."""

FEWEST_GREYS = 64
"""Of a scan, for other files on its grid to be taken for labels of it."""


def may_be_labels(series: Series, volume: Volume) -> bool:
    """Whether the values are those of a label map, which is not enough to call it one.

    Of DICOM the header tells what it is, so that the values do not count.
    """
    return series.modality is None and looks_like_labels(volume)


def is_picture(volume: Volume) -> bool:
    """Whether a volume is a single slice."""
    return min(volume.geometry.display_shape) < FEWEST_SLICES


class LabelOwners:
    """Tells labels from binary scans, and which scan of a project labels belong to.

    It is made when the scans have been added, since labels are often named before their scan.

    Parameters
    ----------
    project : ProjectScans
        Whose scans they may belong to.
    """

    def __init__(self, project: "ProjectScans") -> None:
        self._project = project
        self._grey: dict[str | Path, bool] = {}

    def are_labels(self, series: Series) -> bool:
        """Whether what has the values of a label map is one."""
        return (
            series.modality in LABEL_MODALITIES
            or has_label_name(series.path)
            or any(self._is_grey(entry.name) for entry in self._fitting(series.opened().geometry))
            or self._lies_beside_its_scan(series)
        )

    def owner(self, series: Series) -> str | None:
        """Name of the scan that labels clearly belong to; None if there is none, or several.

        It lies on the same grid, and the names agree but for the words for labels; or both lie
        alone in a folder, such as that of a patient, under names such as ``ct`` and ``labels``.
        From another place a name must tell whose scan it is: each patient may have a ``ct``.
        """
        if series.modality in LABEL_MODALITIES:
            return self._referenced(series)
        if series.geometry is None:
            return None
        own = series.path.absolute()  # Labels that somebody added as a scan own nothing.
        fitting = [
            entry
            for entry in self._fitting(series.geometry)
            if found_path(entry, self._project.folder) != own
        ]
        name = scan_name(series.path)
        lengths = {
            entry.name: max(
                count_matching_parts(name, known) for known in (entry.series, entry.name)
            )
            for entry in fitting
        }
        longest = max(lengths.values(), default=0)
        chosen = [entry for entry in fitting if longest and lengths[entry.name] == longest]
        if not chosen and (not without_label_words(name) or is_structure(name)):
            chosen = [entry for entry in fitting if self._is_beside(entry, series.path)]
        if not chosen:
            subject = guess_subject(name)
            chosen = [entry for entry in fitting if subject != name and entry.subject == subject]
        for closer in (self._is_beside, self._is_of_sister_folder):
            near = [entry for entry in chosen if closer(entry, series.path)]
            if near:
                return near[0].name if len(near) == 1 else None
        telling = [entry for entry in chosen if _tells_whose(entry.series)]
        return telling[0].name if len(chosen) == len(telling) == 1 else None

    def _is_beside(self, entry: ScanEntry, path: Path) -> bool:
        """Whether a file lies in the folder of a scan, or beside the folder of its slices."""
        place = found_path(entry, self._project.folder)
        return path.absolute().parent in ((place, place.parent) if entry.files else (place.parent,))

    def _is_of_sister_folder(self, entry: ScanEntry, path: Path) -> bool:
        """Whether a file lies in a folder of labels beside that of a scan, such as labelsTr."""
        folder = path.absolute().parent
        beside = found_path(entry, self._project.folder).parent.parent == folder.parent
        return beside and not without_label_words(folder.name)

    def _fitting(self, geometry: Geometry) -> list[ScanEntry]:
        """Scans of the project on a grid."""
        found = []
        for entry in self._project.record.scans:
            if entry.shape != geometry.display_shape:
                continue
            try:
                grid = self._project.series(entry.name).geometry
            except (SslsegError, OSError):
                continue  # A scan that went has no labels to come; the window tells of it.
            if grid is not None and grid.matches(geometry):
                found.append(entry)
        return found

    def _is_grey(self, scan: str | Path) -> bool:
        """Whether a scan, by its name in the project or by its file, has grey values.

        Binary scans on one grid would else pass for labels of each other.
        """
        if scan not in self._grey:
            try:
                series = as_series(scan) if isinstance(scan, Path) else self._project.series(scan)
                volume, _ = read_scan(series)
                many = len(np.unique(subsample(volume.data))) >= FEWEST_GREYS
                self._grey[scan] = many and not looks_like_labels(volume)
            except (SslsegError, OSError):
                self._grey[scan] = False
        return self._grey[scan]

    def _lies_beside_its_scan(self, series: Series) -> bool:
        """Whether a scan lies in the folder, on the same grid, whose name begins that of this."""
        name = scan_name(series.path)
        for path in volume_files(series.path.absolute().parent):
            if path.name != series.path.name and count_matching_parts(name, scan_name(path)):
                try:
                    grid = as_series(path).geometry
                except SslsegError:
                    continue
                here = grid is not None and grid.matches(series.opened().geometry)
                if here and self._is_grey(path):
                    return True
        return False

    def _referenced(self, series: Series) -> str | None:
        """The scan that a DICOM segmentation or structure set refers to."""
        from napari_sslseg.core.scans.formats.dicom.labels.read import referenced_series

        names, scans = [], []
        for entry in self._project.record.scans:
            if entry.subject == series.subject:
                try:
                    scans.append(self._project.series(entry.name))
                except (SslsegError, OSError):
                    continue
                names.append(entry.name)
        try:
            found = referenced_series(series.path, scans)
        except (SslsegError, OSError):
            return None
        return names[scans.index(found[0])] if len(found) == 1 else None


def _tells_whose(name: str) -> bool:
    """Whether a name such as ``liver_07``, unlike ``ct`` or ``t1``, is that of one patient."""
    return len(without_label_words(name)) > 1 and any(sign.isdigit() for sign in name)
