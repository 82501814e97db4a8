"""Tools of napari's labels layer with their shortcuts, brush size and display."""

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.gui.label.keys import TOOLS
from napari_sslseg.gui.viewer.napari_window import focus_picture
from napari_sslseg.gui.viewer.pointer.brush_width import BrushWidth
from napari_sslseg.gui.widgets.inputs import number_box

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

WIDEST = "000.0 mm"
"""What the size of the brush has room for."""

FINE = 0.1
"""Pixels below this size in mm need more decimals."""

BRUSH_TIP = (
    "Width of the brush and the eraser in mm, in the plane that is shown: {pixels} px of this "
    "scan. It stays the same for scans of other pixels.\nKeys: [ ]"
)
OUTLINE_WIDTH = 2
KEPT = ("opacity", "contour", "mode", "selected_label", "preserve_labels")
"""Settings of the labels layer that the next scan keeps."""


class LabelTools(QWidget):
    """Tools, brush size and display of labels; all are settings of the labels layer."""

    def __init__(self, scene: "Scene") -> None:
        super().__init__()
        self.scene = scene
        self._layer: Any = None
        self.width_of_brush = BrushWidth(scene)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._make_tools())
        layout.addLayout(self._make_sliders())
        layout.addWidget(self._make_advanced())
        scene.changed.connect(self._follow_layer)
        scene.viewer.layers.selection.events.active.connect(self._show)
        self._follow_layer()

    def release(self) -> None:
        """Disconnect from the viewer."""
        self.scene.viewer.layers.selection.events.active.disconnect(self._show)

    def _make_tools(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(3)
        self.tools = QButtonGroup(self)
        for number, (mode, name, key, tip) in enumerate(TOOLS):
            button = QPushButton()
            button.setText(f"{name} ({key})")
            button.setObjectName(f"tool-{mode}")
            button.setAccessibleName(name)
            button.setToolTip(f"{tip}\nKey: {key}")
            button.setCheckable(True)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self.tools.addButton(button, number)
            grid.addWidget(button, number // 3, number % 3)
        self.tools.idClicked.connect(self._clicked)
        return grid

    def _make_sliders(self) -> QGridLayout:
        grid = QGridLayout()
        self.brush = _slider("brush-size", "Brush size", 0, 1)
        self.brush.valueChanged.connect(self._set_brush)
        self.brush_mm = number_box("brush-mm", "Brush size in mm", WIDEST)
        self.brush_mm.setSuffix(" mm")
        self.brush_mm.valueChanged.connect(self.width_of_brush.set)
        # The keys of the picture work at once.
        self.brush_mm.lineEdit().returnPressed.connect(focus_picture)
        self.width_of_brush.changed.connect(self._show_brush)
        label = QLabel("Brush &size")
        label.setBuddy(self.brush)
        grid.addWidget(label, 0, 0)
        grid.addWidget(self.brush, 0, 1)
        grid.addWidget(self.brush_mm, 0, 2)
        return grid

    def _make_advanced(self) -> QWidget:
        box = QWidget()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.more = QToolButton()
        self.more.setObjectName("label-advanced")
        self.more.setText("Advanced")
        self.more.setCheckable(True)
        self.more.setAutoRaise(True)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more.setArrowType(Qt.ArrowType.RightArrow)
        self.more.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.details = QWidget()
        grid = QGridLayout(self.details)
        grid.setContentsMargins(12, 0, 0, 0)
        self.opacity = _slider("label-opacity", "Opacity of the labels", 5, 100)
        self.opacity.valueChanged.connect(self._set_opacity)
        label = QLabel("&Opacity")
        label.setBuddy(self.opacity)
        self.outlines = QCheckBox("Out&lines only")
        self.outlines.setObjectName("label-outlines")
        self.outlines.setToolTip("Show only the borders of the labels, to see the image below.")
        self.outlines.toggled.connect(self._set_outlines)
        grid.addWidget(label, 0, 0)
        grid.addWidget(self.opacity, 0, 1)
        self.keep = QCheckBox("&Keep other structures")
        self.keep.setObjectName("label-keep")
        self.keep.setToolTip(
            "The brush paints only where nothing is labelled, and the eraser removes only the "
            "selected structure."
        )
        self.keep.toggled.connect(self._set_keep)
        grid.addWidget(self.outlines, 1, 0, 1, 2)
        grid.addWidget(self.keep, 2, 0, 1, 2)
        self.details.hide()
        self.more.toggled.connect(self._unfold)
        layout.addWidget(self.more)
        layout.addWidget(self.details)
        return box

    def _unfold(self, shown: bool) -> None:
        self.details.setVisible(shown)
        self.more.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)

    def _clicked(self, number: int) -> None:
        self.use(TOOLS[number][0])
        focus_picture()

    def use(self, mode: str) -> None:
        """Activate a tool, and make the labels layer the active layer."""
        if self._layer is not None:
            self.scene.take_labels()
            self._layer.mode = mode
        self._show()

    def _follow_layer(self) -> None:
        old, self._layer = self._layer, self.scene.labels
        if old is not None and old is not self._layer:
            for emitter in self._emitters(old):
                emitter.disconnect(self._show)
        if self._layer is not None and old is not self._layer:
            if old is not None:  # The next scan keeps the tool settings.
                for name in KEPT:
                    setattr(self._layer, name, getattr(old, name))
            self._layer.n_edit_dimensions = 2
            for emitter in self._emitters(self._layer):
                emitter.connect(self._show)
        self._show()

    def _emitters(self, layer: Any) -> list[Any]:
        events = layer.events
        return [events.mode, events.opacity, events.contour, events.preserve_labels]

    def _show(self, event: Any = None) -> None:
        """Show the settings of the layer."""
        layer = self._layer
        self.setEnabled(layer is not None)
        if layer is None:
            return
        modes = [tool[0] for tool in TOOLS]
        # The mouse does nothing to the labels while another layer is active.
        active = self.scene.viewer.layers.selection.active is layer
        mode = str(layer.mode) if active else ""
        self.tools.setExclusive(False)
        for number, name in enumerate(modes):
            self.tools.button(number).setChecked(name == mode)
        self.tools.setExclusive(mode in modes)
        self.opacity.blockSignals(True)
        self.opacity.setValue(round(100 * layer.opacity))
        self.opacity.blockSignals(False)
        self._show_brush()
        self.outlines.blockSignals(True)
        self.outlines.setChecked(layer.contour > 0)
        self.outlines.blockSignals(False)
        self.keep.blockSignals(True)
        self.keep.setChecked(layer.preserve_labels)
        self.keep.blockSignals(False)

    def _show_brush(self) -> None:
        """Show the width of the brush on this scan."""
        width = self.width_of_brush
        sizes, pixel = width.sizes, width.pixel
        tip = BRUSH_TIP.format(pixels=width.pixels)
        for widget in (self.brush, self.brush_mm):
            widget.blockSignals(True)
            widget.setToolTip(tip)
        self.brush.setRange(0, len(sizes) - 1)
        self.brush.setValue(bisect_left(sizes, width.pixels))
        self.brush_mm.setDecimals(1 if pixel >= FINE else 3)
        least = 10.0 ** -self.brush_mm.decimals()  # A smaller width than a pixel is one pixel.
        self.brush_mm.setRange(least, max(sizes[-1] * pixel, width.mm))
        self.brush_mm.setSingleStep(pixel)
        self.brush_mm.setValue(width.mm)
        for widget in (self.brush, self.brush_mm):
            widget.blockSignals(False)

    def _set_brush(self, number: int) -> None:
        self.width_of_brush.set_pixels(self.width_of_brush.sizes[number])

    def _set_opacity(self, value: int) -> None:
        if self._layer is not None:
            self._layer.opacity = value / 100

    def _set_keep(self, keep: bool) -> None:
        if self._layer is not None:
            self._layer.preserve_labels = keep

    def _set_outlines(self, shown: bool) -> None:
        if self._layer is not None:
            self._layer.contour = OUTLINE_WIDTH if shown else 0


def _slider(name: str, words: str, low: int, high: int) -> QSlider:
    made = QSlider(Qt.Orientation.Horizontal)
    made.setObjectName(name)
    made.setAccessibleName(words)
    made.setRange(low, high)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return made
