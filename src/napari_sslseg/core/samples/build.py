"""Build the samples of a training: slices, or crops of volumes."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from napari_sslseg.core.common.compute.distributed import first_then_others
from napari_sslseg.core.common.events import Message, Progress, StopFlag
from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.core.common.text import count_phrase
from napari_sslseg.core.samples.crops import CropStore, crop_size, iter_crops
from napari_sslseg.core.samples.placement import canvas_size, resampled_shape
from napari_sslseg.core.samples.planned_spacing import with_planned_spacing
from napari_sslseg.core.samples.slices import SliceStore, iter_store
from napari_sslseg.core.samples.warnings import Spacing, default_neighbours
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import Scan, scan_geometry
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.scans.sources import collect_scans, without_labels
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.core.settings.preprocessing import (
    AnyPreprocessing,
    Clipping,
    Preprocessing,
    VolumePreprocessing,
)

Store = SliceStore | CropStore

CLIPPING: Clipping = "soft"
"""Clipping of MR values in new runs. Hard clipping hides small bright structures, such as lesions
of a few voxels; soft clipping does not. Scores on organs are the same, see
docs/benchmarks.md."""


@overload
def default_preprocessing(
    modality: Modality,
    dimensions: Literal[2] = 2,
    *,
    spacing: Spacing | None = None,
    plane: Plane = "axial",
) -> Preprocessing: ...
@overload
def default_preprocessing(
    modality: Modality,
    dimensions: Literal[3],
    *,
    spacing: Spacing | None = None,
    plane: Plane = "axial",
) -> VolumePreprocessing: ...
@overload
def default_preprocessing(
    modality: Modality,
    dimensions: Literal[2, 3],
    *,
    spacing: Spacing | None = None,
    plane: Plane = "axial",
) -> AnyPreprocessing: ...
def default_preprocessing(
    modality: Modality,
    dimensions: Literal[2, 3] = 2,
    *,
    spacing: Spacing | None = None,
    plane: Plane = "axial",
) -> AnyPreprocessing:
    """Return the preprocessing of Dominic et al. 2023 with neighbouring slices, or for volumes.

    MR: soft clipping, and z-score over the scan. CT: three windows, z-score over each slice and
    channel; for volumes, over the scan and channel. The pixels of slices are planned, see
    :mod:`napari_sslseg.core.samples.planned_spacing`.

    Parameters
    ----------
    modality : {"MR", "CT"}
        Modality of the scans.
    dimensions : {2, 3}
        Dimensions of the samples.
    spacing : tuple of float, optional
        Voxel size of a scan in mm along the display axes (inferior, posterior, left), which decides
        on neighbouring slices. If it is unknown, there are none.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    """
    if dimensions == 3:
        return VolumePreprocessing(modality=modality, clipping=CLIPPING)
    return Preprocessing(
        modality=modality,
        clipping=CLIPPING,
        plane=plane,
        normalize="slice" if modality == "CT" else "volume",
        spacing="planned",
        neighbours=0 if spacing is None else default_neighbours(spacing, plane),
    )


def sample_dimensions(settings: AnyPreprocessing) -> Literal[2, 3]:
    """Return the dimensions of samples: 2 for slices, 3 for volumes."""
    return 3 if isinstance(settings, VolumePreprocessing) else 2


def iter_samples(
    scans: Sequence[Scan],
    settings: AnyPreprocessing,
    *,
    classes: Sequence[int] = (),
    cache: Path,
    on_disk: bool = False,
    modality: Modality | None = None,
    stop: StopFlag | None = None,
    reader: ScanReader | None = None,
) -> Generator[Progress, None, Store | None]:
    """Preprocess scans into a store of slices or crops, which is the return value.

    Parameters
    ----------
    scans, settings, classes, modality, stop, reader
        See :func:`~napari_sslseg.core.samples.slices.iter_store` and
        :func:`~napari_sslseg.core.samples.crops.iter_crops`.
    cache : Path
        Folder for stores on disk.
    on_disk : bool
        Whether to store samples on disk in any case, or only if they are large.

    Yields
    ------
    Progress
        Number of scans read.
    """
    build: Any = iter_crops if isinstance(settings, VolumePreprocessing) else iter_store
    # With several processes, the first one fills the folder and the others open it.
    with first_then_others():
        return (
            yield from build(
                scans,
                settings,
                classes=classes,
                storage="disk" if on_disk else "auto",
                cache=cache,
                modality=modality,
                stop=stop,
                reader=reader,
            )
        )


def sample_size(
    scans: str | Path | Iterable[Scan | Geometry | str], settings: AnyPreprocessing
) -> tuple[int, ...]:
    """Size of the slices or crops that the network sees, without reading any values.

    Parameters
    ----------
    scans : path-like or several of path-like, Volume, Series, LabelledScan, Geometry
        Scans, whose headers are read, or geometries of scans.
    settings : Preprocessing or VolumePreprocessing
        Spacing, plane and size.

    Returns
    -------
    tuple of int
        Height and width of slices, or depth, height and width of crops.

    Raises
    ------
    DataError
        If there is no scan.
    """
    items = [scans] if isinstance(scans, str | Path) else list(scans)
    geometries = [item for item in items if isinstance(item, Geometry)]
    files = [item for item in items if not isinstance(item, Geometry)]
    if files or not geometries:
        geometries += [scan_geometry(without_labels(scan)) for scan in collect_scans(files)]
    if isinstance(settings, VolumePreprocessing):
        return crop_size([resampled_shape(geometry, settings) for geometry in geometries], settings)
    settings, _ = with_planned_spacing(settings, geometries)
    return canvas_size([resampled_shape(geometry, settings) for geometry in geometries], settings)


def describe_store(store: Store) -> Iterator[Message]:
    """Describe a store: number of samples, neighbouring slices, and folder unless in memory."""
    n = len(store)
    what = count_phrase(n, store.noun)
    if store.labelled:
        what = f"{int(store.annotated.sum()):,} annotated of {what}"
    scans, subjects = len(store.scans), len(store.subjects)
    text = f"{what}, {count_phrase(scans, 'scan')}, {count_phrase(subjects, 'subject')}"
    if isinstance(store, SliceStore) and (beside := store.settings.neighbours):
        text += f"; input includes {count_phrase(beside, 'neighbouring slice')} on each side"
    yield Message(f"{text}, stored in {store.folder}." if store.folder else f"{text}.")
    if isinstance(store, SliceStore) and store.plan is not None:
        yield Message(store.plan.describe())
