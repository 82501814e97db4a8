"""Quick strokes without gaps where voxels are long, as in a view along the slices. Needs no Qt."""

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.shown_scan import ShownScan

STEPS = 4
"""Places of the brush for each of its widths, as in napari."""


class DenseStrokes:
    """Paints the labels of the scan densely between two positions of the mouse.

    napari places the brush at distances that fit its width in voxels. The brush is round on the
    screen, so that it spans few of the voxels that are longer than others.
    """

    def __init__(self, scene: "ShownScan") -> None:
        self.scene = scene
        self._dense: WeakSet[Any] = WeakSet()
        scene.changed.connect(self._follow)

    def _follow(self) -> None:
        layer = self.scene.labels
        if layer is not None and layer not in self._dense:
            self._dense.add(layer)
            make_dense(layer)


def make_dense(layer: Any) -> None:
    """Let strokes of the brush and the eraser on a labels layer have no gaps."""
    plain = layer._draw  # napari has no hook for a stroke.

    def draw(value: int, last: Any, now: Any) -> None:
        if last is not None and now is not None and str(layer.mode) in ("paint", "erase"):
            for place in places_between(last, now, layer.scale, layer.brush_size):
                layer.paint(place, value, refresh=False)
        plain(value, last, now)

    layer._draw = draw


def places_between(last: Any, now: Any, scale: Any, brush: float) -> np.ndarray:
    """Positions of the brush between two positions, where napari would leave gaps.

    Parameters
    ----------
    last, now : sequence of float
        Positions in voxels.
    scale : sequence of float
        Size of a voxel along each axis.
    brush : float
        Diameter of the brush, in voxels of the smallest size.

    Returns
    -------
    ndarray, shape (N, axes)
        Without the two positions; empty if no voxel on the way is longer than others.
    """
    start, end = np.asarray(last, float), np.asarray(now, float)
    long = np.abs(np.asarray(scale, float))
    way = np.abs(end - start) * (long / long.min())
    if way.max() <= np.abs(end - start).max():
        return np.empty((0, len(start)))
    count = int(np.ceil(way.max() / brush * STEPS))
    return np.linspace(start, end, count + 1)[1:-1]
