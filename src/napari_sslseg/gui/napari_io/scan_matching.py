"""Find the scan that a labels layer lies on.

A layer that this plugin opened has the geometry in its metadata. A layer that was made with the
buttons of napari has not, and is matched to the open scans by its shape and position.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_sslseg.core.common.errors import GeometryError
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.gui.viewer.layers import position

TOLERANCE_MM = 1e-3


def find_scan_of(
    data: np.ndarray,
    settings: Mapping[str, Any],
    layers: Iterable[Any] = (),
    *,
    one_series: bool = False,
) -> Volume:
    """Return the scan that a labels layer lies on.

    Parameters
    ----------
    data : ndarray
        The labels.
    settings : mapping
        Settings of the labels layer: name, scale, translate, metadata and so on.
    layers : iterable of napari layers
        All layers of the window.
    one_series : bool
        Whether the scan must be unambiguous, as for DICOM; otherwise scans with the same grid are
        equivalent.

    Raises
    ------
    GeometryError
        If the layer was moved, lies on no scan, or may lie on several scans.
    """
    name = settings.get("name", "The labels")
    own = settings.get("metadata", {})
    geometry = own.get("geometry")
    matches = [layer for layer in layers if _is_scan(layer) and _lies_on(data, settings, layer)]
    if isinstance(geometry, Geometry):
        if geometry.display_shape != data.shape or not _is_in_place(settings, geometry):
            raise GeometryError(
                f"{name} was moved, scaled or cropped and no longer lies on its scan; undo "
                "that (in the layer's transform controls), then save again."
            )
        matches = [item for item in matches if item.metadata["geometry"].matches(geometry)]
        if not one_series or not matches:
            return volume_of(data, own, name)
    chosen = _by_name(matches, name)
    if not chosen:
        raise GeometryError(
            f"{name} lies on no scan in this window, so its position in the patient is unknown; "
            "open the scan, select it, make the labels with “New labels layer”, and do not move "
            "them."
        )
    first = chosen[0].metadata
    if any(not item.metadata["geometry"].matches(first["geometry"]) for item in chosen[1:]) or (
        one_series and len({_images(item.metadata) for item in chosen}) > 1
    ):
        several = ", ".join(item.name for item in chosen)
        raise GeometryError(
            f"{name} may belong to any of {several}; begin its name with that of its scan, such "
            f"as “{chosen[0].name} - Labels”, then save again."
        )
    return volume_of(chosen[0].data, first, chosen[0].name)


def volume_of(data: np.ndarray, metadata: Mapping[str, Any], name: str) -> Volume:
    """Return the volume of a layer, with its metadata."""
    return Volume(
        data=data,
        geometry=metadata["geometry"],
        modality=metadata.get("modality", "MR"),
        subject=metadata.get("subject", "unknown"),
        name=name,
        path=metadata.get("path"),
        header=metadata.get("header"),
        notes=tuple(metadata.get("notes", ())),
        is_labels=metadata.get("is_labels", False),
    )


def scan_files(layers: Iterable[Any]) -> list[Path]:
    """Return the files that the scans among layers were read from."""
    return [Path(file) for layer in layers if _is_scan(layer) for file in _files(layer.metadata)]


def _files(metadata: Mapping[str, Any]) -> list[Path]:
    path = metadata.get("path")
    return [*metadata.get("files", ()), *([path] if path else [])]


def _images(metadata: Mapping[str, Any]) -> frozenset[Any]:
    """Return the source of a scan: its image planes if it is a DICOM stack, else its files.

    A folder may contain many series, and the files of a series many volumes.
    """
    planes = getattr(metadata.get("header"), "planes", ())
    return frozenset((plane.path, plane.frame, plane.tile) for plane in planes) or frozenset(
        _files(metadata)
    )


def _is_scan(layer: Any) -> bool:
    return layer._type_string == "image" and isinstance(layer.metadata.get("geometry"), Geometry)


def _lies_on(data: np.ndarray, settings: Mapping[str, Any], layer: Any) -> bool:
    """Whether labels have the grid of a scan as it was opened, even if it was moved since."""
    geometry = layer.metadata["geometry"]
    return geometry.display_shape == data.shape and _is_in_place(settings, geometry)


def _is_in_place(settings: Mapping[str, Any], geometry: Geometry) -> bool:
    """Whether a layer has the scale and position of a grid, without another transform."""
    for key, place in (("scale", geometry.spacing), ("translate", position(geometry))):
        given = np.asarray(settings.get(key, ()))
        if given.shape != (3,) or not np.allclose(given, place, rtol=0, atol=TOLERANCE_MM):
            return False
    rotate, shear, affine = (settings.get(key) for key in ("rotate", "shear", "affine"))
    return (
        (rotate is None or np.allclose(rotate, np.eye(3)))
        and (shear is None or np.allclose(shear, 0))
        and (affine is None or np.allclose(affine, np.eye(4)))
    )


def _by_name(layers: list[Any], name: str) -> list[Any]:
    """Return the layers with the longest name that the name of the labels starts with, else all."""
    named = [layer for layer in layers if name.startswith(layer.name)]
    longest = max((len(layer.name) for layer in named), default=0)
    return [layer for layer in named if len(layer.name) == longest] or layers
