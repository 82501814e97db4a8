"""The list of runs of a project, and the button that resumes an unfinished run."""

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.gui.model.run_lines import RunLine

ROWS = 4


class RunBox(QWidget):
    """Lists runs, the latest first.

    Parameters
    ----------
    title : str
        Heading.

    Attributes
    ----------
    picked : Signal of object
        The selected RunLine, or None.
    resume_requested : Signal of str
        Name of the run to resume.
    """

    picked = Signal(object)
    resume_requested = Signal(str)

    def __init__(self, title: str) -> None:
        super().__init__()
        self.lines: list[RunLine] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.title = QLabel(f"<b>{title}</b>")
        self.list = QListWidget()
        self.list.setObjectName("runs")
        self.list.setAccessibleName(title)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setWordWrap(True)
        self.button = QPushButton()
        self.button.setObjectName("resume")
        for part in (self.title, self.list, self.button):
            layout.addWidget(part)
        self.list.currentRowChanged.connect(self._pick)
        self.button.clicked.connect(self._resume)
        self.set_lines([])

    def set_lines(self, lines: Sequence[RunLine], free: bool = True) -> None:
        """Show runs. A run can be resumed only if no training is running (``free``)."""
        self.free = free
        found = list(reversed(lines))
        if found != self.lines or not self.list.count():
            self.lines = found
            self.list.blockSignals(True)
            self.list.clear()
            for line in found:
                item = QListWidgetItem(line.text)
                item.setToolTip(f"{line.text}\n{line.hint}" if line.hint else line.text)
                self.list.addItem(item)
            self.list.blockSignals(False)
            height = max(1, self.list.sizeHintForRow(0)) * min(max(len(found), 1), ROWS)
            self.list.setFixedHeight(height + 8)
        self.setVisible(bool(found))
        self._update_button()

    @property
    def current(self) -> RunLine | None:
        """The selected run, or None."""
        row = self.list.currentRow()
        return self.lines[row] if 0 <= row < len(self.lines) else None

    @property
    def unfinished(self) -> RunLine | None:
        """The run that would be resumed: the selected run, else the latest, if it is unfinished."""
        line = self.current or (self.lines[0] if self.lines else None)
        return line if line is not None and line.resumable else None

    def _pick(self, row: int) -> None:
        self._update_button()
        self.picked.emit(self.current)

    def _update_button(self) -> None:
        line = self.unfinished
        self.button.setVisible(line is not None)
        self.button.setEnabled(self.free)
        if line is not None:
            self.button.setText(f"&Resume {line.name}")

    def _resume(self) -> None:
        if self.unfinished is not None:
            self.resume_requested.emit(self.unfinished.name)
