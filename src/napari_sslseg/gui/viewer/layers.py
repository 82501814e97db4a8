"""Conversion of volumes to napari layers.

The metadata of a layer holds the fields of :class:`~napari_sslseg.core.scans.volume.Volume` except
the values, under the same names, and the files that the volume was read from.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Modality, Volume, subsample

LayerData = tuple[np.ndarray, dict[str, Any], Literal["image", "labels"]]
"""The data of a layer for napari: values, settings and type."""

AXIS_LABELS = ("S → I", "A → P", "R → L")
"""What is at the left and at the right end of the sliders: superior to inferior, and so on."""

UNITS = ("mm", "mm", "mm")

# Soft tissue: a window of 400 HU around 40 HU.
CT_LIMITS = (-160.0, 240.0)
MR_PERCENTILES = (1.0, 99.5)

# Fat, and tissue beside a surface coil, can be several times as bright as the organs. Then up to a
# tenth of the body becomes white, so that a quarter of it is not darker than a quarter of the grey
# scale. Voxels darker than a tenth of the range are air.
AIR = 0.1
DARK_QUARTER = 0.25
MOST_WHITE = 90.0

# Colours of Okabe and Ito, which colour-blind people can distinguish.
LABEL_COLORS = ("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#E69F00", "#0072B2")


def volume_layer(volume: Volume, files: Sequence[Path] = ()) -> LayerData:
    """Return the data of an image layer in mm, with contrast limits for the modality.

    Parameters
    ----------
    volume : Volume
        The scan.
    files : sequence of Path
        All files that it was read from, if not only ``volume.path``.
    """
    settings = {
        **_settings(volume, files),
        "colormap": "gray",
        # As other viewers of scans show pixels; labels always have edges.
        "interpolation2d": "linear",
        "contrast_limits": contrast_limits(volume.data, volume.modality),
    }
    return volume.data, settings, "image"


def labels_layer(
    volume: Volume, classes: Mapping[int, str] | None = None, files: Sequence[Path] = ()
) -> LayerData:
    """Return the data of a labels layer in mm.

    Parameters
    ----------
    volume : Volume
        The label map.
    classes : mapping of int to str, optional
        Names of the labels; napari shows the name of the label under the mouse.
    files : sequence of Path
        All files that it was read from, if not only ``volume.path``.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    data = volume.data
    if data.dtype.kind == "f":  # some programs store label maps as floating-point numbers
        data = data.astype(np.min_scalar_type(int(data.max(initial=0))))
    settings = {
        **_settings(volume, files),
        "name": f"{volume.name} labels",
        "opacity": 0.5,
        # The first colour is the background.
        "colormap": CyclicLabelColormap(colors=["transparent", *LABEL_COLORS]),
    }
    settings["metadata"]["is_labels"] = True
    if classes:
        named = {0: "background", **classes}
        settings["features"] = {"index": list(named), "class": list(named.values())}
    return data, settings, "labels"


def contrast_limits(data: np.ndarray, modality: Modality) -> tuple[float, float]:
    """Return contrast limits: the soft-tissue window for CT, percentiles of the tissue for MR.

    The upper limit of MR is lower where little of the body is bright, as in cine MR of the heart.
    """
    if modality == "CT":
        return CT_LIMITS
    sample = subsample(data)
    # Masked or padded voxels are zero, and often most of a scan. With them, the tissue of a small
    # field of view would lie in the top few percent and look washed out.
    tissue = sample[sample != 0]
    tissue = tissue if tissue.size else sample
    low, high = np.percentile(tissue, MR_PERCENTILES)
    body = tissue[tissue > low + AIR * (high - low)]
    if np.any(sample == 0) and low > 0:
        low = 0.0  # keep the background black
    if body.size:
        dark, bright = np.percentile(body, (100 * DARK_QUARTER, MOST_WHITE))
        high = np.clip(low + (dark - low) / DARK_QUARTER, bright, high)
    return float(low), float(max(high, np.nextafter(low, np.inf, dtype=np.float32)))


def position(geometry: Geometry) -> tuple[float, float, float]:
    """Return the position of the first voxel of the display grid, in mm along the display axes.

    With it, T1 and T2 of a patient, or a scan and a cropped label map, overlay correctly, and the
    status bar shows the coordinates of the header as (−S, −A, −R). Without it every scan would
    start at the origin. Scans with distant origins, such as two patients on two scanners, lie
    apart, as in other viewers; the "home" button shows all of them.

    An oblique scan is shown along its own axes, and its position is measured along these. Scans of
    the same obliquity overlay exactly, an oblique and a straight scan only roughly.
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
