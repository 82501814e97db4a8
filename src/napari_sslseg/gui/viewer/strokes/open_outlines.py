"""Outlines that the user has begun and not closed, of the polygon or the brush. Needs no Qt.

Such an outline looks like labels on the screen, but is in no labels. napari keeps it when another
slice is shown, and then fills it on the slice of its first corner, which nobody sees.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.shown_scan import ShownScan

DROPPED = (
    "The open outline on slice {index} was dropped, because you left the slice. Close an outline "
    "before you leave its slice: double-click with the polygon, or go back to the start with the "
    "brush."
)
CLOSED = "The open outline on slice {index} was closed and filled; Ctrl+Z undoes it."
TOO_FEW = (
    "The outline on this slice has fewer than three corners. Add corners, or press Escape to "
    "remove it; then mark the slice."
)
BRUSH = (
    "The outline of the brush on this slice is not closed. Go back to its start to fill it, or "
    "press Escape to remove it; then mark the slice."
)


class OpenOutlines:
    """Drops an open outline when its slice is left, with a note, and closes it on request."""

    def __init__(self, scene: "ShownScan") -> None:
        self.scene = scene
        scene.changing.connect(self.drop)
        # Before the labels are saved for the last time, which this may change.
        scene.session.before_closing(self._drop_at_closing)
        events = scene.viewer.dims.events
        events.current_step.connect(self._check)
        events.order.connect(self.drop)
        events.ndisplay.connect(self.drop)

    @property
    def _polygon(self) -> Any:
        """The polygon that is open, if any."""
        layer = self.scene.labels
        polygon = None if layer is None else layer._overlays.get("polygon")
        return polygon if polygon is not None and polygon.points else None

    @property
    def _brush(self) -> Any:
        """The outline of the brush that is open, if any."""
        layer = self.scene.labels
        brush = None if layer is None else layer._overlays.get("brush_stroke")
        return brush if brush is not None and brush.active else None

    def _place(self) -> np.ndarray | None:
        """Voxel where the outline that is open begins."""
        if self._polygon is not None:
            return np.asarray(self._polygon.points[0], float)
        return None if self._brush is None else np.asarray(self._brush.center, float)

    def _check(self, event: Any = None) -> None:
        place = self._place()
        if place is None:
            return
        dims = self.scene.viewer.dims
        hidden = [axis - dims.ndim + 3 for axis in dims.not_displayed]
        hidden = [axis for axis in hidden if axis >= 0]
        now = np.asarray(self.scene.labels.world_to_data(np.asarray(dims.point)[-3:]))
        if (np.abs(now - place)[hidden] > 0.75).any():
            self.drop()

    def _drop_at_closing(self) -> None:
        if self.scene.session.leaving:
            self.drop()

    def drop(self, event: Any = None) -> None:
        """Remove the outline that is open, if any, and say so."""
        layer, place, polygon, brush = self.scene.labels, self._place(), self._polygon, self._brush
        if place is None:
            return
        index = round(float(place[PLANE_AXIS[self.scene.plane]]))
        if brush is not None:
            brush.abort(layer)
        if polygon is not None:
            polygon.points = []
        self.scene.session.note.emit(DROPPED.format(index=index))

    def close(self) -> bool | None:
        """Close the outline that is open and fill it, before its slice is marked.

        Returns
        -------
        bool or None
            None without an open outline; False if it cannot be closed, which the user is told.
        """
        place, polygon = self._place(), self._polygon
        if place is None:
            return None
        if self._brush is not None:
            self.scene.session.note.emit(BRUSH)
            return False
        # The last point is the position of the mouse.
        if len(polygon.points) < 4:
            self.scene.session.note.emit(TOO_FEW)
            return False
        polygon.points = polygon.points[:-1]
        polygon.add_polygon_to_labels(self.scene.labels)
        index = round(float(place[PLANE_AXIS[self.scene.plane]]))
        self.scene.session.note.emit(CLOSED.format(index=index))
        return True
