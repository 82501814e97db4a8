"""Layers that stay in the viewer and get the data of another scan. Needs no Qt.

Removing and adding a layer takes napari about half a second, in which nothing moves: it makes all
controls of the layer anew, compiles its shaders, and collects garbage.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Labels


@dataclass(frozen=True, eq=False)
class Strokes:
    """The strokes of a labels layer that can be undone and redone, and the labels they belong to.

    napari has no public access to them. Without it, strokes would be undone in another scan.
    """

    labels: np.ndarray
    undo: "deque[Any]"
    redo: "deque[Any]"

    @classmethod
    def take(cls, layer: "Labels") -> "Strokes | None":
        """Take the strokes of a layer; None if there are none. The layer keeps none."""
        taken = cls(layer.data, layer._undo_history, layer._redo_history)
        layer._reset_history()
        return taken if taken.undo or taken.redo else None

    def give(self, layer: "Labels") -> None:
        """Let a layer with these labels undo these strokes."""
        layer._undo_history, layer._redo_history = self.undo, self.redo


def can_show(layer: Any, data: np.ndarray, viewer: Any) -> bool:
    """Whether a layer of the viewer can get other data.

    Not while the mouse draws on it, since the rest of the stroke would be drawn on the other data;
    and not with another type, for which napari would keep the texture of the old one.
    """
    if layer is None or layer not in viewer.layers or layer.ndim != data.ndim:
        return False
    return layer.data.dtype == data.dtype and not _is_drawn_on(layer)


def _is_drawn_on(layer: Any) -> bool:
    """Whether a stroke or a polygon was begun on a layer and has not ended."""
    overlays = layer._overlays
    polygon, brush = overlays.get("polygon"), overlays.get("brush_stroke")
    begun = bool(polygon is not None and polygon.points)
    return bool(layer._mouse_drag_gen) or begun or bool(brush is not None and brush.active)


def end_stroke(layer: Any) -> None:
    """End a stroke of the brush on a layer as if the mouse button was released.

    What the mouse does until it is released then draws nothing. Without it, the stroke would not
    be among those that can be undone. napari has no public access to it.
    """
    if layer._mouse_drag_gen:
        for drag in layer._mouse_drag_gen.values():
            drag.close()
        layer._mouse_drag_gen.clear()
        layer._persisted_mouse_event.clear()
        layer._commit_staged_history()


def show_data(layer: Any, data: np.ndarray, settings: dict[str, Any]) -> None:
    """Show other data on a layer, at the place and with the name of a new layer.

    Parameters
    ----------
    layer : napari.layers.Image or napari.layers.Labels
        The layer. How it looks stays, such as its opacity, except the contrast limits.
    data : ndarray
        Values with the same number of axes.
    settings : dict
        Settings for a new layer; those that belong to the data are used.
    """
    straight = {"rotate": np.eye(data.ndim), "shear": np.zeros(3), "affine": np.eye(data.ndim + 1)}
    for name, value in straight.items():  # The user may have turned the layer.
        if not np.allclose(np.asarray(getattr(layer, name)), value):
            setattr(layer, name, value)
    layer.data = data
    for name in ("scale", "translate"):
        if not np.array_equal(getattr(layer, name), settings[name]):
            setattr(layer, name, settings[name])
    layer.name, layer.metadata = settings["name"], settings["metadata"]
    if "contrast_limits" in settings:
        layer.contrast_limits_range = settings["contrast_limits"]
        layer.contrast_limits = settings["contrast_limits"]
    if not layer.visible:  # Else napari would draw the layer again.
        layer.visible = True
