"""The width of the brush in mm, which stays the same on scans of other voxels. Needs no Qt.

napari counts the brush in the smallest pixels of the view.
"""

from typing import TYPE_CHECKING, Any

from psygnal import Signal

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

LEAST_LARGEST = 60
"""Smallest upper limit of the width, in pixels."""

GROWTH = 1.08
"""Ratio of the large widths that are offered one after the other."""


class BrushWidth:
    """Keeps the width of the brush and the eraser of the labels.

    Attributes
    ----------
    changed : Signal
        The width or the size of a pixel changed.
    """

    changed = Signal()

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        self._layer: Any = None
        self._wanted = 0.0
        self._applying = False
        scene.changed.connect(self._follow_layer)
        scene.viewer.dims.events.order.connect(self._apply)
        self._follow_layer()

    @property
    def pixel(self) -> float:
        """Smallest side of a pixel of the view, in mm."""
        layer, dims = self._layer, self.scene.viewer.dims
        if layer is None:
            return 1.0
        first = dims.ndim - layer.ndim  # Other layers may have more axes.
        shown = [axis - first for axis in dims.displayed if axis >= first]
        return min(abs(float(layer.scale[axis])) for axis in shown)

    @property
    def pixels(self) -> int:
        """Width in pixels of the scan."""
        return int(self._layer.brush_size) if self._layer is not None else 1

    @property
    def mm(self) -> float:
        """Width in mm: a whole number of pixels, which may differ from what was set."""
        return self.pixels * self.pixel

    @property
    def sizes(self) -> list[int]:
        """Widths in pixels to choose from: all small ones, then in steps of a few percent."""
        shape = (0,) if self._layer is None else self._layer.data.shape
        largest = max(LEAST_LARGEST, max(shape) // 2)
        found, size = [1], 1.0
        while found[-1] < largest:
            size = max(size * GROWTH, found[-1] + 1)
            found.append(round(size))
        return found

    def set(self, mm: float) -> None:
        """Set the width in mm. The scan gets the nearest number of pixels, at least one."""
        self._wanted = mm
        self._apply()

    def set_pixels(self, pixels: int) -> None:
        """Set the width in pixels of the scan."""
        self.set(pixels * self.pixel)

    def _follow_layer(self) -> None:
        layer = self.scene.labels
        if layer is not self._layer:
            if self._layer is not None:
                self._layer.events.brush_size.disconnect(self._keep)
                self._layer.events.scale.disconnect(self._apply)
            self._layer = layer
            if layer is not None:
                layer.events.brush_size.connect(self._keep)
                layer.events.scale.connect(self._apply)
        self._apply()

    def _apply(self, event: Any = None) -> None:
        if self._layer is None:
            return
        self._wanted = self._wanted or self.mm
        self._applying = True
        self._layer.brush_size = max(1, round(self._wanted / self.pixel))
        self._applying = False
        self.changed.emit()

    def _keep(self, event: Any = None) -> None:
        """Keep a width that was set by keys or in napari."""
        if not self._applying:
            self._wanted = self.mm
            self.changed.emit()
