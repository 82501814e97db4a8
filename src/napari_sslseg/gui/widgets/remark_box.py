"""Remarks about labels, until the user dismisses them. Notifications of napari disappear."""

from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QWidget

from napari_sslseg.gui.widgets.buttons import hinted_button

MOST_LINES = 4
"""Lines that are shown at a time; the rest is scrolled to."""


class RemarkBox(QFrame):
    """Remarks that were not dismissed, one paragraph each, and a button to dismiss them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("remarks")
        self.setStyleSheet("QFrame#remarks { border: 1px solid #4a90e0; border-radius: 3px; }")
        self.remarks: list[str] = []
        self.text = QPlainTextEdit()
        self.text.setObjectName("remarks-text")
        self.text.setAccessibleName("Remarks about labels")
        self.text.setReadOnly(True)
        self.text.setFrameShape(QFrame.Shape.NoFrame)
        self.text.setTabChangesFocus(True)
        self.text.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.away = hinted_button("remarks-away", "OK", "Dismiss these remarks.")
        self.away.clicked.connect(self.clear)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 4, 6, 4)
        row.addWidget(self.text, 1)
        row.addWidget(self.away, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def add(self, remark: str) -> None:
        """Show a remark below those that were not dismissed."""
        if remark not in self.remarks:
            self.remarks.append(remark)
        self.text.setPlainText("\n".join(f"ℹ {item}" for item in self.remarks))
        self.show()
        self._fit()
        last = self.text.document().lastBlock()  # The new one.
        self.text.verticalScrollBar().setValue(last.firstLineNumber())

    def clear(self) -> None:
        """Dismiss all remarks."""
        self.remarks.clear()
        self.text.clear()
        self.hide()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Fit the height to the lines, which depend on the width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        lines = int(self.text.document().size().height())  # Of a plain text, in lines.
        shown = min(max(lines, 1), MOST_LINES)
        margin = round(2 * self.text.document().documentMargin()) + 2
        self.text.setFixedHeight(shown * self.fontMetrics().lineSpacing() + margin)
