"""Rows of the list of structures: their columns, keys and icons."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QMouseEvent, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QTreeWidget, QTreeWidgetItem

from napari_sslseg.core.project.record import UNKNOWN_COLOUR, UNKNOWN_NAME, UNKNOWN_VALUE

VALUE = Qt.ItemDataRole.UserRole
NAME, KEY, EYE = range(3)
GREY = "#808080"
"""Seen on the backgrounds of both themes, which the palette of Qt does not know."""


class ClassRows(QTreeWidget):
    """A list in which letters are shortcuts of tools, not a search."""

    edit_wanted = Signal()
    remove_wanted = Signal()
    eye_clicked = Signal(object)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """A click on an eye does not select the row, which is the structure of the brush."""
        place = event.position().toPoint()
        item = self.itemAt(place)
        if item is not None and self.columnAt(place.x()) == EYE:
            self.eye_clicked.emit(item)
        else:
            super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Two quick clicks on an eye are two clicks."""
        if self.columnAt(event.position().toPoint().x()) == EYE:
            self.mousePressEvent(event)
        else:
            super().mouseDoubleClickEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """F2 renames, Delete removes, H hides or shows."""
        if event.key() == Qt.Key.Key_F2:
            self.edit_wanted.emit()
        elif event.key() == Qt.Key.Key_Delete:
            self.remove_wanted.emit()
        elif event.key() == Qt.Key.Key_H and self.currentItem() is not None:
            self.eye_clicked.emit(self.currentItem())
        elif event.text().isalnum():
            event.ignore()
        else:
            super().keyPressEvent(event)


def unknown_row() -> QTreeWidgetItem:
    """Row of voxels whose class is unknown, which cannot be edited."""
    row = QTreeWidgetItem([UNKNOWN_NAME, "", ""])
    row.setData(0, VALUE, UNKNOWN_VALUE)
    row.setIcon(0, swatch(UNKNOWN_COLOUR))
    row.setFlags(row.flags() & ~Qt.ItemFlag.ItemIsEditable)
    row.setToolTip(
        0,
        "Paint what you cannot name. It is left out of training and scores: neither a structure "
        f"nor background. Value {UNKNOWN_VALUE} in label files.",
    )
    return row


def swatch(colour: str) -> QIcon:
    """Make an icon of one colour."""
    pixmap = QPixmap(14, 14)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor(colour))
    painter.setPen(QColor(GREY))
    painter.drawRoundedRect(1, 1, 12, 12, 3, 3)
    painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # Otherwise Qt tints it in a selected row.
    return icon


def eye(shut: bool) -> QIcon:
    """Make an icon of an open or a shut eye."""
    icon = QIcon(_draw_eye(shut, [(QColor(GREY), 1.4)]))
    # On a selected row, which is light or dark.
    selected = _draw_eye(shut, [(QColor(255, 255, 255, 160), 3.4), (QColor("black"), 1.2)])
    icon.addPixmap(selected, QIcon.Mode.Selected)
    return icon


def _draw_eye(shut: bool, pens: list[tuple[QColor, float]]) -> QPixmap:
    pixmap = QPixmap(18, 14)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for colour, width in pens:
        painter.setPen(QPen(colour, width))
        _draw_lines(painter, shut, colour)
    painter.end()
    return pixmap


def _draw_lines(painter: QPainter, shut: bool, colour: QColor) -> None:
    if shut:
        painter.drawArc(2, -2, 14, 12, 200 * 16, 140 * 16)
        for left, right in ((5, 3), (9, 9), (13, 15)):
            painter.drawLine(left, 10, right, 13)
    else:
        painter.drawChord(2, 3, 14, 8, 0, 360 * 16)
        painter.setBrush(colour)
        painter.drawEllipse(7, 5, 4, 4)
        painter.setBrush(Qt.BrushStyle.NoBrush)
