"""Plane of the project, and intensity window of the current scan."""

import math
from typing import TYPE_CHECKING, get_args

from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.gui.viewer.napari_window import focus_picture
from napari_sslseg.gui.viewer.planes.three_planes import ThreePlanes
from napari_sslseg.gui.viewer.wheel import Wheel
from napari_sslseg.gui.viewer.windowing import CUSTOM, Windowing, presets
from napari_sslseg.gui.widgets.dialogs import ask_choice
from napari_sslseg.gui.widgets.inputs import number_box
from napari_sslseg.gui.widgets.no_wheel import NoWheelComboBox, NoWheelDoubleSpinBox

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.scans.scan_actions import ScanActions

PLANES: tuple[Plane, ...] = get_args(Plane)
PLANE_TIP = (
    "Slices are labelled and marked as done in this plane. To look at another plane without "
    "changing it, use the button of napari below the layers, or press Ctrl+E."
)
WINDOW_TIP = (
    "Brightness and contrast. Drag on the image with the middle or the right mouse button, or hold "
    "Shift and drag: to the right for less contrast (a wider window), down for a darker image (a "
    "higher level). The brush and the polygon use the right button themselves."
)
THREE_TIP = (
    "Shows the other two planes below the picture, with lines through the point that you look at. "
    "A click in any of the pictures moves it, and Shift while the mouse moves over the large one."
)
WIDTH_TIP = "Width of the window: values that far apart are black and white. In HU for CT."
LEVEL_TIP = "Level of the window: the value that is shown as medium grey. In HU for CT."
LARGEST = 1e9
MOST_DECIMALS = 6
WIDEST = "-10000"
"""What a number of the window has room for."""
FEW = 20
"""Windows of a smaller width are shown with decimals."""


