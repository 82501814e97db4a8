"""List of the structures (classes) of the project, with buttons to edit them."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QModelIndex, Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemDelegate,
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.project.record import UNKNOWN_VALUE
from napari_sslseg.gui.label.class_edits import (
    add_class,
    recolour_class,
    remove_class,
    rename_class,
)
from napari_sslseg.gui.label.class_rows import (
    EYE,
    GREY,
    KEY,
    LOCK,
    NAME,
    VALUE,
    ClassRows,
    eye,
    padlock,
    swatch,
    unknown_row,
)
from napari_sslseg.gui.model.done_marks import without_new_class
from napari_sslseg.gui.text import plural
from napari_sslseg.gui.widgets.dialogs import ask_choice

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

MOST_ROWS = 5
ADD_UNMARK, ADD_KEEP = "Add and unmark", "Add and keep marks"
REMOVE = "Remove"
ERASE = "Erase everywhere"


class ClassList(QWidget):
    """List of structures; the selected one is that of the labels layer."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self._filling = False
        self._layer: Any = None
        self._new: int | None = None
        self._before: int | None = None
        self._unmarked: dict[str, tuple[int, ...]] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.hint = QLabel("What do you want to segment? Add the first structure, such as liver.")
        self.hint.setWordWrap(True)
        layout.addWidget(self.hint)
        self.list = self._make_list()
        layout.addWidget(self.list)
        layout.addLayout(self._make_buttons())
        session.classes_changed.connect(self.refresh)
        session.structures.changed.connect(self._show_states)
        session.project_changed.connect(self.refresh)
        scene.changed.connect(self._follow_layer)
        self.refresh()
        self._follow_layer()

    def _make_list(self) -> QTreeWidget:
        made = ClassRows()
        made.setObjectName("classes")
        made.setAccessibleName("Structures")
        made.setColumnCount(4)
        made.setHeaderHidden(True)
        made.setRootIsDecorated(False)
        made.setUniformRowHeights(True)
        made.header().setStretchLastSection(False)
        made.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (KEY, EYE, LOCK):
            made.header().setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        made.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        made.setToolTip("The brush paints the selected structure. Double-click or F2: rename.")
        made.currentItemChanged.connect(lambda item, _: self._choose(item))
        made.itemDoubleClicked.connect(lambda *_: self.edit())
        made.eye_clicked.connect(self._toggle_hidden)
        made.lock_clicked.connect(self._toggle_locked)
        made.itemChanged.connect(self._renamed)
        made.itemDelegate().closeEditor.connect(self._edited)
        made.edit_wanted.connect(self.edit)
        made.remove_wanted.connect(self._remove)
        return made

    def _make_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(4)
        self.add = QPushButton("&Add a structure")
        self.rename = QPushButton("&Rename")
        self.recolour = QPushButton("&Colour…")
        self.remove = QPushButton("Re&move")
        for name, button, pressed in (
            ("add-class", self.add, self.add_one),
            ("rename-class", self.rename, self.edit),
            ("recolour-class", self.recolour, self._recolour),
            ("remove-class", self.remove, self._remove),
        ):
            button.setObjectName(name)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.clicked.connect(lambda _=False, pressed=pressed: pressed())
            row.addWidget(button, 2 if button is self.add else 1)
        return row

    # Display

    def refresh(self) -> None:
        """Show the structures of the project."""
        project = self.session.project
        classes = project.classes if project is not None else ()
        self._filling = True
        self.list.clear()
        for number, item in enumerate(classes, start=1):
            key = str(number) if number <= 9 else ""
            row = QTreeWidgetItem([item.name, key])
            row.setData(0, VALUE, item.value)
            row.setIcon(0, swatch(item.colour))
            row.setFlags(row.flags() | Qt.ItemFlag.ItemIsEditable)
            tip = f"Value {item.value} in label files."
            row.setToolTip(0, f"{item.name}: {f'key {key}. ' if key else ''}{tip}")
            row.setToolTip(KEY, f"Press {key} to select {item.name}." if key else tip)
            self.list.addTopLevelItem(row)
        if classes:
            self.list.addTopLevelItem(unknown_row())
        self._show_states()
        self._filling = False
        rows = min(max(len(classes) + 1, 2), MOST_ROWS)
        height = self.list.sizeHintForRow(0) if classes else 20
        self.list.setFixedHeight(rows * max(height, 18) + 2 * self.list.frameWidth() + 4)
        self.list.setVisible(bool(classes))
        self.hint.setVisible(not classes and project is not None)
        self.add.setEnabled(project is not None)
        for button in (self.rename, self.recolour, self.remove):
            button.setVisible(bool(classes))
        self.show_selected()

    def _show_states(self) -> None:
        """Draw the eyes and padlocks, open or shut, and hidden structures in grey."""
        filling, self._filling = self._filling, True
        for row in self._rows():
            name, state = row.text(NAME), self.session.structures.state(row.data(NAME, VALUE))
            row.setIcon(EYE, eye(shut=state.hidden))
            row.setToolTip(EYE, f"{'Show' if state.hidden else 'Hide'} {name}. Key: H")
            row.setIcon(LOCK, padlock(shut=state.locked))
            row.setToolTip(
                LOCK,
                f"Unlock {name}. Key: K"
                if state.locked
                else f"Lock {name}: nothing is painted over it, and it is not erased. Key: K",
            )
            grey = QColor(GREY) if state.hidden else None
            row.setData(NAME, Qt.ItemDataRole.ForegroundRole, grey)
        self._filling = filling

    def _toggle_hidden(self, item: QTreeWidgetItem) -> None:
        states, value = self.session.structures, item.data(NAME, VALUE)
        states.hide(value, not states.state(value).hidden)

    def _toggle_locked(self, item: QTreeWidgetItem) -> None:
        states, value = self.session.structures, item.data(NAME, VALUE)
        states.lock(value, not states.state(value).locked)

    def _show_painted(self, event: Any = None) -> None:
        """Show the structure of the brush, so that nobody paints what is not seen."""
        if self._layer is not None:
            self.session.structures.hide(self._layer.selected_label, False)

    def _follow_layer(self) -> None:
        if self._layer is not None:
            self._layer.events.selected_label.disconnect(self.show_selected)
            self._layer.events.paint.disconnect(self._show_painted)
        self._layer = self.scene.labels
        if self._layer is not None:
            self._layer.events.selected_label.connect(self.show_selected)
            self._layer.events.paint.connect(self._show_painted)
        self.show_selected()

    def show_selected(self, event: Any = None) -> None:
        """Select the structure that the layer paints."""
        rows = {row.data(0, VALUE): row for row in self._rows()}
        if self._layer is None or not rows:
            return
        selected = self._layer.selected_label
        self._filling = True
        if selected in rows:
            self.list.setCurrentItem(rows[selected])
        else:
            self.list.clearSelection()
            self.list.setCurrentIndex(QModelIndex())
        self._filling = False

    def _rows(self) -> list[QTreeWidgetItem]:
        count = self.list.topLevelItemCount()
        return [item for row in range(count) if (item := self.list.topLevelItem(row)) is not None]

    @property
    def values(self) -> list[int]:
        """Values of the structures, in the order of the list."""
        found = [item.data(0, VALUE) for item in self._rows()]
        return [value for value in found if value != UNKNOWN_VALUE]

    @property
    def chosen(self) -> int | None:
        """Value of the selected structure; None if there is none, or it is unknown."""
        item = self.list.currentItem()
        value = None if item is None else item.data(0, VALUE)
        return None if value == UNKNOWN_VALUE else value

    # Edits

    def choose_number(self, number: int) -> None:
        """Select a structure by its position in the list, from 0."""
        values = self.values
        if number < len(values):
            self.choose(values[number])

    def choose(self, value: int) -> None:
        """Select a structure by its value, and show it."""
        if self._layer is not None:
            self._layer.selected_label = value
            self._show_painted()

    def _choose(self, item: QTreeWidgetItem | None) -> None:
        if item is not None and not self._filling:
            self.choose(item.data(NAME, VALUE))

    def add_one(self) -> None:
        """Add a structure and start to edit its name."""
        project = self.session.project
        done = {} if project is None else without_new_class(project)
        if done and not self._confirm_done(done):
            return
        before = self.chosen
        value = add_class(self.session)
        if value is not None:
            self._before = before
            self.choose(value)
            self.list.setCurrentItem(self._rows()[self.values.index(value)])
            if self._layer is not None:
                self._layer.mode = "paint"
            self._new = value
            self.edit()

    def _edited(self, editor: QWidget, hint: QAbstractItemDelegate.EndEditHint) -> None:
        """Escape in the name of a new structure means that it is not wanted."""
        value, self._new = self._new, None
        unmarked, self._unmarked = self._unmarked, {}
        if value is not None and hint == QAbstractItemDelegate.EndEditHint.RevertModelCache:
            if self._before in self.values:
                self.choose(self._before)  # The brush paints what it painted before.

            def mark_again() -> None:
                for name, slices in unmarked.items():
                    self.session.mark_done(name, slices)

            remove_class(self.session, self.scene, value, lambda why: False, then=mark_again)

    def _confirm_done(self, done: dict[str, tuple[int, ...]]) -> bool:
        """Ask whether to unmark slices that are done without the new structure; False to cancel."""
        count = sum(map(len, done.values()))
        answer = ask_choice(
            self,
            f"{plural(count, 'slice')} {'is' if count == 1 else 'are'} done without the new "
            "structure. Where they show it, it would count as background.",
            [ADD_UNMARK, ADD_KEEP],
            more="Labels stay in either case. Keep the marks only if none of these slices shows "
            "the new structure.",
            name="ask-structure",
        )
        if answer == ADD_UNMARK:
            self.session.finish()
            for name, slices in done.items():
                self.session.mark_done(name, slices, done=False)
            self._unmarked = done
        return answer is not None

    def edit(self) -> None:
        """Start to edit the name of the selected structure."""
        item = self.list.currentItem()
        if item is not None and self.chosen is not None:
            self.list.setFocus()
            self.list.editItem(item, 0)

    def _renamed(self, item: QTreeWidgetItem, column: int) -> None:
        if not self._filling and column == 0:
            value, name = item.data(0, VALUE), item.text(0)
            # Later: renaming refills the list, and Qt still uses this row.
            QTimer.singleShot(0, lambda: self._rename(value, name))

    def _rename(self, value: int, name: str) -> None:
        now = rename_class(self.session, value, name)
        if now != value:
            self.choose(now)

    def _recolour(self) -> None:
        value = self.chosen
        project = self.session.project
        if value is None or project is None:
            return
        item = next(item for item in project.classes if item.value == value)
        now = QColor(item.colour)
        now.setAlphaF(self.session.structures.state(value).opacity)
        alpha = QColorDialog.ColorDialogOption.ShowAlphaChannel
        found = QColorDialog.getColor(now, self, f"Colour and opacity of {item.name}", alpha)
        if found.isValid():
            self.session.structures.set_opacity(value, round(found.alphaF(), 2))
            if found.name() != now.name():
                recolour_class(self.session, value, found.name())

    def _remove(self) -> None:
        value, project = self.chosen, self.session.project
        if value is None or project is None:
            return
        question = f"Remove “{project.class_names[value]}” from the structures?"
        if ask_choice(self, question, [REMOVE], name="ask-structure") == REMOVE:
            remove_class(self.session, self.scene, value, self._ask_erase)

    def _ask_erase(self, why: str) -> bool:
        answer = ask_choice(
            self,
            why,
            [ERASE],
            more="It becomes background, also on slices that are done; those that have no other "
            "label are then no longer done. Copies of the current label "
            "files are kept in the folder labels/aside of the project.",
            name="ask-structure",
        )
        return answer == ERASE
