"""Editors for single settings, used by ``forms.py``."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLineEdit, QWidget

from napari_sslseg.gui.widgets.no_wheel import NoWheelComboBox, NoWheelSpinBox

NUMBERS = (int, float)
LARGEST_INT = 2**31 - 1


class Editor(QWidget):
    """Edits one value.

    Attributes
    ----------
    changed : Signal
        The value may have changed.
    """

    changed = Signal()

    def __init__(self, inner: QWidget) -> None:
        super().__init__()
        self.inner = inner
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(inner)
        self.setFocusProxy(inner)

    def get(self) -> Any:
        """Return the value.

        Raises
        ------
        ValueError
            If the input is invalid; the message is a sentence for the user.
        """
        raise NotImplementedError

    def set(self, value: Any) -> None:
        """Show a value."""
        raise NotImplementedError


class FlagEditor(Editor):
    """A check box."""

    def __init__(self) -> None:
        self.box = QCheckBox()
        super().__init__(self.box)
        self.box.toggled.connect(lambda on: self.changed.emit())

    def get(self) -> bool:
        """Return whether it is checked."""
        return self.box.isChecked()

    def set(self, value: Any) -> None:
        """Check or uncheck it."""
        self.box.setChecked(bool(value))


class ChoiceEditor(Editor):
    """A list of values to choose from."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.combo = NoWheelComboBox()
        super().__init__(self.combo)
        for value in values:
            self.combo.addItem("automatic" if value is None else str(value), value)
        self.combo.currentIndexChanged.connect(lambda index: self.changed.emit())

    def get(self) -> Any:
        """Return the chosen value."""
        return self.combo.currentData()

    def set(self, value: Any) -> None:
        """Choose a value."""
        self.combo.setCurrentIndex(self.combo.findData(value))


class CountEditor(Editor):
    """A spin box for an integer with limits."""

    def __init__(self, low: int, high: int) -> None:
        self.spin = NoWheelSpinBox()
        super().__init__(self.spin)
        self.spin.setRange(low, min(high, LARGEST_INT))
        self.spin.setGroupSeparatorShown(True)
        self.spin.setKeyboardTracking(False)
        self.spin.valueChanged.connect(lambda value: self.changed.emit())

    def get(self) -> int:
        """Return the number."""
        return self.spin.value()

    def set(self, value: Any) -> None:
        """Show a number."""
        self.spin.setValue(int(value))


class TextEditor(Editor):
    """A text field for one or several numbers, or a keyword.

    Parameters
    ----------
    kind : {int, float}
        Type of the numbers.
    several : bool
        Whether there are several numbers, separated by commas.
    optional : bool
        Whether the field may be empty, which means None.
    words : tuple of str
        Keywords that are accepted instead of a number.
    """

    def __init__(
        self, kind: type, several: bool = False, optional: bool = False, words: tuple[str, ...] = ()
    ) -> None:
        self.kind, self.several, self.optional, self.words = kind, several, optional, words
        self.line: QLineEdit
        if words:
            combo = NoWheelComboBox()
            combo.setEditable(True)
            combo.addItems(words)
            line = combo.lineEdit()
            assert line is not None
            self.line = line
            super().__init__(combo)
            self.line.textChanged.connect(lambda text: self.changed.emit())
        else:
            self.line = QLineEdit()
            super().__init__(self.line)
            self.line.textEdited.connect(lambda text: self.changed.emit())
        if optional:
            self.line.setPlaceholderText("automatic")

    def get(self) -> Any:
        """Return the numbers or the keyword."""
        text = self.line.text().strip()
        if not text and self.optional:
            return None
        if text in self.words:
            return text
        parts = text.replace(";", ",").replace("×", ",").split(",") if self.several else [text]
        try:
            numbers = tuple(self._number(part.strip()) for part in parts)
        except (ValueError, OverflowError) as error:
            what = "whole numbers" if self.kind is int else "numbers"
            if self.several:
                raise ValueError(f"Must be {what} separated by commas.") from error
            one = "a whole number" if self.kind is int else "a number, such as 0.001"
            words = f", or one of {', '.join(self.words)}" if self.words else ""
            raise ValueError(f"Must be {one}{words}.") from error
        return numbers if self.several else numbers[0]

    def _number(self, text: str) -> Any:
        return self.kind(text)

    def set(self, value: Any) -> None:
        """Show numbers or a keyword."""
        values = value if isinstance(value, tuple | list) else [value]
        shown = ["" if v is None else v if isinstance(v, str) else f"{v:.10g}" for v in values]
        self.line.setText(", ".join(shown))
        self.line.setCursorPosition(0)


def variants(annotation: Any) -> list[Any]:
    """Return the types of a union, without ``Annotated`` metadata."""
    if get_origin(annotation) is Annotated:
        return variants(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in variants(part)]
    return [annotation]


def make_editor(annotation: Any, low: float | None, high: float | None) -> Editor | None:
    """Make the editor for a type.

    Parameters
    ----------
    annotation : type
        Type of the value.
    low, high : float or None
        Limits of the value.

    Returns
    -------
    Editor or None
        None if there is no editor for the type.
    """
    kinds = variants(annotation)
    optional = NoneType in kinds
    kinds = [kind for kind in kinds if kind is not NoneType]
    words = tuple(word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind))
    rest = [kind for kind in kinds if get_origin(kind) is not Literal]
    if rest == [bool] and not optional:
        return FlagEditor()
    if words and not rest:
        return ChoiceEditor((None, *words) if optional else words)
    if len(rest) != 1:
        return None
    (kind,) = rest
    if kind is int and not optional and not words and low is not None and high is not None:
        return CountEditor(int(low), int(high))
    if kind in NUMBERS:
        return TextEditor(kind, optional=optional, words=words)
    if get_origin(kind) is tuple:
        inner = {part for part in get_args(kind) if part is not Ellipsis}
        if len(inner) == 1 and next(iter(inner)) in NUMBERS:
            return TextEditor(next(iter(inner)), several=True, optional=optional, words=words)
    return None


def set_number(box: Any, value: int) -> None:
    """Set the value of a spin box, clipped to its limits. The value may come from a file."""
    box.setValue(max(box.minimum(), min(value, box.maximum())))
