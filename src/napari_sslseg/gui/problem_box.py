"""The last problem in full, until the user dismisses it.

Notifications of napari are shortened and disappear.
"""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.gui.model.jobs import Problem, ProblemKind
from napari_sslseg.gui.widgets.buttons import hinted_button
from napari_sslseg.gui.widgets.foldable import Foldable

DETAILS_HEIGHT = 120


class ProblemBox(QFrame):
    """Shows a problem: a sentence, folded details for developers, and a button to dismiss it."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("problem")
        # A colour that is visible on dark and light themes; the frame sets it apart.
        self.setStyleSheet("QFrame#problem { border: 1px solid #e0564a; border-radius: 3px; }")
        self.shown: Problem | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(2)
        self.sentence = QLabel()
        self.sentence.setObjectName("problem-sentence")
        self.sentence.setWordWrap(True)
        self.sentence.setTextFormat(Qt.TextFormat.PlainText)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text = QPlainTextEdit()
        self.text.setObjectName("problem-details")
        self.text.setReadOnly(True)
        self.text.setFixedHeight(DETAILS_HEIGHT)
        self.text.setTabChangesFocus(True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.copy = hinted_button(
            "problem-copy", "Cop&y details", "Copy the message and the details, for a bug report."
        )
        self.copy.clicked.connect(self._copy)
        inside = QWidget()
        inner = QVBoxLayout(inside)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.text)
        inner.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignLeft)
        self.fold = Foldable("Deta&ils", inside)
        self.away = hinted_button("problem-away", "O&K", "Dismiss this message.")
        self.away.clicked.connect(lambda: self.clear())
        layout.addWidget(self.sentence)
        row = QHBoxLayout()
        row.addWidget(self.fold, 1)
        row.addWidget(self.away, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(row)
        self.hide()

    def show_problem(self, problem: Problem) -> None:
        """Show a problem instead of the last one."""
        self.shown = problem
        # Let long paths break after each part, so that nothing is clipped.
        text = problem.sentence.replace("/", "/\u200b").replace("\\", "\\\u200b")
        self.sentence.setText(f"⚠ {text}")
        self.text.setPlainText(problem.details)
        self.fold.button.setChecked(False)
        self.fold.setVisible(bool(problem.details))
        self.show()

    def clear(self, kind: ProblemKind | None = None) -> None:
        """Dismiss the problem, or only one of a kind, which is over."""
        if kind is None or (self.shown is not None and self.shown.kind == kind):
            self.shown = None
            self.hide()

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if self.shown is not None and clipboard is not None:
            clipboard.setText(f"{self.shown.sentence}\n\n{self.shown.details}")
