"""Dialog that asks which structures are labelled in scans."""

from collections.abc import Collection, Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

VALUE = Qt.ItemDataRole.UserRole
MORE = (
    "A structure without a check mark may be anywhere on the slices of these scans that are done. "
    "It is neither learnt as background there nor scored."
)


class LabelledDialog(QDialog):
    """A check box for each structure of the project.

    Parameters
    ----------
    parent : QWidget
        Parent of the dialog.
    what : str
        The scans, such as "patient 3" or "4 scans".
    classes : mapping of int to str
        Classes of the project by value.
    labelled : collection of int, or None
        Classes that are labelled now; None if all are.
    """

    def __init__(
        self,
        parent: QWidget,
        what: str,
        classes: Mapping[int, str],
        labelled: Collection[int] | None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("ask-labelled")
        self.setWindowTitle("Few-shot segmentation")
        self.list = QListWidget()
        self.list.setObjectName("labelled-structures")
        self.list.setAccessibleName("Labelled structures")
        for value, name in classes.items():
            item = QListWidgetItem(name)
            item.setData(VALUE, value)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            checked = labelled is None or value in labelled
            item.setCheckState(Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)
            self.list.addItem(item)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        question, more = QLabel(f"Which structures are labelled in {what}?"), QLabel(MORE)
        for line in (question, more):
            line.setTextFormat(Qt.TextFormat.PlainText)
            line.setWordWrap(True)
        layout = QVBoxLayout(self)
        for part in (question, self.list, more, buttons):
            layout.addWidget(part)
        self._accept = buttons.button(QDialogButtonBox.StandardButton.Ok)
        self.list.itemChanged.connect(lambda _: self._enable())
        self._enable()

    @property
    def chosen(self) -> tuple[int, ...]:
        """Values of the structures that have a check mark."""
        items = [self.list.item(row) for row in range(self.list.count())]
        return tuple(
            item.data(VALUE) for item in items if item.checkState() == Qt.CheckState.Checked
        )

    def _enable(self) -> None:
        self._accept.setEnabled(bool(self.chosen))
        self._accept.setToolTip("" if self.chosen else "Check at least one structure.")
