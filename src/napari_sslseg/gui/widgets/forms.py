"""Forms for pydantic settings: a row for each field, and its validation error below it.

The title of a field is the label and its description the tooltip, so that the command line, the
documentation and the window show the same texts.
"""

from collections.abc import Collection, Iterable
from types import NoneType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QGroupBox, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_sslseg.gui.widgets.form_fields import ChoiceEditor, Editor, make_editor, variants

WARNING = "⚠ "


class SettingsForm(QWidget):
    """A form for settings.

    Parameters
    ----------
    start : BaseModel
        Initial settings; their type defines the fields.
    without : collection of str
        Fields that are not shown and keep their values. Fields without an editor, such as mappings,
        are not shown either.

    Attributes
    ----------
    changed : Signal
        The user changed a value; :meth:`value` returns None if it is invalid.
    """

    changed = Signal()

    def __init__(self, start: BaseModel, without: Collection[str] = ()) -> None:
        super().__init__()
        self._start = start
        self._editors: dict[str, Editor] = {}
        self._problems: dict[str, QLabel] = {}
        self._loading = False
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setVerticalSpacing(3)
        self._layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        # The editor is next to its label if there is room, else below it.
        self._layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        for name, field in type(start).model_fields.items():
            if name not in without and not name.startswith("_"):
                self._add(name, field)
        self._general = self._note("form-problem")
        self._layout.addRow(self._general)
        self.set_value(start)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the shown fields."""
        return tuple(self._editors)

    def editor(self, name: str) -> Editor:
        """Return the editor of a field."""
        return self._editors[name]

    def problem(self, name: str = "") -> str:
        """Return the error of a field, or without a name the error of the whole form."""
        return (self._problems[name] if name else self._general).text().removeprefix(WARNING)

    def set_value(self, settings: BaseModel) -> None:
        """Show settings."""
        self._start, self._loading = settings, True
        for name, editor in self._editors.items():
            editor.set(getattr(settings, name))
        self._loading = False
        self._check()

    def value(self) -> Any:
        """Return the settings in the form; None if they are invalid."""
        return self._check()

    def changes(self) -> dict[str, Any]:
        """Return the fields that differ from the initial settings; empty if the form is invalid."""
        found = self._check()
        if found is None:
            return {}
        return {
            name: getattr(found, name)
            for name in self._editors
            if getattr(found, name) != getattr(self._start, name)
        }

    def _add(self, name: str, field: FieldInfo) -> None:
        title = field.title or name.replace("_", " ").capitalize()
        editor = field_editor(field, getattr(self._start, name))
        if editor is None:
            return
        hint = field_hint(field)
        for part in (editor, editor.inner):
            part.setToolTip(hint)
            part.setAccessibleName(title)
        editor.setObjectName(f"field-{name}")
        editor.inner.setObjectName(f"edit-{name}")
        problem = self._note(f"problem-{name}")
        self._editors[name], self._problems[name] = editor, problem
        if isinstance(editor.inner, QGroupBox):
            editor.inner.setTitle(title)
            self._layout.addRow(editor)
        else:
            label = QLabel(title)
            label.setToolTip(hint)
            label.setBuddy(editor.inner)
            self._layout.addRow(label, editor)
        self._layout.addRow(problem)
        editor.changed.connect(self._edited)

    def _note(self, name: str) -> QLabel:
        note = QLabel()
        note.setObjectName(name)
        note.setWordWrap(True)
        note.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        note.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        note.hide()
        return note

    def _edited(self) -> None:
        if not self._loading:
            self._check()
            self.changed.emit()

    def _check(self) -> Any:
        """Validate the form, show the errors, and return the settings or None."""
        values = {name: getattr(self._start, name) for name in type(self._start).model_fields}
        errors: dict[str, str] = {}
        for name, editor in self._editors.items():
            try:
                values[name] = editor.get()
            except ValueError as error:
                errors[name] = str(error)
        found = None
        if not errors:
            try:
                found = type(self._start).model_validate(values)
            except ValidationError as error:
                errors = field_errors(error)
        for name, label in self._problems.items():
            _show_error(label, errors.pop(name, ""))
        _show_error(self._general, next(iter(errors.values()), ""))
        return found


class NestedEditor(Editor):
    """A group box for nested settings. It can be unchecked if they are optional."""

    def __init__(self, start: BaseModel, optional: bool) -> None:
        self.box = QGroupBox()
        super().__init__(self.box)
        self.form = SettingsForm(start)
        layout = QVBoxLayout(self.box)
        layout.addWidget(self.form)
        self.box.setCheckable(optional)
        self.box.toggled.connect(self.form.setVisible)
        self.box.toggled.connect(lambda on: self.changed.emit())
        self.form.changed.connect(self.changed)

    def get(self) -> Any:
        """Return the settings, or None if unchecked."""
        if self.box.isCheckable() and not self.box.isChecked():
            return None
        found = self.form.value()
        if found is None:
            raise ValueError("A value in this box is invalid.")
        return found

    def set(self, value: Any) -> None:
        """Show settings."""
        if self.box.isCheckable():
            self.box.setChecked(value is not None)
            self.form.setVisible(value is not None)
        if value is not None:
            self.form.set_value(value)


class OneOfEditor(Editor):
    """A list of kinds of settings, and the form of the chosen kind below it."""

    def __init__(self, kinds: Iterable[type[BaseModel]]) -> None:
        self.kinds = tuple(kinds)
        box = QWidget()
        super().__init__(box)
        self._column = QVBoxLayout(box)
        self._column.setContentsMargins(0, 0, 0, 0)
        self.pick = ChoiceEditor(tuple(_title(kind) for kind in self.kinds))
        self._column.addWidget(self.pick)
        self.form: SettingsForm | None = None
        self.pick.changed.connect(self._show_chosen_kind)

    def get(self) -> Any:
        """Return the settings."""
        found = None if self.form is None else self.form.value()
        if found is None:
            raise ValueError("A value below is invalid.")
        return found

    def set(self, value: Any) -> None:
        """Show settings of any of the kinds."""
        self.pick.blockSignals(True)
        self.pick.set(_title(type(value)))
        self.pick.blockSignals(False)
        self._show(value)

    def _show_chosen_kind(self) -> None:
        kind = next(kind for kind in self.kinds if _title(kind) == self.pick.get())
        self._show(kind())
        self.changed.emit()

    def _show(self, value: BaseModel) -> None:
        if self.form is not None:
            self._column.removeWidget(self.form)
            self.form.deleteLater()
        self.form = SettingsForm(value)
        self.form.changed.connect(self.changed)
        self._column.addWidget(self.form)


def field_editor(field: FieldInfo, start: Any) -> Editor | None:
    """Make the editor of a field; None if there is no editor, or only one possible value."""
    kinds = variants(field.annotation)
    models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
    optional = NoneType in kinds
    if models:
        if len(models) + optional != len(kinds):
            return None
        if len(models) > 1:
            return None if optional else OneOfEditor(models)
        initial = start if start is not None else _smallest(models[0])
        return None if initial is None else NestedEditor(initial, optional)
    editor = make_editor(field.annotation, *bounds(field))
    if isinstance(editor, ChoiceEditor) and editor.combo.count() < 2:
        return None
    if editor is not None:
        editor.inner.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return editor


def bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """Return the lowest and highest integer of a field; None where there is no limit."""
    low: float | None = None
    high: float | None = None
    for rule in field.metadata:
        for name, step in (("ge", 0), ("gt", 1)):
            if getattr(rule, name, None) is not None:
                low = getattr(rule, name) + step
        for name, step in (("le", 0), ("lt", -1)):
            if getattr(rule, name, None) is not None:
                high = getattr(rule, name) + step
    return low, high


def field_hint(field: FieldInfo) -> str:
    """Return the tooltip of a field: its description as rich text, which Qt wraps."""
    from html import escape

    return f"<p>{escape(field.description)}</p>" if field.description else ""


def field_errors(error: ValidationError) -> dict[str, str]:
    """Return a sentence for each invalid field by name; "" is the key of other errors."""
    errors: dict[str, str] = {}
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        errors.setdefault(name, error_sentence(item))
    return errors


def error_sentence(item: Any) -> str:
    """Return a sentence for an error of pydantic."""
    context = item.get("ctx", {})
    match item["type"]:
        case "greater_than":
            return f"Must be more than {context['gt']:g}."
        case "greater_than_equal":
            return f"Must be at least {context['ge']:g}."
        case "less_than":
            return f"Must be less than {context['lt']:g}."
        case "less_than_equal":
            return f"Must be at most {context['le']:g}."
        case "too_short":
            return f"Needs at least {context['min_length']}."
        case "too_long":
            return f"Takes at most {context['max_length']}."
        case "missing":
            return "Is missing."
    text = item["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _show_error(label: QLabel, text: str) -> None:
    label.setText(f"{WARNING}{text}" if text else "")
    label.setVisible(bool(text))


def _title(kind: type[BaseModel]) -> str:
    return str(getattr(kind, "title", kind.__name__))


def _smallest(kind: type[BaseModel]) -> BaseModel | None:
    """Return settings with the smallest allowed values for fields without a default."""
    values = {}
    for name, field in kind.model_fields.items():
        if field.is_required():
            low, _ = bounds(field)
            values[name] = low if low is not None else 0
    try:
        return kind.model_validate(values)
    except ValidationError:
        return None
