"""Volumes as napari layers, and the phantom patients as sample data.

A layer keeps what a volume knows besides its values in its metadata, under the names of the fields
of :class:`~napari_sslseg.core.volumes.Volume`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from napari_sslseg.core.volumes import Modality, Volume

LayerData = tuple[np.ndarray, dict[str, Any], Literal["image", "labels"]]
"""What napari makes a layer of: the values, the settings, the type."""

AXIS_LABELS = ("inferior", "posterior", "left")
UNITS = ("mm", "mm", "mm")

# Soft tissue: a window of 400 HU around 40 HU.
CT_LIMITS = (-160.0, 240.0)
MR_PERCENTILES = (1.0, 99.5)

# Okabe and Ito's colours, which stay apart for colour-blind readers too.
LABEL_COLORS = ("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#E69F00", "#0072B2")


def volume_layer(volume: Volume) -> LayerData:
    """Image layer of a scan in mm, with contrast limits that suit its modality."""
    settings = {
        **_settings(volume),
        "colormap": "gray",
        "contrast_limits": contrast_limits(volume.data, volume.modality),
    }
    return volume.data, settings, "image"


def labels_layer(volume: Volume, classes: Mapping[int, str] | None = None) -> LayerData:
    """Labels layer of a label map in mm.

    Parameters
    ----------
    volume : Volume
        The label map.
    classes : mapping of int to str, optional
        Names of the labels; napari shows the one under the mouse.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    settings = {
        **_settings(volume),
        "name": f"{volume.name} labels",
        "opacity": 0.5,
        # The first colour is that of the background.
        "colormap": CyclicLabelColormap(colors=["transparent", *LABEL_COLORS]),
    }
    if classes:
        named = {0: "background", **classes}
        settings["features"] = {"index": list(named), "class": list(named.values())}
    return volume.data, settings, "labels"


def contrast_limits(data: np.ndarray, modality: Modality) -> tuple[float, float]:
    """Black and white point: the soft-tissue window for CT, percentiles of the values for MR."""
    if modality == "CT":
        return CT_LIMITS
    sample = data.reshape(-1)[:: max(1, data.size // 200_000)]
    low, high = np.percentile(sample, MR_PERCENTILES)
    return float(low), float(max(high, np.nextafter(low, np.inf, dtype=np.float32)))


def phantom_mr() -> list[LayerData]:
    """Sample data: an MR scan of a phantom patient and its labels."""
    return _phantom("MR")


def phantom_ct() -> list[LayerData]:
    """Sample data: a CT scan of a phantom patient and its labels."""
    return _phantom("CT")


def _phantom(modality: Modality) -> list[LayerData]:
    # Opening napari loads this module for the menu entries alone.
    from napari_sslseg.core.phantom import PHANTOM_CLASSES, make_patient

    scan, labels = make_patient(0, modality)
    return [volume_layer(scan), labels_layer(labels, PHANTOM_CLASSES)]


def _settings(volume: Volume) -> dict[str, Any]:
    return {
        "name": volume.name,
        "scale": volume.spacing,
        "units": UNITS,
        "axis_labels": AXIS_LABELS,
        "metadata": {
            "geometry": volume.geometry,
            "modality": volume.modality,
            "subject": volume.subject,
            "path": volume.path,
            "header": volume.header,
        },
    }
