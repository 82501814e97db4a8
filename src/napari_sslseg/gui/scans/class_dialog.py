"""Dialog that asks which class of the project each structure of a label file is."""

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.scans.classes.class_map import LEFT_OUT, ClassMap, MapRow
from napari_sslseg.core.scans.classes.matching import Structure
from napari_sslseg.core.scans.classes.segment import Segment, is_placeholder
from napari_sslseg.gui.widgets.no_wheel import NoWheelComboBox

IMPORT = "Import"
CHOOSE = "Choose …"
LEAVE = "Leave out"
WHY = {
    "said": "as before",
    "name": "same name",
    "code": "same code",
    "number": "same value",
    "new": "not in the project",
}
SIZE = (620, 360)


def needs_answer(structures: Sequence[Structure], classes: Mapping[int, str]) -> bool:
    """Whether to ask for the classes of a label file.

    Equal names need no question, and neither does the first file of a project.
    """
    hows = {item.how for item in structures}
    by_value = any(
        item.how == "number" and not is_placeholder(classes[item.value]) for item in structures
    )
    return bool(hows & {"unclear", "code"}) or by_value or bool(classes and "new" in hows)


class ClassDialog(QDialog):
    """A table of the structures in a label file, each with a choice of its class.

    Parameters
    ----------
    parent : QWidget
        Parent of the dialog.
    file : str
        Name of the label file.
    structures : sequence of Structure
        Structures and the classes that they seem to be.
    classes : mapping of int to str
        Classes of the project by value.
    earlier : mapping of Segment to str
        Answers to earlier files, as in a class map.
    """

    def __init__(
        self,
        parent: QWidget,
        file: str,
        structures: Sequence[Structure],
        classes: Mapping[int, str],
        earlier: Mapping[Segment, str],
    ) -> None:
        super().__init__(parent)
        self.setObjectName("ask-classes")
        self.setWindowTitle("Few-shot segmentation")
        self.resize(*SIZE)
        self._structures = structures
        layout = QVBoxLayout(self)
        question = QLabel(f"Which class is each structure in {file}?")
        question.setTextFormat(Qt.TextFormat.PlainText)
        question.setWordWrap(True)
        layout.addWidget(question)
        self.boxes = [self._box(item, classes, earlier) for item in structures]
        layout.addWidget(self._table(), 1)
        more = QLabel("A structure that is left out becomes background.")
        more.setWordWrap(True)
        layout.addWidget(more)
        self.buttons = QDialogButtonBox()
        self.accept_button = self.buttons.addButton(IMPORT, QDialogButtonBox.ButtonRole.AcceptRole)
        self.accept_button.setObjectName(f"answer-{IMPORT}")
        self.accept_button.setAutoDefault(False)
        cancel = self.buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        cancel.setDefault(True)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout.addWidget(self.buttons)
        for box in self.boxes:
            box.currentIndexChanged.connect(lambda _: self._enable())
        self._enable()

    @property
    def answers(self) -> dict[Segment, str]:
        """The class of each structure as in a class map."""
        pairs = zip(self._structures, self.boxes, strict=True)
        return {item.segment: str(box.currentData()) for item, box in pairs}

    def _table(self) -> QTableWidget:
        table = QTableWidget(len(self.boxes), 3)
        table.setObjectName("structure-table")
        table.setAccessibleName("Structures in the file and their classes")
        table.setHorizontalHeaderLabels(["In the file", "Class", "Reason"])
        table.verticalHeader().hide()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        table.setWordWrap(True)
        for row, (item, box) in enumerate(zip(self._structures, self.boxes, strict=True)):
            segment = item.segment
            name = f"{segment.name} ({segment.value})" if segment.name else f"value {segment.value}"
            for column, text in ((0, name), (2, item.problem or WHY[item.how])):
                cell = QTableWidgetItem(text)
                cell.setToolTip(text)
                table.setItem(row, column, cell)
            table.setCellWidget(row, 1, box)
        header = table.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        for column in (0, 1, 2):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
        table.resizeRowsToContents()
        return table

    def _box(
        self, item: Structure, classes: Mapping[int, str], earlier: Mapping[Segment, str]
    ) -> NoWheelComboBox:
        segment = item.segment
        box = NoWheelComboBox()
        box.setObjectName(f"class-of-{segment.value}")
        box.setAccessibleName(f"Class of {segment.name or segment.value}")
        if item.how == "unclear":
            box.addItem(CHOOSE, "")
        for value, name in classes.items():
            box.addItem(name, str(value))
        new = segment.name or f"class {segment.value}"
        box.addItem(f"New class: {new}", new)
        box.addItem(LEAVE, LEFT_OUT)
        wanted = {"unclear": "", "new": new}.get(item.how, str(item.value))
        before = earlier.get(segment, wanted)
        values = {name: str(value) for value, name in classes.items()}
        found = [box.findData(data) for data in (before, values.get(before), wanted)]
        box.setCurrentIndex(next(place for place in found if place >= 0))
        return box

    def _enable(self) -> None:
        open_questions = sum(box.currentData() == "" for box in self.boxes)
        self.accept_button.setEnabled(not open_questions)
        self.accept_button.setToolTip(
            "Choose a class for each structure first." if open_questions else ""
        )


def class_map_of(answers: Mapping[Segment, str]) -> ClassMap:
    """Return the answers as a class map."""
    return ClassMap(
        tuple(
            MapRow(target, value=segment.value, name=segment.name)
            for segment, target in answers.items()
        )
    )
