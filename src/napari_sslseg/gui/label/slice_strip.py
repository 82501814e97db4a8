"""Strip that shows the state of each slice of a scan, and the current slice."""

import numpy as np
from qtpy.QtCore import QEvent, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_sslseg.gui.label.slice_marks import DONE, EMPTY, OPEN, PAINTED, WORDS, numbered

COLOURS = {PAINTED: QColor("#e69f00"), DONE: QColor("#009e73"), EMPTY: QColor("#56b4e9")}
HEIGHTS = {PAINTED: 0.55, DONE: 1.0, EMPTY: 1.0}
"""Fraction of the height of the strip, so that states also differ without colour."""

# Where several slices share a pixel, the state with the highest rank is shown.
RANK = np.array([0, 3, 2, 1])
MARGIN = 5


class SliceStrip(QWidget):
    """Slices from left to right.

    Attributes
    ----------
    chosen : Signal of int
        A slice was clicked, or reached by the arrow keys.
    """

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.states = np.zeros(0, np.uint8)
        self.current = 0
        self.setObjectName("slice-strip")
        self.setAccessibleName("Slices of the scan")
        self.setFixedHeight(30)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMouseTracking(True)

    def show_slices(self, states: np.ndarray, current: int) -> None:
        """Show these states; repaints only if something changed."""
        if current == self.current and np.array_equal(states, self.states):
            return
        self.states, self.current = states, current
        known = len(states) > 0
        text = f"{numbered(current, len(states))}, {WORDS[states[current]]}" if known else ""
        self.setAccessibleDescription(text)
        self.update()

    def slice_at(self, x: float) -> int:
        """Return the number of the slice at a horizontal position."""
        count, width = len(self.states), max(self.width() - 2 * MARGIN, 1)
        return int(np.clip((x - MARGIN) * count // width, 0, count - 1))

    def place_of(self, index: int) -> tuple[float, float]:
        """Return the left and right end of a slice."""
        width = (self.width() - 2 * MARGIN) / max(len(self.states), 1)
        return MARGIN + index * width, MARGIN + (index + 1) * width

    def runs(self) -> list[tuple[float, float, int]]:
        """Return left, right and state of each box to paint, at most one per pixel."""
        count, pixels = len(self.states), max(self.width() - 2 * MARGIN, 1)
        if count <= pixels // 3:
            ends = [self.place_of(i) for i in range(count)]
            return [(a + 0.5, b - 0.5, int(s)) for (a, b), s in zip(ends, self.states, strict=True)]
        pixel = np.arange(count) * pixels // count
        shown = np.full(pixels, -1)
        np.maximum.at(shown, pixel, RANK[self.states])
        # With fewer slices than pixels, one covers the pixels up to the next.
        filled = shown[np.maximum.accumulate(np.where(shown >= 0, np.arange(pixels), 0))]
        state = np.argsort(RANK)[np.maximum(filled, 0)]
        starts = np.flatnonzero(np.diff(state, prepend=-1))
        stops = np.append(starts[1:], pixels)
        return [
            (float(MARGIN + a), float(MARGIN + b), int(state[a]))
            for a, b in zip(starts, stops, strict=True)
        ]

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Paint the slices, as at most one box per pixel."""
        painter = QPainter(self)
        top, bottom = 7.0, self.height() - 4.0
        text = self.palette().color(self.foregroundRole())
        faint = QColor(text)
        faint.setAlpha(60)
        painter.fillRect(QRectF(MARGIN, bottom - 2, self.width() - 2 * MARGIN, 2), faint)
        for left, right, state in self.runs() if len(self.states) else ():
            if state == OPEN:
                continue
            height = HEIGHTS[state] * (bottom - top)
            box = QRectF(left, bottom - height, max(right - left, 1.0), height)
            if state == EMPTY:  # Hollow.
                pen = QPen(COLOURS[state], 1.5)
                painter.setPen(pen)
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRect(box.adjusted(0.75, 0.75, -0.75, -0.75))
            else:
                painter.fillRect(box, COLOURS[state])
        if len(self.states):
            left, right = self.place_of(self.current)
            middle = (left + right) / 2
            # Above and below the state of the slice, which stays visible.
            painter.fillRect(QRectF(middle - 4, 0, 8, 4), text)
            painter.fillRect(QRectF(middle - 1, 4, 2, top - 4), text)
            painter.fillRect(QRectF(middle - 4, bottom, 8, 4), text)
        if self.hasFocus():
            painter.setPen(QPen(text, 1, Qt.PenStyle.DotLine))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Go to the clicked slice."""
        if event.button() == Qt.MouseButton.LeftButton and len(self.states):
            self.chosen.emit(self.slice_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Follow a drag."""
        if event.buttons() & Qt.MouseButton.LeftButton and len(self.states):
            self.chosen.emit(self.slice_at(event.position().x()))

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Go to the previous or next slice with the arrow keys."""
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()), 0)
        if step and len(self.states):
            self.chosen.emit(int(np.clip(self.current + step, 0, len(self.states) - 1)))
        else:
            super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        """Show a tooltip for the slice under the mouse."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            if not len(self.states):
                return True
            QToolTip.showText(event.globalPos(), self.tip_at(event.pos().x()), self)
            return True
        return super().event(event)

    def tip_at(self, x: float) -> str:
        """Describe the slice at a horizontal position."""
        index = self.slice_at(x)
        word = WORDS[self.states[index]]
        here = " This is the current slice." if index == self.current else " Click to go there."
        return f"{numbered(index, len(self.states))}: {word}.{here}"
