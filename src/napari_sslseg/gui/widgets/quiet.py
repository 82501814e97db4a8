"""Boxes for settings in a panel that scrolls: the wheel of the mouse scrolls, and changes none."""

from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QSpinBox

POPUP_MARGIN = 24


class QuietSpinBox(QSpinBox):
    """A spin box that scrolling a panel does not change."""

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        event.ignore()


class QuietDoubleSpinBox(QDoubleSpinBox):
    """The same for numbers with a fraction."""

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        event.ignore()


class QuietComboBox(QComboBox):
    """A combo box that scrolling a panel does not change, and that long entries do not widen."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        event.ignore()

    def showPopup(self) -> None:  # noqa: N802
        # The list may be wider than the box, so that each entry can be read.
        self.view().setMinimumWidth(self.view().sizeHintForColumn(0) + POPUP_MARGIN)
        super().showPopup()
