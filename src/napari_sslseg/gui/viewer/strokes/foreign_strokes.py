"""Strokes on labels layers that do not belong to the project, which are in no file. Needs no Qt.

The button "new labels" of napari, a copy of the labels, or a label map that was dropped on the
window give such a layer. Drawing on it looks like labelling the scan.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.viewer.napari_window import drawing_suspended

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.shown_scan import ShownScan


@dataclass(frozen=True)
class Place:
    """Where strokes belong: a project, by its folder, and a scan in it."""

    folder: Path
    scan: str


class ForeignStrokes:
    """Finds strokes on other labels layers, and copies them into the labels of the scan.

    Strokes belong to the scan on which they were drawn. While another one is shown, their layer is
    not in the viewer: it would lie over that scan, and the slider would reach beyond it.

    Attributes
    ----------
    changed : Signal
        A layer has its first stroke, or is gone or copied, or another scan is shown.
    """

    changed = Signal()

    def __init__(self, scene: "ShownScan") -> None:
        self.scene = scene
        self._place: Place | None = None
        self._painted: WeakSet[Any] = WeakSet()
        self._aside: dict[Place, list[Any]] = {}
        scene.changing.connect(self._set_aside)
        scene.changed.connect(self._bring_back)
        layers = scene.viewer.layers
        layers.events.inserted.connect(self._inserted)
        layers.events.removed.connect(self._forget)
        for layer in layers:
            self._watch(layer)

    def _inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Any) -> None:
        if layer._type_string == "labels":
            layer.events.paint.connect(self._note)
            layer.events.labels_update.connect(self._note)

    def _forget(self, event: Any) -> None:
        if event.value in self._painted:
            self._painted.discard(event.value)
            self.changed.emit()

    def _note(self, event: Any) -> None:
        layer = event.source
        shown = self._place is not None and layer in self.scene.viewer.layers
        if shown and self._is_foreign(layer) and layer not in self._painted:
            self._painted.add(layer)
            self.changed.emit()

    def _coming(self) -> Place | None:
        """Return the scan that is or will be shown, if any."""
        session = self.scene.session
        if session.project is None or not session.current:
            return None
        return Place(session.project.folder, session.current)

    def _set_aside(self) -> None:
        """Take the layers that belong to the scan that is left out of the viewer."""
        place, coming = self._place, self._coming()
        if place is None or place == coming:
            return
        # Where no scan follows, as after its layers were deleted, strokes stay in the picture.
        if coming is None and self.scene.session.project is not None:
            return
        self._place = None
        layers = self.scene.viewer.layers
        belonging = [layer for layer in layers if layer in self._painted]
        if belonging:
            self._aside[place] = belonging
            with drawing_suspended():
                for layer in belonging:
                    layers.remove(layer)

    def _bring_back(self) -> None:
        """Show the layers again that belong to the scan that is shown."""
        coming = self._coming()
        if coming is not None:
            self._place = coming
            back = self._aside.pop(coming, [])
            for layer in back:
                self.scene.viewer.layers.append(layer)
                self._painted.add(layer)
            if back:
                self.scene.take_labels()
        self.changed.emit()

    def _is_foreign(self, layer: Any) -> bool:
        """Whether a layer of the viewer can be drawn on and is not the labels of the scan."""
        return layer._type_string == "labels" and not self.scene.owns(layer)

    @property
    def painted(self) -> list[Any]:
        """Layers with strokes of the user on this scan, from the lowest to the highest."""
        if self.scene.labels is None:
            return []
        return [layer for layer in self.scene.viewer.layers if layer in self._painted]

    @property
    def elsewhere(self) -> list[tuple[Any, Place]]:
        """Layers with strokes of the user on other scans, and these scans."""
        return [(layer, place) for place, layers in self._aside.items() for layer in layers]

    def on_slice(self) -> list[Any]:
        """Layers whose labels on this slice may be meant as labels of the scan.

        These are layers that were drawn on, and the active layer. If the labels of the scan are
        empty on this slice, all visible layers count.
        """
        labels, viewer = self.scene.labels, self.scene.viewer
        if labels is None or self.scene.image is None:
            return []
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        empty = not take_slices(labels.data, index, axis).any()
        active = viewer.layers.selection.active
        found = []
        for layer in viewer.layers:
            if not self._is_foreign(layer) or not layer.visible:
                continue
            if (layer in self._painted or layer is active or empty) and self._here(layer, index):
                found.append(layer)
        return found

    def _here(self, layer: Any, index: int) -> bool:
        places, _ = self._strokes(layer)
        return bool((places[PLANE_AXIS[self.scene.plane]] == index).any())

    def _strokes(self, layer: Any) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Voxels of the scan that a layer labels, and their values; voxels outside are left out."""
        labels = self.scene.labels
        assert labels is not None
        found = np.nonzero(np.asarray(layer.data))
        values = np.asarray(layer.data)[found]
        # A layer with two axes lies on the slice that is shown.
        world = np.tile(np.asarray(self.scene.viewer.dims.point)[-3:], (len(values), 1))
        matrix, offset = _affine(layer)
        places = np.stack(found, axis=1) @ matrix.T + offset
        count = min(layer.ndim, 3)
        world[:, 3 - count :] = places[:, layer.ndim - count :]
        back, start = _affine(labels)
        voxels = np.rint((world - start) @ np.linalg.inv(back).T).astype(np.int64)
        within = ((voxels >= 0) & (voxels < labels.data.shape)).all(axis=1)
        return tuple(voxels[within].T), values[within]

    def take(self, layers: list[Any]) -> dict[int, int]:
        """Move the strokes of layers into the labels of the scan, as one step to undo.

        A layer of one value was drawn with the brush of napari, whose value means nothing: its
        strokes become the chosen structure. Of several values, those that are no structure do. The
        layers are removed, since they would lie over the next scans as well, and the labels of the
        scan become the active layer, with the tool in use.

        Returns
        -------
        dict of int to int
            Number of voxels that became each structure.
        """
        labels, project = self.scene.labels, self.scene.session.project
        counts: dict[int, int] = {}
        if labels is None or project is None:
            return counts
        chosen = int(labels.selected_label)
        if chosen not in self.scene.paintable:
            chosen = self.scene.paintable[0]
        with labels.block_history():
            for layer in layers:
                places, values = self._strokes(layer)
                several = len(np.unique(values)) > 1
                known = several & np.isin(values, self.scene.paintable)
                values = np.where(known, values, chosen)
                if len(values):
                    labels.data_setitem(places, values.astype(labels.data.dtype))
                for value, count in zip(*np.unique(values, return_counts=True), strict=True):
                    counts[int(value)] = counts.get(int(value), 0) + int(count)
        labels.visible = True
        mode = str(layers[-1].mode) if layers else "pan_zoom"
        for layer in layers:
            self._painted.discard(layer)
            self.scene.viewer.layers.remove(layer)
        self.scene.take_labels()
        if mode in ("paint", "erase", "fill", "polygon"):
            labels.mode = mode
        self.changed.emit()
        return counts


def _affine(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset from the voxels of a layer to its world coordinates in mm."""
    zero = np.zeros(layer.ndim)
    offset = np.asarray(layer.data_to_world(zero), float)
    columns = [np.asarray(layer.data_to_world(unit), float) - offset for unit in np.eye(layer.ndim)]
    return np.stack(columns, axis=1), offset
