"""The value of the scan below the mouse, and the structure there. Needs no Qt."""

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

NOT_HU = "may not be HU"
"""Words of the note of a CT whose header does not give the rescaling."""


class VoxelReadout:
    """Says what is below the mouse, such as "−42 HU · liver".

    Attributes
    ----------
    changed : Signal of str
        The text; empty where the mouse is not over the scan, and in 3D.
    """

    changed = Signal(str)

    def __init__(self, scene: "Scene") -> None:
        self.scene, self.text = scene, ""
        self._layer: Any = None
        viewer = scene.viewer
        viewer.cursor.events.position.connect(self.show)
        viewer.events.mouse_over_canvas.connect(self.show)
        viewer.dims.events.ndisplay.connect(self.show)
        scene.changed.connect(self._follow_labels)
        scene.front_changed.connect(self.show)
        scene.session.classes_changed.connect(self.show)
        self._follow_labels()

    def _follow_labels(self) -> None:
        """Show what was painted although the mouse did not move."""
        layer = self.scene.labels
        if layer is not self._layer:
            for emitter in _edits(self._layer):
                emitter.disconnect(self.show)
            for emitter in _edits(layer):
                emitter.connect(self.show)
            self._layer = layer
        self.show()

    def show(self, event: Any = None) -> None:
        """Update the text."""
        text = self._describe() if self.scene.viewer.mouse_over_canvas else ""
        if text != self.text:
            self.text = text
            self.changed.emit(text)

    def voxel(self) -> tuple[int, int, int] | None:
        """Return the voxel of the scan below the mouse, or None."""
        image, viewer = self.scene.image, self.scene.viewer
        if image is None or viewer.dims.ndisplay != 2 or len(viewer.cursor.position) < 3:
            return None
        place = image.world_to_data(np.asarray(viewer.cursor.position)[-3:])
        first, second, third = (int(np.floor(value + 0.5)) for value in place)
        voxel = first, second, third
        inside = all(0 <= at < size for at, size in zip(voxel, image.data.shape, strict=True))
        return voxel if inside else None

    def _describe(self) -> str:
        voxel, volume, image = self.voxel(), self.scene.session.volume, self.scene.image
        if voxel is None or volume is None or image is None:
            return ""
        value = format_value(image.data[voxel])
        hounsfield = volume.modality == "CT" and not any(NOT_HU in note for note in volume.notes)
        parts = [f"{value} HU" if hounsfield else f"intensity {value}"]
        named = self.scene.class_names
        label = self._label(self.scene.labels, voxel)
        if label:
            parts.append(named.get(label, str(label)))
        for layer in (*self.scene.of_role("prediction"), *self.scene.of_role("live")):
            label = self._label(layer, voxel)
            if label in named:  # Else it was removed from the project, and is not drawn.
                parts.append(f"predicted: {named[label]}")
        return " · ".join(parts)

    def _label(self, layer: Any, voxel: tuple[int, int, int]) -> int:
        """Return the value of a layer that is visible, else 0."""
        if layer is None or not layer.visible:
            return 0
        inside = all(at < size for at, size in zip(voxel, layer.data.shape, strict=True))
        return int(layer.data[voxel]) if inside else 0


def format_value(value: Any) -> str:
    """Write the value of a voxel, without decimals where it has none."""
    number = float(value)
    if not np.isfinite(number):
        return "not a number"
    whole = number == int(number) or abs(number) >= 1000
    return (f"{number:.0f}" if whole else f"{number:.4g}").replace("-", "\N{MINUS SIGN}")


def _edits(layer: Any) -> list[Any]:
    """Events of a layer whose values or visibility change."""
    events = None if layer is None else layer.events
    return [] if events is None else [events.paint, events.labels_update, events.visible]
