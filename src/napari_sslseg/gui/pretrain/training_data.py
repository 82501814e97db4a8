"""Scans of a project that a pretraining would use, as counts and sizes. Needs no Qt."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.samples.build import sample_size
from napari_sslseg.core.samples.planned_spacing import with_planned_spacing
from napari_sslseg.core.samples.warnings import Spacing
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, Preprocessing
from napari_sslseg.gui.text import plural

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.project.record import ScanEntry


@dataclass(frozen=True)
class TrainingData:
    """Summary of the training scans of a project.

    Attributes
    ----------
    scans, subjects, slices : int
        How many there are.
    modalities : tuple of str
        Modalities of the scans, sorted.
    plane : {"axial", "coronal", "sagittal"}
        Plane of the slices.
    spacing : tuple of float, optional
        Voxel size of the first scan in mm, along the display axes.
    """

    scans: int = 0
    subjects: int = 0
    slices: int = 0
    modalities: tuple[str, ...] = ()
    plane: Plane = "axial"
    spacing: Spacing | None = None

    @property
    def description(self) -> str:
        """Number of scans, patients and slices."""
        if not self.scans:
            return "no training scans"
        return (
            f"{plural(self.scans, 'scan')} of {plural(self.subjects, 'patient')}, "
            f"{self.slices:,} {self.plane} slices"
        )


def training_data_of(project: "Project | None") -> TrainingData:
    """Summarise the training scans of a project from its record, without reading files."""
    if project is None:
        return TrainingData()
    entries = _training_entries(project)
    return TrainingData(
        scans=len(entries),
        subjects=len({entry.subject for entry in entries}),
        slices=sum(entry.shape[PLANE_AXIS[project.plane]] for entry in entries),
        modalities=tuple(sorted({entry.modality for entry in entries})),
        plane=project.plane,
        spacing=next((entry.spacing for entry in entries), None),
    )


def training_sample_size(project: "Project", settings: AnyPreprocessing) -> tuple[int, ...] | None:
    """Size of the slices or crops that the network will see, as core computes it.

    Shapes and voxel sizes come from the record of the project. Projects of early versions do not
    hold voxel sizes; for these the headers of the scans are read.

    Returns
    -------
    tuple of int or None
        None if there is no training scan whose size is known.
    """
    geometries = _geometries(project)
    return sample_size(geometries, settings) if geometries else None


def describe_pixels(project: "Project", settings: AnyPreprocessing) -> str:
    """Say which pixels core plans for the training; empty if those of the scans are used."""
    geometries = _geometries(project)
    if not isinstance(settings, Preprocessing) or not geometries:
        return ""
    planned = with_planned_spacing(settings, geometries)[1]
    return planned.describe() if planned is not None else ""


def _training_entries(project: "Project") -> list["ScanEntry"]:
    return [entry for entry in project.record.scans if entry.role == "train"]


def _geometries(project: "Project") -> list[Geometry]:
    """Geometries of the training scans."""
    known: dict[object, Geometry] = {}
    found = []
    for entry in _training_entries(project):
        key: object = (entry.shape, entry.spacing)
        if entry.spacing is None:
            key = entry.name
            _add_from_header(project, entry.name, known)
        elif key not in known:
            known[key] = _display_geometry(entry.shape, entry.spacing)
        if key in known:
            found.append(known[key])
    return found


def _display_geometry(shape: tuple[int, int, int], spacing: Spacing) -> Geometry:
    """Geometry whose source grid is the display grid: inferior, posterior, left."""
    affine = np.eye(4)
    affine[:3, :3] = -np.fliplr(np.diag(spacing[::-1]))
    return Geometry(affine, shape)


def _add_from_header(project: "Project", name: str, known: dict[object, Geometry]) -> None:
    from napari_sslseg.core.scans.labelled import scan_geometry

    try:
        known[name] = scan_geometry(project.series(name))
    except (SslsegError, OSError):
        return  # The list of scans shows what is wrong with it.
