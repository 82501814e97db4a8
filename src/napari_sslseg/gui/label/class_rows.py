"""Rows of the list of structures: their columns, keys and icons."""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QMouseEvent, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QTreeWidget, QTreeWidgetItem

from napari_sslseg.core.project.record import UNKNOWN_COLOUR, UNKNOWN_NAME, UNKNOWN_VALUE

VALUE = Qt.ItemDataRole.UserRole
NAME, KEY, EYE, LOCK = range(4)
GREY = "#808080"
"""Seen on the backgrounds of both themes, which the palette of Qt does not know."""


class ClassRows(QTreeWidget):
    """A list in which letters are shortcuts of tools, not a search."""

    edit_wanted = Signal()
    remove_wanted = Signal()
    eye_clicked = Signal(object)
    lock_clicked = Signal(object)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """A click on an eye or a padlock does not select the row, the structure of the brush."""
        place = event.position().toPoint()
        item = self.itemAt(place)
        clicked = self._switches.get(self.columnAt(place.x()))
        if item is not None and clicked is not None:
            clicked.emit(item)
        else:
            super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Two quick clicks on an eye or a padlock are two clicks."""
        if self.columnAt(event.position().toPoint().x()) in self._switches:
            self.mousePressEvent(event)
        else:
            super().mouseDoubleClickEvent(event)

    @property
    def _switches(self) -> dict[int, Any]:
        """Signals of the columns that are switches."""
        return {EYE: self.eye_clicked, LOCK: self.lock_clicked}

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """F2 renames, Delete removes, H hides or shows, K locks or unlocks."""
        if event.key() == Qt.Key.Key_F2:
            self.edit_wanted.emit()
        elif event.key() == Qt.Key.Key_Delete:
            self.remove_wanted.emit()
        elif event.key() == Qt.Key.Key_H and self.currentItem() is not None:
            self.eye_clicked.emit(self.currentItem())
        elif event.key() == Qt.Key.Key_K and self.currentItem() is not None:
            self.lock_clicked.emit(self.currentItem())
        elif event.text().isalnum():
            event.ignore()
        else:
            super().keyPressEvent(event)


def unknown_row() -> QTreeWidgetItem:
    """Row of voxels whose class is unknown, which cannot be edited."""
    row = QTreeWidgetItem([UNKNOWN_NAME])
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
    return _icon(_draw_eye, shut)


def padlock(shut: bool) -> QIcon:
    """Make an icon of an open or a shut padlock."""
    return _icon(_draw_padlock, shut)


def _icon(draw: Callable[[QPainter, bool, QColor], None], shut: bool) -> QIcon:
    icon = QIcon(_draw(draw, shut, [(QColor(GREY), 1.4)]))
    # On a selected row, which is light or dark.
    pens = [(QColor(255, 255, 255, 160), 3.4), (QColor("black"), 1.2)]
    icon.addPixmap(_draw(draw, shut, pens), QIcon.Mode.Selected)
    return icon


def _draw(
    draw: Callable[[QPainter, bool, QColor], None], shut: bool, pens: list[tuple[QColor, float]]
) -> QPixmap:
    pixmap = QPixmap(18, 14)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for colour, width in pens:
        painter.setPen(QPen(colour, width))
        draw(painter, shut, colour)
    painter.end()
    return pixmap


def _draw_eye(painter: QPainter, shut: bool, colour: QColor) -> None:
    if shut:
        painter.drawArc(2, -2, 14, 12, 200 * 16, 140 * 16)
        for left, right in ((5, 3), (9, 9), (13, 15)):
            painter.drawLine(left, 10, right, 13)
    else:
        painter.drawChord(2, 3, 14, 8, 0, 360 * 16)
        painter.setBrush(colour)
        painter.drawEllipse(7, 5, 4, 4)
        painter.setBrush(Qt.BrushStyle.NoBrush)


def _draw_padlock(painter: QPainter, shut: bool, colour: QColor) -> None:
    body = QRectF(4.5, 6.5, 9, 6)
    painter.drawRect(body)
    if shut:
        painter.fillRect(body, colour)
        painter.drawArc(QRectF(6, 1.5, 6, 9), 0, 180 * 16)
    else:
        painter.drawArc(QRectF(10.5, 1.5, 6, 9), 0, 180 * 16)
