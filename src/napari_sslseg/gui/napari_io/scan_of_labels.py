"""Which scan a labels layer lies on.

A layer that this plugin opened says so in its metadata. One that was made with napari's own
buttons does not, and is matched to the scans in the window by its place.
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


def scan_of(
    data: np.ndarray,
    settings: Mapping[str, Any],
    layers: Iterable[Any] = (),
    *,
    one_series: bool = False,
) -> Volume:
    """The scan that a labels layer lies on.

    Parameters
    ----------
    data : ndarray
        The labels.
    settings : mapping
        Settings of the labels layer: name, scale, translate, metadata and so on.
    layers : iterable of napari layers
        Layers in the same window.
    one_series : bool
        Whether the very series counts, as for DICOM, and not only the grid that it shares with
        others.

    Raises
    ------
    GeometryError
        If the layer has been moved, lies on no scan, or may lie on several of different grids.
    """
    name = settings.get("name", "The labels")
    own = settings.get("metadata", {})
    geometry = own.get("geometry")
    fitting = [layer for layer in layers if _is_scan(layer) and _lies_on(data, settings, layer)]
    if isinstance(geometry, Geometry):
        if geometry.display_shape != data.shape or not _is_in_place(settings, geometry):
            raise GeometryError(
                f"{name} has been moved, scaled or cropped since it was opened and lies no longer "
                "on its scan; undo that (in the layer's transform controls), then save again."
            )
        fitting = [item for item in fitting if item.metadata["geometry"].matches(geometry)]
        if not one_series or not fitting:
            return volume_of(data, own, name)
    chosen = _by_name(fitting, name)
    if not chosen:
        raise GeometryError(
            f"{name} lies on no scan in this window, so its place in the patient is not known; "
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
    """The volume that a layer was made of, with its metadata."""
    return Volume(
        data=data,
        geometry=metadata["geometry"],
        modality=metadata.get("modality", "MR"),
        subject=metadata.get("subject", "unknown"),
        name=name,
        path=metadata.get("path"),
        header=metadata.get("header"),
        notes=tuple(metadata.get("notes", ())),
    )


def scan_files(layers: Iterable[Any]) -> list[Path]:
    """Files that the scans among layers were read from."""
    return [Path(file) for layer in layers if _is_scan(layer) for file in _files(layer.metadata)]


def _files(metadata: Mapping[str, Any]) -> list[Path]:
    path = metadata.get("path")
    return [*metadata.get("files", ()), *([path] if path else [])]


def _images(metadata: Mapping[str, Any]) -> frozenset[Any]:
    """What a scan was read from: its image planes if it is a DICOM stack, else its files.

    Many series may lie in one folder, and many volumes in the files of one series.
    """
    planes = getattr(metadata.get("header"), "planes", ())
    return frozenset((plane.path, plane.frame, plane.tile) for plane in planes) or frozenset(
        _files(metadata)
    )


def _is_scan(layer: Any) -> bool:
    return layer._type_string == "image" and isinstance(layer.metadata.get("geometry"), Geometry)


def _lies_on(data: np.ndarray, settings: Mapping[str, Any], layer: Any) -> bool:
    """Whether labels fill the grid of a scan as it was opened, wherever it is shown now."""
    geometry = layer.metadata["geometry"]
    return geometry.display_shape == data.shape and _is_in_place(settings, geometry)


def _is_in_place(settings: Mapping[str, Any], geometry: Geometry) -> bool:
    """Whether a layer has the scale and position that this plugin gives to a grid, and no more."""
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
    """Of several, those with the longest name that begins the name of the labels; else all."""
    named = [layer for layer in layers if name.startswith(layer.name)]
    longest = max((len(layer.name) for layer in named), default=0)
    return [layer for layer in named if len(layer.name) == longest] or layers
