"""Window width and level of the current scan: presets, numbers, and dragging on the picture."""

import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sslseg.core.scans.volume import Modality, subsample
from napari_sslseg.gui.viewer.layers import contrast_limits

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

# Width and level in HU, as usual in radiology.
CT_PRESETS: dict[str, tuple[float, float]] = {
    "Soft tissue": (400, 40),
    "Liver": (150, 70),
    "Lung": (1500, -600),
    "Bone": (1800, 400),
    "Brain": (80, 40),
}
AUTO = "Auto"
FULL = "Full range"
CUSTOM = "Custom"

LEFT, RIGHT, MIDDLE = 1, 2, 3
"""Numbers of the mouse buttons."""

USE_RIGHT = ("paint", "polygon")
"""Tools of a labels layer that use the right button: to close a stroke, to remove a corner."""

PIXELS = 300
"""Dragging distance that doubles the width, or moves the level by the width."""


def presets(modality: Modality) -> list[str]:
    """Return the names of the presets of a modality; the first is the default."""
    return [*CT_PRESETS, FULL] if modality == "CT" else [AUTO, FULL]


class Windowing:
    """The window (width and level) of the scan in a scene.

    Attributes
    ----------
    changed : Signal
        The window or the scan changed.
    """

    changed = Signal()

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        self._layer: Any = None
        # Windows that are no preset, by scan.
        self._own: dict[str, tuple[float, float]] = {}
        scene.session.project_changed.connect(self._forget)
        scene.changing.connect(self._detach)
        scene.changed.connect(self._attach)
        # A weak reference, so that the viewer does not keep a closed panel alive.
        reference = weakref.ref(self)

        def drag_window(viewer: Any, event: Any) -> Generator[None, None, None]:
            windowing = reference()
            if windowing is not None:
                yield from windowing.drag(viewer, event)

        self._callback = drag_window
        scene.viewer.mouse_drag_callbacks.append(drag_window)
        self._attach()

    def release(self) -> None:
        """Disconnect from the viewer."""
        if self._callback in self.scene.viewer.mouse_drag_callbacks:
            self.scene.viewer.mouse_drag_callbacks.remove(self._callback)

    @property
    def modality(self) -> Modality | None:
        """Modality of the current scan, or None."""
        volume = self.scene.session.volume
        return volume.modality if self.scene.image is not None and volume is not None else None

    @property
    def window(self) -> tuple[float, float]:
        """Width and level of the current scan."""
        if self.scene.image is None:
            return 0.0, 0.0
        low, high = self.scene.image.contrast_limits
        return float(high - low), float(low + high) / 2

    @property
    def preset(self) -> str:
        """Name of the current preset, else ``Custom``."""
        for name in presets(self.modality) if self.modality else []:
            if np.allclose(self._window_of(name), self.window, rtol=1e-4, atol=1e-4):
                return name
        return CUSTOM

    def choose(self, name: str) -> None:
        """Apply a preset to all scans of this modality in the project."""
        if self.modality is None:
            return
        session = self.scene.session
        self._own = {}
        self.set(*self._window_of(name))
        session.remember(f"window {self.modality}", name)

    def set(self, width: float, level: float) -> None:
        """Set width and level."""
        image = self.scene.image
        if image is not None:
            width = max(width, _smallest_width(image.data))
            image.contrast_limits = (level - width / 2, level + width / 2)

    def drag(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        """Handle a drag: right widens the window, down raises its level (darker)."""
        image = self.scene.image
        if image is None or not self._is_drag(event):
            return
        if viewer.dims.ndisplay != 2 or image not in viewer.layers or not image.visible:
            return
        # napari passes the mouse event to the active layer next, which might paint.
        before = set(viewer.layers.selection)
        viewer.layers.selection = {image}
        width, level = self.window
        start = np.array(event.pos[:2], float)
        yield
        while event.type == "mouse_move":
            right, down = (np.array(event.pos[:2], float) - start) / PIXELS
            self.set(width * 2.0**right, level + width * down)
            event.handled = True
            yield
        viewer.layers.selection = {layer for layer in before if layer in viewer.layers}

    def _is_drag(self, event: Any) -> bool:
        """Whether a button changes the window: middle, right, or left with Shift.

        The right button is left to tools that use it, and to layers that are not of the scan.
        """
        layer = self.scene.viewer.layers.selection.active
        if _in_stroke(layer):
            return False
        # The modifiers are vispy keys, which compare equal to their names but are not strings.
        if event.button == LEFT:
            return len(event.modifiers) == 1 and "Shift" in event.modifiers
        if len(event.modifiers) or event.button not in (RIGHT, MIDDLE):
            return False
        if layer is None or event.button == MIDDLE:
            return True
        return self.scene.owns(layer) and str(layer.mode) not in USE_RIGHT

    def _window_of(self, name: str) -> tuple[float, float]:
        if name in CT_PRESETS:
            return CT_PRESETS[name]
        assert self.scene.image is not None
        assert self.modality is not None
        data = self.scene.image.data
        if name == AUTO:
            low, high = contrast_limits(data, "MR")
        else:
            values = subsample(data)
            low, high = float(values.min()), float(values.max())
        return max(high - low, _smallest_width(data)), (low + high) / 2

    def _detach(self) -> None:
        """Stop following the layer, which gets the contrast limits of another scan."""
        if self._layer is not None:
            self._layer.events.contrast_limits.disconnect(self._emit_changed)
            self._layer = None

    def _attach(self) -> None:
        self._detach()
        self._layer = self.scene.image
        modality, project = self.modality, self.scene.session.project
        if self._layer is not None and modality is not None and project is not None:
            self._layer.events.contrast_limits.connect(self._emit_changed)
            name = project.recall(f"window {modality}")
            if self.scene.session.current in self._own:
                self.set(*self._own[self.scene.session.current])
            elif name in presets(modality):
                self.set(*self._window_of(name))
        self.changed.emit()

    def _emit_changed(self) -> None:
        if self.preset == CUSTOM:
            self._own[self.scene.session.current] = self.window
        else:
            self._own.pop(self.scene.session.current, None)
        self.changed.emit()

    def _forget(self) -> None:
        self._own = {}


def _in_stroke(layer: Any) -> bool:
    """Whether an outline is being drawn with the right button, which goes on without a button."""
    stroke = getattr(layer, "_overlays", {}).get("brush_stroke")
    return stroke is not None and bool(stroke.active)


def _smallest_width(data: np.ndarray) -> float:
    """Return the smallest width: 1 for integers, else close to 0."""
    return 1.0 if data.dtype.kind in "iub" else 1e-6
