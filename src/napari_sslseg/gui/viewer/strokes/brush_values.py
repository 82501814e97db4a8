"""Keeps the value of the brush on a structure of the project. Needs no Qt.

The keys M, + and - of napari, and its box "label", choose any number. What is painted with a number
without a structure would become a structure that nobody named.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.shown_scan import ShownScan

NO_STRUCTURE = (
    "{value} is no structure of the project, so the brush stays at {name}. Add a structure in step "
    "3 to paint another one."
)
REMOVED = "The brush paints {name} now."
MEMORY = "structure"


class BrushValues:
    """Sets the brush back to a structure when its value is none; the project remembers it."""

    def __init__(self, scene: "ShownScan") -> None:
        self.scene, self.session = scene, scene.session
        self._layer: Any = None
        self._value = 0
        self._known: set[int] = set()
        scene.changed.connect(self._follow_layer)
        self.session.classes_changed.connect(self._check_classes)
        self.session.project_changed.connect(self._recall)

    def _recall(self) -> None:
        project = self.session.project
        self._known = set(self.scene.paintable)
        found = project.recall(MEMORY, 0) if project is not None else 0
        self._value = found if isinstance(found, int) else 0

    def _remember(self) -> None:
        project, value = self.session.project, self._value
        if project is not None and value != project.recall(MEMORY, 0):
            self.session.remember(MEMORY, value)

    def _follow_layer(self) -> None:
        layer = self.scene.labels
        if layer is self._layer:
            return
        if self._layer is not None:
            self._layer.events.selected_label.disconnect(self._check)
        self._layer = layer
        if layer is not None:
            layer.events.selected_label.connect(self._check)
            if self._value in self.scene.paintable:
                layer.selected_label = self._value
            self._set_back()

    def _set_back(self) -> bool:
        """Choose the last structure, or else the first one, if the value is none."""
        layer, values = self._layer, self.scene.paintable
        first = values[0] if values else 0
        if layer.selected_label in values or layer.selected_label == first:
            self._value = layer.selected_label
            return False
        self._value = self._value if self._value in values else first
        layer.selected_label = self._value
        return True

    def _check(self, event: Any = None) -> None:
        value, before = self._layer.selected_label, self._value
        # If the value is the same, the structures have changed: either that of the brush was
        # removed, or it is the first one.
        if self._set_back() and self._value and (value != before or before in self._known):
            why = REMOVED if value == before else NO_STRUCTURE
            self.session.note.emit(why.format(value=value, name=self._name))
        self._remember()

    def _check_classes(self) -> None:
        before, known = self._value, self._known
        self._known = set(self.scene.paintable)
        if self._layer is not None and self._set_back() and before in known:
            self.session.note.emit(REMOVED.format(name=self._name))

    @property
    def _name(self) -> str:
        return self.scene.class_names.get(self._value, "nothing")
