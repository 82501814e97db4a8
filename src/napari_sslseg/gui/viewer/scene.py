"""The layers of the current scan in the viewer, the plane, and the current slice.

The labels of the user are one layer. Only actions of the user change it: painting, accepting a
prediction, erasing a structure that is removed. Predictions are separate layers.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.project.record import UNKNOWN_COLOUR, UNKNOWN_NAME, UNKNOWN_VALUE
from napari_sslseg.gui.autosave.autosaver import LabelAutosaver
from napari_sslseg.gui.viewer.edge_letters import EdgeLetters
from napari_sslseg.gui.viewer.layers import labels_layer, volume_layer
from napari_sslseg.gui.viewer.napari_window import drawing_suspended
from napari_sslseg.gui.viewer.planes.look_point import LookPoint
from napari_sslseg.gui.viewer.quick_layers.first_layers import prepare_layers
from napari_sslseg.gui.viewer.quick_layers.standing_layers import (
    Strokes,
    can_show,
    end_stroke,
    show_data,
)
from napari_sslseg.gui.viewer.strokes.brush_values import BrushValues
from napari_sslseg.gui.viewer.strokes.dense_strokes import DenseStrokes
from napari_sslseg.gui.viewer.strokes.foreign_strokes import ForeignStrokes
from napari_sslseg.gui.viewer.strokes.open_outlines import OpenOutlines
from napari_sslseg.gui.viewer.strokes.structure_locks import StructureLocks

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_sslseg.core.scans.volume import Volume
    from napari_sslseg.gui.model.session import Session

ROLE = "sslseg_role"
"""Key in the metadata of a layer: ``scan``, ``labels``, ``prediction``, ``live`` (a prediction in
training), ``uncertainty`` or ``errors``. A copy of a layer made by the user has it as well."""

MOST_KEPT = 3
"""Number of scans whose strokes can still be undone when they are shown again."""


@dataclass(frozen=True, eq=False)
class View:
    """How a scan was shown before: the number of the slice, and the strokes."""

    index: int | None = None
    strokes: Strokes | None = None


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
    changing : Signal
        The layers are going to be removed, or to get the data of another scan.
    changed : Signal
        Another scan is shown, on new layers or on those of the last scan.
    moved : Signal of int
        Another slice or view is shown; the number of the slice along the plane of the project.
    front : {"live", "prediction"}
        Which prediction is visible if there is one of a training and one of a finished run. They
        have the same colours.
    predictions_shown : bool
        Whether predictions are visible.
    front_changed : Signal
        ``front`` or ``predictions_shown`` changed, or a prediction was added or removed.
    autosaver : LabelAutosaver
        Saves the labels automatically.
    look : LookPoint
        The voxel that the user looks at, which stays when another plane is shown.
    strokes : ForeignStrokes
        Finds strokes on labels layers that do not belong to the project.
    outlines : OpenOutlines
        Drops or closes an outline that the user has begun and not closed.
    """

    changing = Signal()
    changed = Signal()
    moved = Signal(int)
    front_changed = Signal()

    def __init__(self, session: "Session", viewer: "napari.Viewer") -> None:
        self.session, self.viewer = session, viewer
        self.image: Image | None = None
        self.labels: Labels | None = None
        self.front: Literal["live", "prediction"] = "live"
        self.predictions_shown = True
        self._name = ""
        self._views: dict[str, View] = {}
        self._index = 0
        self._interpolation = ""
        self._mode = ""
        self._own: WeakSet[Any] = WeakSet()
        self._kept: list[Any] = []
        session.while_loading(prepare_layers)
        session.selected.connect(self._show)
        session.project_changed.connect(self._forget_views)
        session.plane_changed.connect(self._forget_views)
        session.plane_changed.connect(self._turn)
        session.classes_changed.connect(self.colour)
        session.structures.changed.connect(self.colour)
        viewer.dims.events.current_step.connect(self._emit_moved)
        viewer.dims.events.order.connect(self._emit_moved)
        viewer.dims.events.ndisplay.connect(self._emit_moved)
        self.look = LookPoint(self)
        self._letters = EdgeLetters(self)
        self._brush = BrushValues(self)
        self._locks = StructureLocks(self)
        self._dense = DenseStrokes(self)
        self.outlines = OpenOutlines(self)
        self.strokes = ForeignStrokes(self)
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

    @property
    def in_plane(self) -> bool:
        """Whether the picture is a slice along the plane, not rolled to another one or in 3D."""
        dims = self.viewer.dims
        axis = dims.ndim - 3 + PLANE_AXIS[self.plane]
        return dims.ndisplay == 2 and axis not in dims.displayed and self.is_within

    @property
    def is_within(self) -> bool:
        """Whether the slider is within the scan; other layers may reach further."""
        if self.image is None:
            return True
        axis = PLANE_AXIS[self.plane]
        found = self.image.world_to_data(np.asarray(self.viewer.dims.point)[-3:])[axis]
        return bool(-0.5 <= found <= self.image.data.shape[axis] - 0.5)

    @property
    def wrong_view(self) -> str:
        """Why the picture is no slice to label: it is rolled, or the slider is beyond the scan."""
        if not self.is_within:
            return "The slider is beyond the scan; other layers reach further."
        return f"The picture is not of the {self.plane} plane, in which slices are labelled."

    def turn(self) -> None:
        """Show the current slice along the plane again, after another view was shown."""
        self._set_plane()
        self.go_to(self.slice)

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
        """Show a prediction of the current scan as a separate layer below the labels.

        It replaces the prediction of that role that is shown, if any.
        """
        assert self.image is not None
        settings = {
            "name": name,
            "scale": self.image.scale,
            "translate": self.image.translate,
            "units": self.image.units,
            "axis_labels": self.image.axis_labels,
            "colormap": self._colours(drawn=False),
            "metadata": {ROLE: role},
        }
        layer: Labels | None = next(iter(self.of_role(role)), None)
        if layer is not None and can_show(layer, data, self.viewer):
            show_data(layer, data, settings)
        else:
            if layer is not None:
                self.viewer.layers.remove(layer)
            layer = self.own(self.viewer.add_labels(data, **settings))
            layers = self.viewer.layers
            if self.labels in layers:  # The user can delete them there.
                layers.move(layers.index(layer), layers.index(self.labels))
                layers.selection = {self.labels}
        draw_prediction(layer, outlines=True)
        layer.editable = False
        self.front_changed.emit()
        return layer

    def keep(self, layer: Any) -> None:
        """Keep a layer for the next scan, when ``changing`` was emitted; its owner fills it."""
        self._kept.append(layer)

    def own(self, layer: Any) -> Any:
        """Register a layer that is removed with the scan, and return it."""
        self._own.add(layer)
        return layer

    def owns(self, layer: Any) -> bool:
        """Whether a layer was added by the plugin; a copy made by the user was not."""
        return layer in self._own

    @property
    def is_complete(self) -> bool:
        """Whether the viewer has the scan and its labels, which the user can delete there."""
        layers = self.viewer.layers
        return self.image is None or (self.image in layers and self.labels in layers)

    def bring(self, role: Literal["live", "prediction"]) -> None:
        """Show one kind of prediction and hide the other."""
        self.front = role
        self.front_changed.emit()

    def show_predictions(self, shown: bool) -> None:
        """Show or hide all predictions."""
        self.predictions_shown = shown
        self.front_changed.emit()

    def hides(self, role: Literal["live", "prediction"]) -> bool:
        """Whether a kind of prediction is hidden: all are, or the other kind is shown."""
        other: Literal["live", "prediction"] = "prediction" if role == "live" else "live"
        return not self.predictions_shown or (self.front == other and bool(self.of_role(other)))

    def of_role(self, role: str) -> list[Any]:
        """Return the registered layers of a role, without copies that the user made."""
        own = [layer for layer in self.viewer.layers if layer in self._own]
        return [layer for layer in own if layer.metadata.get(ROLE) == role]

    def colour(self) -> None:
        """Apply the colours and names of the classes to labels and predictions."""
        shown = [*self.of_role("labels"), *self.of_role("prediction"), *self.of_role("live")]
        for layer in shown:
            layer.colormap = self._colours(drawn=layer is self.labels)
        if self.labels is not None and self.session.project is not None:
            named = {0: "background", **self.class_names}
            self.labels.features = {"index": list(named), "class": list(named.values())}

    def _colours(self, *, drawn: bool = True) -> Any:
        """Colours of the structures; others are white where they are drawn, else not shown.

        A run may predict a structure that was removed from the project since.
        """
        from napari.utils.colormaps import direct_colormap
        from napari.utils.colormaps.standardize_color import transform_color

        classes = self.session.project.classes if self.session.project is not None else ()
        colours = {item.value: item.colour for item in classes} | {UNKNOWN_VALUE: UNKNOWN_COLOUR}
        other = "white" if drawn else "transparent"
        shown: dict[int | None, Any] = {0: "transparent", None: other}
        for value, colour in colours.items():
            shown[value] = transform_color(colour)[0]
            shown[value][3] = self.session.structures.state(value).alpha
        return direct_colormap(shown)

    @property
    def class_names(self) -> dict[int, str]:
        """Names of all values that can be painted, but the background."""
        project = self.session.project
        return {**(project.class_names if project else {}), UNKNOWN_VALUE: UNKNOWN_NAME}

    @property
    def paintable(self) -> list[int]:
        """Classes, and the unknown value if there is a class; the background is not painted."""
        names = self.class_names
        return list(names) if len(names) > 1 else []

    def _show(self, name: str) -> None:
        self._kept = []
        if self.labels is not None:
            end_stroke(self.labels)  # The key for the next scan works while the mouse draws.
        self.changing.emit()
        with drawing_suspended():
            self._swap(name)
        self._letters.show()
        self.changed.emit()

    def _swap(self, name: str) -> None:
        """Show another scan on the layers of the last one, or on new ones."""
        self._keep_view()
        image, labels = self.image, self.labels
        self.image = self.labels = None  # While they do not fit together.
        session = self.session
        if not name or session.project is None or session.volume is None or session.labels is None:
            self._remove_layers()
            return
        unsaved = self.autosaver.unsaved(name)
        drawn = session.labels if unsaved is None else replace(session.labels, data=unsaved)
        if not (
            can_show(image, session.volume.data, self.viewer)
            and can_show(labels, drawn.data, self.viewer)
        ):
            image, labels = None, None  # So that they lie in their order, the scan lowest.
            self._kept = []
        self._remove_layers(image, labels, *self._kept)
        image = self._show_scan(image, session.volume)
        self.labels = self._show_labels(labels, drawn)
        self.image = image
        view = self._views.pop(name, View())
        if view.strokes is not None and np.array_equal(view.strokes.labels, drawn.data):
            view.strokes.give(self.labels)
        self._name = name
        self._set_plane()
        self.labels.editable = not session.project.read_only
        self.viewer.reset_view()
        count = image.data.shape[PLANE_AXIS[self.plane]]
        self.go_to(count // 2 if view.index is None else view.index)
        self.take_labels()

    def _remove_layers(self, *but: Any) -> None:
        for role in ("errors", "uncertainty", "live", "prediction", "labels", "scan"):
            for layer in self.of_role(role):
                if not any(layer is other for other in but):
                    self.viewer.layers.remove(layer)

    def _show_scan(self, image: "Image | None", volume: "Volume") -> "Image":
        """Show a scan on a layer, or on a new one."""
        data, settings, _ = volume_layer(volume)
        settings["metadata"] = settings["metadata"] | {ROLE: "scan"}
        if image is None:
            settings["interpolation2d"] = self._interpolation or settings["interpolation2d"]
            image = self.own(self.viewer.add_image(data, **settings))
        else:
            show_data(image, data, settings)
        return image

    def _show_labels(self, labels: "Labels | None", drawn: "Volume") -> "Labels":
        """Show labels on a layer, or on a new one."""
        data, settings, _ = labels_layer(drawn, self.class_names)
        settings["metadata"] = settings["metadata"] | {ROLE: "labels"}
        if labels is None:
            settings["colormap"] = self._colours()
            labels = self.own(self.viewer.add_labels(data, **settings))
        else:
            show_data(labels, data, settings)
            labels.n_edit_dimensions = 2
        return labels

    def _keep_view(self) -> None:
        """Keep the slice and the strokes of the scan that is left, for its return."""
        if self.image is None or self.labels is None:
            return
        self._interpolation = str(self.image.interpolation2d)  # The user may have changed it.
        if self.is_complete:
            self._views[self._name] = View(self.slice, Strokes.take(self.labels))
        else:  # Without layers the slider has no slices.
            self._views[self._name] = View(self._index)
        for name in list(self._views)[:-MOST_KEPT]:
            self._views[name] = View(self._views[name].index)

    def _forget_views(self) -> None:
        self._views.clear()

    def _turn(self) -> None:
        """Show the slice along the new plane of the project through the point looked at."""
        self._set_plane()
        if self.image is not None:
            self.viewer.reset_view()
            self.go_to(self.look.voxel[PLANE_AXIS[self.plane]])

    def _set_plane(self) -> None:
        """Let the slider move along the axis of the plane."""
        axis = PLANE_AXIS[self.plane]
        ndim = self.viewer.dims.ndim
        others = [a for a in range(3) if a != axis]
        front = tuple(range(ndim - 3))
        self.viewer.dims.order = front + tuple(ndim - 3 + a for a in (axis, *others))
        self.viewer.dims.ndisplay = 2

    def _emit_moved(self) -> None:
        if self.image is not None:
            self._guard_labels()
            self._index = self.slice if self.is_complete else self._index
            self.moved.emit(self.slice)

    def _guard_labels(self) -> None:
        """Let nobody paint outside of the scan, where napari would paint on other slices."""
        labels, project = self.labels, self.session.project
        if labels is None or project is None or self.is_within == labels.editable:
            return
        if project.read_only:
            return
        if labels.editable:
            # napari may have made them editable again, without their tool.
            self._mode = self._mode or str(labels.mode)
            labels.editable = False
        else:
            labels.editable = True
            labels.mode, self._mode = self._mode or "pan_zoom", ""


def draw_prediction(layer: "Labels", outlines: bool) -> None:
    """Draw a prediction as outlines, below which the image is seen, or as filled areas."""
    contour, opacity = int(outlines), 1.0 if outlines else 0.4
    if (layer.contour, layer.opacity) != (contour, opacity):
        layer.contour, layer.opacity = contour, opacity


def show_layer(layer: Any, visible: bool) -> None:
    """Show or hide a layer; napari would draw a layer that is shown already again."""
    if layer.visible != visible:
        layer.visible = visible
