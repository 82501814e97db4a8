"""A slice of the scan, and of its labels, as pictures, drawn without napari. Needs no Qt.

Further canvases of napari would need a copy of each layer, with all its settings and strokes.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.scans.volume import take_slices

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

DRAWN = ("prediction", "live", "labels")
"""Roles of the labels layers that are drawn, the lowest first."""

MOST_DIRECT = 1000
"""Up to this value, colours are looked up without a search for the values of the slice."""


def scan_picture(scene: "Scene", axis: int, index: int) -> np.ndarray:
    """Draw a slice of the scan as napari does, with its contrast, colours and opacity.

    Parameters
    ----------
    scene : Scene
        Shows a scan.
    axis : int
        Axis of the display grid across the slice.
    index : int
        Number of the slice.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        The other two axes, in their order.
    """
    image = scene.image
    assert image is not None
    values = take_slices(image.data, index, axis)
    if not image.visible:
        return np.zeros((*values.shape, 3), np.uint8)
    steps = np.linspace(0, 1, 256) ** float(image.gamma)
    table = np.asarray(image.colormap.map(steps))[:, :3] * image.opacity
    return _bytes(table)[_grey(values, image.contrast_limits)]


def labels_pictures(scene: "Scene", axis: int, index: int) -> list[np.ndarray]:
    """Draw labels and predictions on a slice, with their colours, opacity and outlines.

    Parameters
    ----------
    scene, axis, index
        As for :func:`scan_picture`.

    Returns
    -------
    list of ndarray of uint8, shape (rows, columns, 4)
        Colours that are multiplied by their opacity, and the opacity; the lowest layer first.
    """
    image = scene.image
    assert image is not None
    layers = [layer for role in DRAWN for layer in scene.of_role(role)]
    return [
        _draw(take_slices(layer.data, index, axis), layer)
        for layer in layers
        if layer.visible and layer.data.shape == image.data.shape
    ]


def _bytes(colours: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.clip(colours * 255 + 0.5, 0, 255), np.uint8)


def _grey(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    grey = (values.astype(np.float32) - low) * np.float32(255 / max(high - low, 1e-30))
    return np.clip(np.nan_to_num(grey), 0, 255).astype(np.uint8)


def _draw(labels: np.ndarray, layer: Any) -> np.ndarray:
    if labels.dtype.kind == "u" and labels.max(initial=0) <= MOST_DIRECT:
        values, places = np.arange(int(labels.max(initial=0)) + 1), labels
    else:
        values, places = np.unique(labels, return_inverse=True)
        places = places.reshape(labels.shape)
    table = np.array(layer.colormap.map(values), np.float32)
    table[:, 3] *= layer.opacity
    table[values == 0, 3] = 0
    table[:, :3] *= table[:, 3:]
    picture = _bytes(table)[places]
    if layer.contour:
        inner = np.zeros(labels.shape, bool)
        inner[1:-1, 1:-1] = True
        for rows, columns in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            inner &= np.roll(labels, (rows, columns), (0, 1)) == labels
        picture[inner] = 0
    return picture
