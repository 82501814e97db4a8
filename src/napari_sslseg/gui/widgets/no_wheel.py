"""Input boxes for panels that scroll: the mouse wheel scrolls the panel and changes no value."""

from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QSpinBox

POPUP_MARGIN = 24


class NoWheelSpinBox(QSpinBox):
    """A spin box that ignores the mouse wheel."""

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        event.ignore()


class NoWheelDoubleSpinBox(QDoubleSpinBox):
    """A spin box for floating-point numbers that ignores the mouse wheel."""

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        event.ignore()


class NoWheelComboBox(QComboBox):
    """A combo box that ignores the mouse wheel and whose width does not follow long entries."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        event.ignore()

    def showPopup(self) -> None:  # noqa: N802
        # The list may be wider than the box, so that each entry is readable.
        self.view().setMinimumWidth(self.view().sizeHintForColumn(0) + POPUP_MARGIN)
        super().showPopup()
