"""Panel of step 3: labelling a few slices by hand."""

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sslseg.gui.label.class_list import ClassList
from napari_sslseg.gui.label.done_buttons import LabelSlices
from napari_sslseg.gui.label.keys import (
    DONE,
    NEXT_OPEN,
    NEXT_PAINTED,
    bind_label_keys,
    bind_slice_keys,
    unbind_slice_keys,
)
from napari_sslseg.gui.label.tools import LabelTools

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

SIGNS = {"saved": "✓", "saving": "…", "failed": "⚠", "none": ""}


class LabelPanel(QWidget):
    """Structures, tools, slices, and whether labels are saved."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self.setObjectName("label-panel")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(8)
        self.classes = ClassList(session, scene)
        self.tools = LabelTools(scene)
        self.slices = LabelSlices(session, scene)
        self.saved = QLabel()
        self.saved.setObjectName("labels-saved")
        self.saved.setWordWrap(True)
        self.saved.setTextFormat(Qt.TextFormat.PlainText)
        for part in (self.classes, self.tools, self.slices, self.saved):
            layout.addWidget(part)
        layout.addStretch(1)
        marks = self.slices.marks
        bind_slice_keys(
            scene.viewer,
            {DONE: marks.toggle, NEXT_OPEN: marks.next_open, NEXT_PAINTED: marks.next_painted},
        )
        scene.changed.connect(self._new_layer)
        session.classes_changed.connect(self._enable)
        scene.autosaver.changed.connect(self._show_saved)
        self._new_layer()
        self._show_saved()

    def release(self) -> None:
        """Remove the shortcuts from the viewer."""
        unbind_slice_keys(self.scene.viewer)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Activate the labels layer, so that the shortcuts of the tools work."""
        super().showEvent(event)
        if not event.spontaneous():
            self.scene.take_labels()
            if self.scene.labels is not None:
                self.scene.labels.visible = True  # Painting needs a visible layer.

    def _new_layer(self) -> None:
        layer = self.scene.labels
        if layer is not None:
            bind_label_keys(layer, self.classes.choose_number)
            values = self.classes.values
            if values and layer.selected_label not in values:
                layer.selected_label = values[0]
        self._enable()

    def _enable(self) -> None:
        """Disable painting while there is no structure, or nothing can be saved."""
        project = self.session.project
        ready = (
            self.scene.labels is not None
            and bool(self.classes.values)
            and project is not None
            and not project.read_only
        )
        self.tools.setEnabled(ready)
        if self.scene.labels is not None and not ready:
            self.scene.labels.mode = "pan_zoom"

    def _show_saved(self) -> None:
        keeper = self.scene.autosaver
        # Zero-width spaces let a long path break after each part.
        sentence = keeper.sentence.replace("/", "/\u200b").replace("\\", "\\\u200b")
        self.saved.setText(f"{SIGNS[keeper.status]} {sentence}".strip())
