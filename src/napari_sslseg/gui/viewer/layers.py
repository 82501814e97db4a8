"""Volumes as napari layers.

A layer keeps what a volume knows besides its values in its metadata, under the names of the fields
of :class:`~napari_sslseg.core.scans.volume.Volume`, and the files that it was read from.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Modality, Volume, subsample

LayerData = tuple[np.ndarray, dict[str, Any], Literal["image", "labels"]]
"""What napari makes a layer of: the values, the settings, the type."""

AXIS_LABELS = ("inferior", "posterior", "left")
UNITS = ("mm", "mm", "mm")

# Soft tissue: a window of 400 HU around 40 HU.
CT_LIMITS = (-160.0, 240.0)
MR_PERCENTILES = (1.0, 99.5)

# Okabe and Ito's colours, which stay apart for colour-blind readers too.
LABEL_COLORS = ("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#E69F00", "#0072B2")


def volume_layer(volume: Volume, files: Sequence[Path] = ()) -> LayerData:
    """Image layer of a scan in mm, with contrast limits that suit its modality.

    Parameters
    ----------
    volume : Volume
        The scan.
    files : sequence of Path
        All files that it was read from, where it is not ``volume.path`` alone.
    """
    settings = {
        **_settings(volume, files),
        "colormap": "gray",
        "contrast_limits": contrast_limits(volume.data, volume.modality),
    }
    return volume.data, settings, "image"


def labels_layer(
    volume: Volume, classes: Mapping[int, str] | None = None, files: Sequence[Path] = ()
) -> LayerData:
    """Labels layer of a label map in mm.

    Parameters
    ----------
    volume : Volume
        The label map.
    classes : mapping of int to str, optional
        Names of the labels; napari shows the one under the mouse.
    files : sequence of Path
        All files that it was read from, where it is not ``volume.path`` alone.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    data = volume.data
    if data.dtype.kind == "f":  # whole numbers, as label maps of some programs are stored
        data = data.astype(np.min_scalar_type(int(data.max(initial=0))))
    settings = {
        **_settings(volume, files),
        "name": f"{volume.name} labels",
        "opacity": 0.5,
        # The first colour is that of the background.
        "colormap": CyclicLabelColormap(colors=["transparent", *LABEL_COLORS]),
    }
    if classes:
        named = {0: "background", **classes}
        settings["features"] = {"index": list(named), "class": list(named.values())}
    return data, settings, "labels"


def contrast_limits(data: np.ndarray, modality: Modality) -> tuple[float, float]:
    """Black and white point: the soft-tissue window for CT, percentiles of the tissue for MR."""
    if modality == "CT":
        return CT_LIMITS
    sample = subsample(data)
    # Zeros fill what was masked or padded; they are often most of a scan, and would leave the
    # tissue of a small field of view in the top few percent, washed out.
    tissue = sample[sample != 0]
    low, high = np.percentile(tissue if tissue.size else sample, MR_PERCENTILES)
    if tissue.size < sample.size and low > 0:
        low = 0.0  # keep the background black
    return float(low), float(max(high, np.nextafter(low, np.inf, dtype=np.float32)))


def position(geometry: Geometry) -> tuple[float, float, float]:
    """Where the first voxel of the display grid lies, in mm along the display axes.

    Without it every scan would start at the origin, and two scans of one patient would overlay
    only if they happened to cover the same box; with it T1 and T2, or a scan and a cropped label
    map, lie on each other, and the status bar shows coordinates that the header knows, as
    (−S, −A, −R). The price is small: scans with far-apart origins, such as two patients on two
    scanners, lie apart in the scene, as they do in other viewers, and "home" fits them all.

    An oblique scan is shown along its own axes, so its position counts along these: scans of the
    same obliquity overlay exactly, an oblique and a straight one only roughly.
    """
    affine = geometry.display_affine
    directions = affine[:3, :3] / np.asarray(geometry.spacing)
    first, second, third = np.linalg.solve(directions, affine[:3, 3])
    return float(first), float(second), float(third)


def _settings(volume: Volume, files: Sequence[Path]) -> dict[str, Any]:
    return {
        "name": volume.name,
        "scale": volume.spacing,
        "translate": position(volume.geometry),
        "units": UNITS,
        "axis_labels": AXIS_LABELS,
        "metadata": {
            "geometry": volume.geometry,
            "modality": volume.modality,
            "subject": volume.subject,
            "path": volume.path,
            "header": volume.header,
            "notes": volume.notes,
            "files": tuple(files) or ((volume.path,) if volume.path else ()),
        },
    }
