"""Scans with their labels and annotated slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import DataError, GeometryError
from napari_sslseg.core.scans.classes.partial_labels import check_unknown_value
from napari_sslseg.core.scans.classes.renumber import renumber
from napari_sslseg.core.scans.find import as_series
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.series import Series, Source
from napari_sslseg.core.scans.slices.annotated import Annotated, annotated_slices, as_annotated
from napari_sslseg.core.scans.volume import Modality, Volume, load_volume, read_geometry


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """A scan, its labels, and what of it is annotated.

    Parameters
    ----------
    scan : Volume, Series or path-like
        The scan.
    labels : Volume, path-like, or several path-like
        Label map on the grid of the scan, or files of one structure each.
    annotated : tuple of int, "labelled" or "all", optional
        Indices of the slices, along the slicing plane of the display grid, on which all structures
        are labelled (an annotated slice may be empty). ``"labelled"`` stands for the slices that
        show any label. All slices if not given; ``"all"`` says that this is meant, even if empty
        slices lie between labelled ones. Other slices are not used for training: a slice that
        nobody annotated is not background.
    values : mapping of int to int, optional
        Class of each value in ``labels``, see
        :func:`~napari_sslseg.core.scans.classes.renumber.renumber`; the values are the classes if
        not given. :func:`match_labels` finds it by the names in the files.
    class_names : mapping of int to str, optional
        Names of the classes of this scan, after ``values`` is applied; if not given, those in the
        file are used.
    ignore : int, optional
        Value, after ``values`` is applied, of voxels whose class is unknown, such as 255; 0 in
        scribbles. They are neither a class nor background.
    background : int
        Value of the background, after ``values`` is applied. Where 0 is not unknown, it is
        background as well.
    labelled_classes : tuple of int, optional
        Classes that are labelled in this scan; all if not given. Structures of other classes are
        somewhere in its background.

    Raises
    ------
    DataError
        If the background is unknown, no class is labelled, or a slice or value is no whole number.
    """

    scan: Volume | Source
    labels: Volume | Path | tuple[Path, ...]
    annotated: Annotated = None
    values: Mapping[int, int] | None = None
    class_names: Mapping[int, str] | None = None
    ignore: int | None = None
    background: int = 0
    labelled_classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        # Python users may give paths as text.
        if isinstance(self.scan, str):
            object.__setattr__(self, "scan", Path(self.scan))
        if isinstance(self.labels, str):
            object.__setattr__(self, "labels", Path(self.labels))
        elif isinstance(self.labels, list | tuple):
            object.__setattr__(self, "labels", tuple(map(Path, self.labels)))
        object.__setattr__(self, "annotated", as_annotated(self.annotated, self.name))
        check_unknown_value(self.ignore, self.background)
        if self.labelled_classes is not None and not self.labelled_classes:
            raise DataError(
                f"No class is labelled in {self.name}, so it has no labels to learn from; leave "
                "it out."
            )

    @property
    def name(self) -> str:
        """Name of the scan."""
        return name_of(self.scan)

    @property
    def subject(self) -> str:
        """Subject of the scan, from its header alone if it is not loaded."""
        return scan_subject(self.scan)

    @property
    def geometry(self) -> Geometry:
        """Grid of the scan, from its header alone if it is not loaded."""
        return self.scan.geometry if isinstance(self.scan, Volume) else read_geometry(self.scan)

    @property
    def grid(self) -> Volume | Series:
        """The scan for placing labels: its header is read, but not its values."""
        return self.scan if isinstance(self.scan, Volume) else as_series(self.scan)

    def opened(self) -> "LabelledScan":
        """Same scan with its header read, so that it is not read again and again."""
        return replace(self, scan=as_series(self.scan)) if isinstance(self.scan, Path) else self

    def load(self, modality: Modality | None = None) -> tuple[Volume, Volume]:
        """Load scan and labels, and check that their grids match."""
        scan = as_volume(self.scan, modality)
        if isinstance(self.labels, Volume):
            own = self.labels.geometry
            data = own.onto(self.labels.data, scan.geometry)
            if data is None:
                raise GeometryError(
                    f"The labels of {scan.name} have another grid than their scan: "
                    f"{own.difference(scan.geometry)}; use labels that were drawn on this scan."
                )
            labels = replace(self.labels, data=data, geometry=scan.geometry)
            return scan, renumber(labels, self.values)
        return scan, renumber(load_labels(self.labels, like=scan), self.values)

    def load_labels(self) -> Volume:
        """Load the labels alone."""
        labels = self.labels
        if not isinstance(labels, Volume):
            labels = load_labels(labels, like=self.grid)
        return renumber(labels, self.values)

    def annotated_mask(self, slices: np.ndarray) -> np.ndarray:
        """Return which slices are annotated, shape (S,), bool.

        Parameters
        ----------
        slices : ndarray, shape (S, H, W)
            Label values of the scan, slice by slice.
        """
        return annotated_slices(slices, self.annotated, self.name)

    def hidden_classes(self, classes: Sequence[int]) -> tuple[int, ...]:
        """Return the indices, from 1, of those ``classes`` that are not labelled in this scan."""
        if self.labelled_classes is None:
            return ()
        return tuple(
            index
            for index, value in enumerate(classes, start=1)
            if value not in self.labelled_classes
        )


def as_volume(scan: Volume | Source | str, modality: Modality | None = None) -> Volume:
    """Load a scan unless it is loaded already."""
    return scan if isinstance(scan, Volume) else load_volume(scan, modality=modality)


Scan = Volume | Source | LabelledScan
"""Any scan, loaded or not, with labels or without."""


def name_of(scan: Scan) -> str:
    """Return the name of a scan; nothing is read."""
    return scan_name(scan) if isinstance(scan, Path) else scan.name


def scan_geometry(scan: Scan) -> Geometry:
    """Return the geometry of a scan, from its header alone if it is not loaded."""
    return scan.geometry if isinstance(scan, Volume | LabelledScan) else read_geometry(scan)


def scan_subject(scan: Scan) -> str:
    """Return the subject of a scan, from its header alone if it is not loaded."""
    if isinstance(scan, LabelledScan):
        scan = scan.scan
    return scan.subject if isinstance(scan, Volume) else as_series(scan).subject


def label_file_names(item: LabelledScan) -> list[str]:
    """Names of the label files of a scan with their folders; none if its labels are in memory."""
    files = item.labels if isinstance(item.labels, tuple) else (item.labels,)
    return [f"{f.absolute().parent.name}/{f.name}" for f in files if isinstance(f, Path)]
