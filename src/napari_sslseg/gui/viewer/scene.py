"""The layers of the current scan in the viewer, the plane, and the current slice.

The labels of the user are one layer. Only actions of the user change it: painting, accepting a
prediction, erasing a structure that is removed. Predictions are separate layers.
"""

from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.project.record import UNKNOWN_COLOUR, UNKNOWN_NAME, UNKNOWN_VALUE
from napari_sslseg.gui.autosave.autosaver import LabelAutosaver
from napari_sslseg.gui.viewer.layers import labels_layer, volume_layer
from napari_sslseg.gui.viewer.napari_window import drawing_suspended

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_sslseg.gui.model.session import Session

ROLE = "sslseg_role"
"""Key in the metadata of a layer: ``scan``, ``labels``, ``prediction``, ``live`` (a prediction in
training), ``uncertainty`` or ``errors``. A copy of a layer made by the user has it as well."""

EDGES: dict[Plane, str] = {
    "axial": "left: R   right: L   top: A   bottom: P",
    "coronal": "left: R   right: L   top: S   bottom: I",
    "sagittal": "left: A   right: P   top: S   bottom: I",
}
"""Side of the patient at each edge of the picture; the display grid is in IPL order."""


class Scene:
    """Shows the current scan of a session.

    Parameters
    ----------
    session : Session
        The session whose current scan is shown.
    viewer : napari.Viewer or napari.components.ViewerModel
        The viewer. Layers that do not belong to the scene are left unchanged.

    Attributes
    ----------
    changed : Signal
        Another scan is shown, with new layers.
    moved : Signal of int
        Another slice is shown; its number along the plane of the project.
    front : {"live", "prediction"}
        Which prediction is visible if there is one of a training and one of a finished run. They
        have the same colours.
    front_changed : Signal
        ``front`` changed, or a prediction was added or removed.
    autosaver : LabelAutosaver
        Saves the labels automatically.
    """

    changed = Signal()
    moved = Signal(int)
    front_changed = Signal()

    def __init__(self, session: "Session", viewer: "napari.Viewer") -> None:
        self.session, self.viewer = session, viewer
        self.image: Image | None = None
        self.labels: Labels | None = None
        self.front: Literal["live", "prediction"] = "live"
        self._own: WeakSet[Any] = WeakSet()
        session.selected.connect(self._show)
        session.plane_changed.connect(self._turn)
        session.classes_changed.connect(self.colour)
        viewer.dims.events.current_step.connect(self._emit_moved)
        viewer.dims.events.order.connect(self._emit_moved)
        self.autosaver = LabelAutosaver(session, self)

    @property
    def plane(self) -> Plane:
        """Plane of the project."""
        return self.session.project.plane if self.session.project is not None else "axial"

    @property
    def slice(self) -> int:
        """Number of the current slice along the plane; 0 without a scan."""
        if self.image is None:
            return 0
        axis = PLANE_AXIS[self.plane]
        count = self.image.data.shape[axis]
        # Other layers share the slider, so its step is not the number of our slice.
        world = np.asarray(self.viewer.dims.point)[-3:]
        found = self.image.world_to_data(world)[axis]
        return int(np.clip(round(float(found)), 0, count - 1))

    def go_to(self, index: int) -> None:
        """Show a slice, numbered along the plane."""
        if self.image is None:
            return
        axis = PLANE_AXIS[self.plane]
        place = np.zeros(3)
        place[axis] = index
        self.viewer.dims.set_point(
            self.viewer.dims.ndim - 3 + axis, self.image.data_to_world(place)[axis]
        )

    def take_labels(self) -> None:
        """Make the labels the active layer of napari, on which its keys and its undo work."""
        if self.labels is not None and self.labels in self.viewer.layers:
            self.viewer.layers.selection.active = self.labels

    def add_prediction(self, data: np.ndarray, name: str, role: str = "prediction") -> "Labels":
        """Show a prediction of the current scan as a separate layer below the labels."""
        assert self.image is not None
        for layer in self.of_role(role):
            if layer.name == name:
                # A new layer, because the undo history of the old one would not fit the new data.
                self.viewer.layers.remove(layer)
        settings = {
            "name": name,
            "scale": self.image.scale,
            "translate": self.image.translate,
            "units": self.image.units,
            "axis_labels": self.image.axis_labels,
            "opacity": 0.4,
            "colormap": self._colours(),
            "metadata": {ROLE: role},
        }
        layer = self.own(self.viewer.add_labels(data, **settings))
        layer.editable = False
        if self.labels is not None:
            self.viewer.layers.move(
                self.viewer.layers.index(layer), self.viewer.layers.index(self.labels)
            )
            self.viewer.layers.selection = {self.labels}
        return layer

    def own(self, layer: Any) -> Any:
        """Register a layer that is removed with the scan, and return it."""
        self._own.add(layer)
        return layer

    def bring(self, role: Literal["live", "prediction"]) -> None:
        """Show one kind of prediction and hide the other."""
        self.front = role
        self.front_changed.emit()

    def hides(self, role: Literal["live", "prediction"]) -> bool:
        """Whether a kind of prediction is hidden because the other kind is shown."""
        other: Literal["live", "prediction"] = "prediction" if role == "live" else "live"
        return self.front == other and bool(self.of_role(other))

    def of_role(self, role: str) -> list[Any]:
        """Return the registered layers of a role, without copies that the user made."""
        own = [layer for layer in self.viewer.layers if layer in self._own]
        return [layer for layer in own if layer.metadata.get(ROLE) == role]

    def colour(self) -> None:
        """Apply the colours and names of the classes to labels and predictions."""
        shown = [*self.of_role("labels"), *self.of_role("prediction"), *self.of_role("live")]
        for layer in shown:
            layer.colormap = self._colours()
        if self.labels is not None and self.session.project is not None:
            named = {0: "background", **self._class_names()}
            self.labels.features = {"index": list(named), "class": list(named.values())}

    def _colours(self) -> Any:
        from napari.utils.colormaps import direct_colormap

        classes = self.session.project.classes if self.session.project is not None else ()
        colours: dict[int | None, str] = {0: "transparent", None: "white"}
        colours |= {item.value: item.colour for item in classes}
        return direct_colormap(colours | {UNKNOWN_VALUE: UNKNOWN_COLOUR})

    def _class_names(self) -> dict[int, str]:
        """Names of all values that can be painted."""
        project = self.session.project
        return {**(project.class_names if project else {}), UNKNOWN_VALUE: UNKNOWN_NAME}

    def _show(self, name: str) -> None:
        with drawing_suspended():
            self._swap(name)
        self.changed.emit()

    def _swap(self, name: str) -> None:
        """Replace the layers by those of another scan."""
        for role in ("errors", "uncertainty", "live", "prediction", "labels", "scan"):
            for layer in self.of_role(role):
                self.viewer.layers.remove(layer)
        self.image = self.labels = None
        project, volume = self.session.project, self.session.volume
        drawn = self.session.labels
        if name and project is not None and volume is not None and drawn is not None:
            data, settings, _ = volume_layer(volume)
            settings["metadata"] = settings["metadata"] | {ROLE: "scan"}
            self.image = self.own(self.viewer.add_image(data, **settings))
            data, settings, _ = labels_layer(drawn, self._class_names())
            settings["metadata"] = settings["metadata"] | {ROLE: "labels"}
            unsaved = self.autosaver.unsaved(name)
            data = data if unsaved is None else unsaved
            settings["colormap"] = self._colours()
            self.labels = self.own(self.viewer.add_labels(data, **settings))
            self._set_plane()
            self.labels.editable = not project.read_only
            self.viewer.reset_view()
            self.go_to(data.shape[PLANE_AXIS[self.plane]] // 2)
        else:
            self._label_edges()

    def _turn(self) -> None:
        """Show the middle slice along the new plane of the project."""
        self._set_plane()
        if self.image is not None:
            self.viewer.reset_view()
            self.go_to(self.image.data.shape[PLANE_AXIS[self.plane]] // 2)

    def _label_edges(self) -> None:
        """Show in the picture which side of the patient each edge is."""
        overlay = text_overlay(self.viewer)
        ours = overlay.text in EDGES.values()
        if self.image is not None and (ours or not overlay.text):
            overlay.text = EDGES[self.plane]
            overlay.position = "top_left"
            overlay.visible = True
        elif ours:
            overlay.text, overlay.visible = "", False

    def _set_plane(self) -> None:
        """Let the slider move along the axis of the plane."""
        self._label_edges()
        axis = PLANE_AXIS[self.plane]
        ndim = self.viewer.dims.ndim
        others = [a for a in range(3) if a != axis]
        front = tuple(range(ndim - 3))
        self.viewer.dims.order = front + tuple(ndim - 3 + a for a in (axis, *others))
        self.viewer.dims.ndisplay = 2

    def _emit_moved(self) -> None:
        if self.image is not None:
            self.moved.emit(self.slice)


def text_overlay(viewer: Any) -> Any:
    """Return the text overlay of a viewer, under its name since napari 0.9 or before."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.text_overlay if canvas is None else canvas.overlays.text
