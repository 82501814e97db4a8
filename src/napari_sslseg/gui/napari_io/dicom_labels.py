"""DICOM segmentations and structure sets as labels layers on their scan."""

from collections.abc import Iterable, Mapping
from typing import Any

from napari_sslseg.core.common.errors import GeometryError
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import load_labels, read_segment_names
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.gui.napari_io.scan_matching import volume_of
from napari_sslseg.gui.viewer.layers import LayerData, labels_layer
from napari_sslseg.gui.viewer.napari_window import collected_scan_warnings, notify


def dicom_labels_layer(series: Series, scans: Iterable[Volume]) -> LayerData:
    """Return the labels layer of a DICOM SEG, or of the contours of a structure set.

    Parameters
    ----------
    series : Series
        The label file.
    scans : iterable of Volume
        Open scans. The labels are placed on the grid of the scan that they fit best.

    Raises
    ------
    GeometryError
        If the scan that contours were drawn on is not open.
    """
    own_grid = series.modality == "SEG"
    matches: list[tuple[Volume, list[str]]] = []
    for like in (*scans, *([None] if own_grid else [])):
        try:
            with collected_scan_warnings() as warned:
                matches.append((load_labels(series.path, like=like), warned))
        except GeometryError:
            if like is None:
                raise
    if not matches:
        raise GeometryError(
            f"The contours in {series.path} lie on no open scan; open the scan that they were "
            "drawn on first, then this file."
        )
    # A reference to another scan is a warning, so the labels belong to the scan with the fewest.
    labels, warned = min(matches, key=lambda found: len(found[1]))
    for sentence in warned:
        notify(sentence, "warning")
    return labels_layer(labels, read_segment_names(series.path), files=series.files)


def dicom_scans(layers: Iterable[tuple[Any, Mapping[str, Any], str]]) -> list[Volume]:
    """Return the DICOM scans among layers."""
    found = []
    for data, settings, kind in layers:
        metadata = settings.get("metadata", {})
        geometry, files = metadata.get("geometry"), metadata.get("files")
        if (
            kind == "image"
            and isinstance(geometry, Geometry)
            and files
            and is_dicom(files[0])
            and data.shape == geometry.display_shape
        ):
            found.append(volume_of(data, metadata, settings["name"]))
    return found
