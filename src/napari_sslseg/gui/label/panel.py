"""Panel of step 3: labelling a few slices by hand."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton, QVBoxLayout, QWidget

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
from napari_sslseg.gui.viewer.strokes.done_check import take_strokes

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

PAINTING = ("paint", "fill", "polygon")
NO_STRUCTURE = "There is no structure to paint yet; press “Add a structure” in step 3."
SIGNS = {"saved": "✓", "saving": "…", "failed": "⚠", "none": ""}


class LabelPanel(QWidget):
    """Structures, tools, slices, and whether labels are saved."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self._layer: Any = None
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
        self.foreign = self._make_foreign()
        self.predictions = self._make_predictions()
        parts = (
            self.classes, self.tools, self.predictions, self.slices, self.foreign, self.saved
        )  # fmt: skip
        for part in parts:
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
        scene.strokes.changed.connect(self._show_saved)
        scene.front_changed.connect(self._offer_predictions)
        scene.changed.connect(self._offer_predictions)
        scene.changed.connect(self._show_saved)
        self._new_layer()
        self._show_saved()
        self._offer_predictions()

    def _make_predictions(self) -> QCheckBox:
        """A switch for predictions over the scan, which is there while there are any."""
        box = QCheckBox("Show the &prediction, as outlines")
        box.setObjectName("label-predictions")
        box.setToolTip("Predictions are never saved as labels. Step 5 has the same switch.")
        box.toggled.connect(self.scene.show_predictions)
        return box

    def _offer_predictions(self) -> None:
        there = self.scene.of_role("live") or self.scene.of_role("prediction")
        self.predictions.setVisible(bool(there))
        self.predictions.setChecked(self.scene.predictions_shown)

    def _make_foreign(self) -> QWidget:
        """What to do with strokes on a layer that is not the labels of the scan."""
        box = QWidget()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.foreign_text = QLabel()
        self.foreign_text.setObjectName("foreign-strokes")
        self.foreign_text.setWordWrap(True)
        self.foreign_text.setTextFormat(Qt.TextFormat.PlainText)
        self.take = QPushButton("&Take these strokes over")
        self.take.setObjectName("take-strokes")
        self.take.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.take.setToolTip("Copy them into the labels of the scan; Ctrl+Z undoes it.")
        self.take.clicked.connect(lambda: take_strokes(self.scene))
        layout.addWidget(self.foreign_text)
        layout.addWidget(self.take)
        return box

    def release(self) -> None:
        """Remove the shortcuts from the viewer, and disconnect from it."""
        self.tools.release()
        unbind_slice_keys(self.scene.viewer)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Activate the labels layer, so that the shortcuts of the tools work."""
        super().showEvent(event)
        if not event.spontaneous():
            self.scene.take_labels()
            labels = self.scene.labels
            if labels is not None and not labels.visible:
                labels.visible = True  # Painting needs a visible layer.

    def _new_layer(self) -> None:
        layer = self.scene.labels
        if layer is not self._layer:
            if self._layer is not None:
                self._layer.events.mode.disconnect(self._tool_chosen)
            if layer is not None:
                layer.events.mode.connect(self._tool_chosen)
            self._layer = layer
        if layer is not None:
            bind_label_keys(layer, self.classes.choose_number)
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

    def _tool_chosen(self, event: Any = None) -> None:
        """Say why a tool that paints does nothing yet, and go back to moving the image."""
        layer, project = self.scene.labels, self.session.project
        if layer is None or project is None or self.classes.values:
            return
        if str(layer.mode) in PAINTING:
            self.session.note.emit(NO_STRUCTURE)
            # Afterwards, since napari is still showing the tool that was chosen.
            QTimer.singleShot(0, self._enable)

    def _foreign_warning(self) -> str:
        """What to do with strokes that are in no file; empty if there are none."""
        strokes = self.scene.strokes
        if strokes.painted:
            names = ", ".join(f"“{layer.name}”" for layer in strokes.painted)
            return (
                f"⚠ Your strokes on {names} are saved nowhere: that is not the layer with the "
                f"labels of {self.session.current}."
            )
        if not strokes.elsewhere:
            return ""
        layer, place = strokes.elsewhere[0]
        project = self.session.project
        where = place.scan
        if project is None or place.folder != project.folder:
            where = f"{place.scan} of the project {place.folder}"
        return (
            f"⚠ Your strokes on “{layer.name}” are saved nowhere. They were drawn on {where}; show "
            "it to take them over."
        )

    def _show_saved(self) -> None:
        painted = self.scene.strokes.painted
        warning = self._foreign_warning()
        self.foreign_text.setText(warning)
        self.take.setVisible(bool(painted))
        self.foreign.setVisible(bool(warning))
        keeper = self.scene.autosaver
        # Zero-width spaces let a long path break after each part.
        sentence = keeper.sentence.replace("/", "/\u200b").replace("\\", "\\\u200b")
        self.saved.setText(f"{SIGNS[keeper.status]} {sentence}".strip())
        # Beside strokes that are in no file, "all are saved" would be wrong.
        self.saved.setVisible(not painted or keeper.status != "saved")
