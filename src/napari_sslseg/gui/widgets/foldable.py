"""A section of a panel that can be folded."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Foldable(QWidget):
    """A heading that shows and hides the content below it.

    Parameters
    ----------
    title : str
        The heading; an ampersand makes a shortcut.
    content : QWidget
        Content of the section.
    open_ : bool
        Whether the content is visible at first.
    """

    toggled = Signal(bool)

    def __init__(self, title: str, content: QWidget, open_: bool = False) -> None:
        super().__init__()
        self.content = content
        self.button = QToolButton()
        self.button.setCheckable(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.button.setStyleSheet("QToolButton { border: none; padding: 2px; text-align: left; }")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(content)
        self.button.toggled.connect(self._toggle)
        self.set_title(title)
        self.button.setChecked(open_)
        self._toggle(open_)

    @property
    def title(self) -> str:
        """The heading."""
        return self._title

    def set_title(self, title: str) -> None:
        """Change the heading."""
        self._title = title
        self.button.setText(f"{'▾' if self.button.isChecked() else '▸'} {title}")
        self.button.setAccessibleName(title.replace("&", ""))

    def _toggle(self, shown: bool) -> None:
        self.content.setVisible(shown)
        self.set_title(self._title)
        self.toggled.emit(shown)