class ViewBar(QWidget):
    """Buttons of the planes, presets of the intensity window, and its width and level.

    Parameters
    ----------
    session : Session
        Session whose project has the plane.
    actions : ScanActions
        Changes the plane.
    windowing : Windowing
        Changes the intensity window.
    wheel : Wheel
        Knows what the mouse wheel does.
    """

    def __init__(
        self, session: "Session", actions: "ScanActions", windowing: Windowing, wheel: Wheel
    ) -> None:
        super().__init__()
        self.session, self.scan_actions, self.windowing = session, actions, windowing
        self._wheel = wheel
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setColumnStretch(1, 1)
        layout.addWidget(QLabel("Plane"), 0, 0)
        layout.addLayout(self._make_planes(), 0, 1)
        label = QLabel("&Window")
        self.preset = NoWheelComboBox()
        self.preset.setObjectName("window-preset")
        self.preset.setAccessibleName("Window")
        self.preset.setToolTip(WINDOW_TIP)
        self.preset.textActivated.connect(self.windowing.choose)
        label.setBuddy(self.preset)
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.preset, 1)
        self.width_box = self._add_number(row, "width", "W", WIDTH_TIP)
        self.width_box.setMinimum(0)
        self.level_box = self._add_number(row, "level", "L", LEVEL_TIP)
        layout.addWidget(label, 1, 0)
        layout.addLayout(row, 1, 1)
        self.wheel = QCheckBox("Mouse &wheel zooms")
        self.wheel.setObjectName("wheel-zooms")
        self.wheel.setToolTip(
            "Otherwise the wheel changes the slice, and zooms while Ctrl is held."
        )
        self.wheel.toggled.connect(self._wheel.prefer)
        self.three = QCheckBox("&Three planes")
        self.three.setObjectName("three-planes")
        self.three.setToolTip(THREE_TIP)
        row = QHBoxLayout()
        row.addWidget(self.wheel)
        row.addStretch(1)
        row.addWidget(self.three)
        layout.addLayout(row, 2, 0, 1, 2)
        session.project_changed.connect(self.refresh)
        session.plane_changed.connect(self.refresh)
        windowing.changed.connect(self.show_window)
        self.refresh()
        self.show_window()

    def offer_planes(self, planes: ThreePlanes) -> None:
        """Let the user switch the other two planes on and off."""
        self.three.toggled.connect(planes.show)
        planes.changed.connect(self.three.setChecked, check_nargs=False)

    def _make_planes(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(2)
        self.planes = QButtonGroup(self)
        for number, plane in enumerate(PLANES):
            button = QPushButton(plane.capitalize())
            button.setObjectName(f"plane-{plane}")
            button.setAccessibleName(f"{plane.capitalize()} plane")
            button.setToolTip(PLANE_TIP)
            button.setCheckable(True)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self.planes.addButton(button, number)
            row.addWidget(button, 1)
        self.planes.idClicked.connect(lambda number: self.choose_plane(PLANES[number]))
        return row

    def _add_number(
        self, row: QHBoxLayout, name: str, letter: str, tip: str
    ) -> NoWheelDoubleSpinBox:
        """Add a number of the window, which is applied once it was typed."""
        box = number_box(f"window-{name}", f"Window {name}", WIDEST)
        box.setToolTip(tip)
        box.setRange(-LARGEST, LARGEST)
        box.valueChanged.connect(self._set_window)
        # The keys of the picture, such as Page Down, work at once.
        box.lineEdit().returnPressed.connect(focus_picture)
        label = QLabel(letter)
        label.setToolTip(tip)
        row.addWidget(label)
        row.addWidget(box)
        return box

    def _set_window(self) -> None:
        """Apply the number that was typed; the other one may have more digits than are shown."""
        width, level = self.windowing.window
        if self.sender() is self.width_box:
            width = self.width_box.value()
        else:
            level = self.level_box.value()
        self.windowing.set(width, level)
        self.show_window()

    def choose_plane(self, plane: Plane) -> None:
        """Change the plane of the project; asks first if slices are done."""
        project = self.session.project
        self.session.finish()  # Slices that are done but not saved yet count too.
        total = self.scan_actions.done_total()
        if project is None or project.plane == plane:
            return
        unmark = f"Unmark {total} slice{'' if total == 1 else 's'}"
        if not total or ask_choice(
            self,
            f"{unmark}, and label in the {plane} plane?",
            [unmark],
            more="Slices that are done in one plane say nothing about slices in another plane. "
            "The labels themselves stay.",
            name="ask-plane",
        ):
            self.scan_actions.set_plane(plane, unmark=bool(total))
        self.refresh()

    def refresh(self) -> None:
        """Show the plane of the project."""
        project = self.session.project
        self.wheel.blockSignals(True)
        self.wheel.setChecked(self._wheel.zooms)
        self.wheel.blockSignals(False)
        self.planes.setExclusive(False)  # Otherwise Qt keeps the last button checked.
        for number, plane in enumerate(PLANES):
            button = self.planes.button(number)
            button.setEnabled(project is not None)
            button.setChecked(project is not None and project.plane == plane)
        self.planes.setExclusive(True)

    def show_window(self) -> None:
        """Show the intensity window of the scan."""
        modality = self.windowing.modality
        self.preset.setEnabled(modality is not None)
        names = presets(modality) if modality is not None else []
        shown = self.windowing.preset
        if shown == CUSTOM and modality is not None:
            names = [*names, CUSTOM]
        if names != [self.preset.itemText(i) for i in range(self.preset.count())]:
            self.preset.clear()
            self.preset.addItems(names)
        self.preset.setCurrentText(shown)
        width, level = self.windowing.window
        decimals = 2 - math.floor(math.log10(width)) if 0 < width < FEW else 0
        for box, value in ((self.width_box, width), (self.level_box, level)):
            box.setEnabled(modality is not None)
            box.blockSignals(True)
            box.setDecimals(min(decimals, MOST_DECIMALS))
            box.setSingleStep(width / 20)
            box.setValue(value)
            box.blockSignals(False)
