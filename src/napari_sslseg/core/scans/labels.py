"""Load label maps into the display grid; save them back to the source grid."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import numpy as np

from napari_sslseg.core.common.atomic import atomic_path, sync_written, written_file
from napari_sslseg.core.common.errors import (
    PATH,
    ConfigError,
    GeometryError,
    ScanWarning,
    StorageError,
    VolumeError,
    check_type,
)
from napari_sslseg.core.common.safe_files import refuse_existing
from napari_sslseg.core.common.sizes import format_size
from napari_sslseg.core.scans.classes.class_codes import Algorithm, SegmentClass
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.segment import refuse_equal_names
from napari_sslseg.core.scans.classes.structure_files import merge_structures
from napari_sslseg.core.scans.classes.write_class_list import inherited_names, listed_classes
from napari_sslseg.core.scans.formats.dispatch import is_dicom, open_image
from napari_sslseg.core.scans.formats.image_file import ImageFile, check_present
from napari_sslseg.core.scans.formats.labels.checks import (
    are_whole,
    check_label_values,
    place_in_scan,
    read_label_values,
)
from napari_sslseg.core.scans.formats.registry import (
    DICOM,
    NRRD,
    format_of,
    label_format_of,
    label_suffixes,
)
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.matching.other_patient import Relation, relation_of_names
from napari_sslseg.core.scans.matching.subjects import guess_subject
from napari_sslseg.core.scans.names import scan_name
from napari_sslseg.core.scans.replacement import refuse_to_replace_scan
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import HasLabels, Volume

DICOM_SUFFIX = DICOM.written_suffixes[0]
"""Suffix of a DICOM segmentation."""


def load_labels(
    path: str | Path | Sequence[str | Path], *, like: Volume | Series | Geometry | None = None
) -> Volume:
    """Load a label map as integers in the display grid.

    Parameters
    ----------
    path : path-like
        Image file of whole, non-negative numbers, also stored as floats; 0 is background. Or a
        DICOM segmentation, whose segment numbers are the label values (the original label values
        if this package wrote the file), or a DICOM structure set, whose structures get the values
        1, 2, … in the order of their numbers; see :func:`read_segment_names` for their names.
        Several files are one structure each, with the values 1, 2, … in their order, see
        :func:`~napari_sslseg.core.scans.classes.structure_files.merge_structures`.
    like : Volume, Series or Geometry, optional
        The scan of the labels, whose voxels they must have. Labels of a part of the scan, such as
        segmentations that 3D Slicer has cropped, are put in their place. DICOM segmentations are
        placed on the slices of the scan, and contours of a structure set are filled on them; a
        structure set needs it. A geometry alone does not say where the images of an unevenly
        spaced scan are.

    Raises
    ------
    VolumeError
        If the file cannot be read, or its values are not labels.
    GeometryError
        If the voxels of the labels are not voxels of ``like``, or their size, place and name are
        those of labels of another patient.
    """
    check_type(path, (*PATH, Iterable), "path", "a label file, or files of one structure each")
    if not isinstance(path, str | Path):
        return merge_structures(load_labels(file, like=like) for file in path)
    path = Path(path)
    check_present(path, "label file")
    name = scan_name(path)
    if is_dicom(path):
        from napari_sslseg.core.scans.formats.dicom.labels.read import read_label_file

        grid, scan_header = _grid(like)
        data, geometry = read_label_file(path, grid, scan_header)
        return Volume(
            data=geometry.to_display(data),
            geometry=geometry,
            subject=guess_subject(name),
            name=name,
            path=path,
            header=scan_header,
            is_labels=True,
        )
    image = _open_labels(path)
    geometry = image.geometry
    if image.frames > 1:
        raise VolumeError(
            f"{path} holds {image.frames} volumes along its fourth axis, but labels have three "
            "axes; split it."
        )
    data = geometry.to_display(check_label_values(read_label_values(image), path, image.header))
    header: object = image.header
    if like is not None:
        scan_geometry, scan_header = _grid(like)
        assert scan_geometry is not None
        if not geometry.matches(scan_geometry):
            data = place_in_scan(data, path, image, scan_geometry, _relation(path, like))
            geometry, header = scan_geometry, scan_header
    return Volume(
        data=data,
        geometry=geometry,
        subject=guess_subject(name),
        name=name,
        path=path,
        header=header,
        is_labels=True,
    )


def _grid(like: Volume | Series | Geometry | None) -> tuple[Geometry | None, object]:
    """Return the geometry and the header of a scan."""
    if isinstance(like, Volume):
        return like.geometry, like.header
    if isinstance(like, Series):
        image = like.opened()
        return image.geometry, image.header
    return like, None


def _relation(path: Path, like: Volume | Series | Geometry) -> Relation | None:
    """Return what the names of labels and scan say; None if the scan has no name."""
    if isinstance(like, Geometry):
        return None
    return relation_of_names(path, like.name, like.path, like.subject)


def _open_labels(path: Path) -> ImageFile:
    try:
        return open_image(path)
    except VolumeError:
        if format_of(path) is not NRRD:
            raise
        from napari_sslseg.core.scans.formats.slicer_segments import SlicerLayers, has_layers

        if not has_layers(path):
            raise
        return SlicerLayers(path)


def read_segment_names(path: str | Path | Sequence[str | Path]) -> dict[int, str]:
    """Read the names of the label values of a file.

    Parameters
    ----------
    path : path-like
        A label file, see :func:`~napari_sslseg.core.scans.classes.read.read_segments`.

    Returns
    -------
    dict of int to str
        Names by label value as in :func:`load_labels`, without the background; empty if nothing
        names them.
    """
    return {item.value: item.name or f"class {item.value}" for item in read_segments(path)}


def save_labels(
    labels: np.ndarray | HasLabels,
    path: str | Path,
    *,
    like: Volume | None = None,
    classes: Mapping[int, str | SegmentClass] | None = None,
    algorithm: Algorithm | None = None,
    overwrite: bool = False,
) -> Path:
    """Write labels on the source grid of a scan.

    Parameters
    ----------
    labels : ndarray or Prediction
        Whole numbers in the display grid, or an object with ``labels`` and ``volume``.
    path : path-like
        File to write, ending in .nii.gz, .nii, .nrrd, .mha, the suffix of a registered format, or
        .dcm for a DICOM segmentation, which requires labels on a DICOM series.
    like : Volume, optional
        The scan that the labels were drawn on; not needed for a prediction.
    classes : mapping of int to str or SegmentClass, optional
        Names of the label values; those of a prediction by default. A DICOM segmentation and NRRD
        (as a segmentation of 3D Slicer) store them. There every class gets a segment, even if it
        does not occur; a value without a name is called "class N". For other formats they are
        added to ``classes.json`` in the folder, which :func:`read_segment_names` reads. Without
        names a warning says which ones such a file gives them; ``{}`` says that this is meant.
    algorithm : {"MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"}, optional
        How the labels were created, which only a DICOM segmentation stores: by a person, by a
        person with the help of a method, or by a method alone. Default: automatic for a prediction,
        manual for an array, so that no method is named without reason. A class with its own
        ``algorithm`` keeps it.
    overwrite : bool
        Whether a label file at ``path`` is replaced. By default this is an error, since it may
        hold labels that somebody drew.

    Returns
    -------
    Path
        The file, with the shape, affine and frame of the scan's file. It is written completely or
        not at all.

    Raises
    ------
    StorageError
        If the file cannot be written, is the scan itself, a DICOM image or a link to a scan, or
        ``classes.json`` gives other names to the values; or if it exists, unless ``overwrite``.
    ConfigError
        If the name of the file is too long, or two classes have the same name but for case.
    """
    scan = "the scan as core.load_volume(path), or core.predict's result in place of the labels"
    check_type(like, (Volume, NoneType), "like", scan)
    check_type(path, PATH, "path", "the file to write, such as 'labels.nii.gz'")
    if not isinstance(labels, np.ndarray) and not (
        hasattr(labels, "labels") and hasattr(labels, "volume")
    ):
        check_type(labels, (), "labels", "an array, such as volume.data, or a prediction")
    check_type(classes, (Mapping, NoneType), "classes", "names by value, such as {1: 'liver'}")
    for name in (classes or {}).values():
        check_type(name, (str, SegmentClass), "A class", "its name, such as {1: 'liver'}")
    path = Path(path)
    refuse_existing(path, overwrite=True)  # Whether it may be replaced is checked below.
    if path.is_dir():
        raise StorageError(f"{path} is a folder; choose the name of a file.")
    file_format = label_format_of(path)
    if file_format is None:
        raise VolumeError(
            f"Labels cannot be written as {path.name}; use a name ending in one of "
            f"{', '.join(label_suffixes())}."
        )
    if path.name.lower() in label_suffixes():
        raise VolumeError(
            f"{path} is only a suffix and no name; choose a name such as labels{path.name.lower()}."
        )
    if algorithm is not None and algorithm not in get_args(Algorithm):
        raise ConfigError(
            f"There is no algorithm type {algorithm}; choose one of "
            f"{', '.join(get_args(Algorithm))}."
        )
    if not isinstance(labels, np.ndarray):
        like = like or labels.volume
        classes = getattr(labels, "class_names", None) if classes is None else classes
        labels, algorithm = labels.labels, algorithm or "AUTOMATIC"
    if like is None:
        raise GeometryError(f"To write {path}, pass like=, the scan that the labels belong to.")
    scan_path = None if like.is_labels else like.path
    own = scan_path if scan_path is not None and scan_path.exists() and path.exists() else None
    if own is not None and path.samefile(own):
        raise StorageError(
            f"{path} is the scan that the labels belong to and is not replaced; choose another "
            "file."
        )
    # The path of a series is its folder. Other scans are too slow to check, except behind a link.
    if is_dicom(path) or written_file(path) != path:
        refuse_to_replace_scan(path)
    # Last, since a scan is not replaced either if the user says so.
    refuse_existing(path, overwrite=overwrite)
    if labels.ndim == 3 and labels.size == 0:
        raise GeometryError(
            f"The labels for {path} have shape {format_size(labels.shape)}, so no voxel; use "
            "labels on the grid of the scan."
        )
    if labels.ndim != 3:
        raise GeometryError(
            f"The labels for {path} have shape {format_size(labels.shape)}, but a label map has "
            "three axes."
        )
    if not are_whole(labels):
        raise VolumeError(f"The labels for {path} are not whole numbers; use classes, not scores.")
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise VolumeError(
            f"The labels for {path} range from {low:g} to {high:g}; labels are whole numbers from "
            f"0 to {np.iinfo(np.int32).max}."
        )
    # Viewers differ in their support of integer types, so only three common ones are written.
    kind = np.uint8 if high < 2**8 else np.int16 if high < 2**15 else np.int32
    # All formats store the first axis fastest, so this copy is read in memory order.
    source = np.asfortranarray(like.geometry.to_source(labels.astype(kind, copy=False)))
    class_options: dict[str, Any] = {}
    names: dict[int, str] = {}
    if file_format.writes_classes:
        class_options = {"classes": classes, "algorithm": algorithm or "MANUAL"}
    elif classes:
        names = {int(value): _class_name(item) for value, item in classes.items()}
        refuse_equal_names(names)
    elif classes is None:
        # Names that nobody gave, but that readers will find.
        for note in inherited_names(path.parent, np.unique(source).tolist()):
            warnings.warn(f"{path.name}: {note}", ScanWarning, stacklevel=2)
    values = np.unique(source).tolist() if names else ()
    with (
        listed_classes(
            path.parent, names, [path], values=values, overwrite=overwrite
        ) as write_names,
        atomic_path(path, overwrite=overwrite, follow_link=True) as temporary,
    ):
        file_format.write(source, like.geometry, like.header, temporary, **class_options)
        # A full disk is noticed before the names are changed.
        sync_written(temporary, path)
        write_names()
    return path


def _class_name(item: str | SegmentClass) -> str:
    return item if isinstance(item, str) else item.name
