"""Combo boxes, spin boxes and number fields of the panels, made in one call."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox

from napari_sslseg.gui.widgets.no_wheel import (
    NoWheelComboBox,
    NoWheelDoubleSpinBox,
    NoWheelSpinBox,
)

Item = tuple[str, Any, str]
"""Title, value and tooltip of an entry."""


def combo_box(name: str, accessible: str, items: Iterable[Item] = ()) -> NoWheelComboBox:
    """Make a combo box whose tooltip is that of the entry it shows.

    Parameters
    ----------
    name, accessible : str
        Object name, and name for screen readers.
    items : iterable of (title, value, tooltip)
        Entries.
    """
    box = NoWheelComboBox()
    box.setObjectName(name)
    box.setAccessibleName(accessible)
    for item in items:
        add_item(box, *item)

    def show_tooltip(number: int) -> None:
        box.setToolTip(box.itemData(number, Qt.ItemDataRole.ToolTipRole) or box.itemText(number))

    box.currentIndexChanged.connect(show_tooltip)
    if box.count():
        show_tooltip(0)
    return box


def add_item(box: NoWheelComboBox, title: str, value: Any, tooltip: str = "") -> None:
    """Add an entry to a combo box."""
    box.addItem(title, value)
    if tooltip:
        box.setItemData(box.count() - 1, tooltip, Qt.ItemDataRole.ToolTipRole)


def literal_items(literal: Any, texts: Mapping[Any, tuple[str, str]]) -> list[Item]:
    """List the values of a ``Literal`` of core with title and tooltip.

    A value without a text keeps its own name as the title, so that none is missing.
    """
    items = []
    for value in get_args(literal):
        title, tooltip = texts.get(value, (value, ""))
        items.append((title, value, tooltip))
    return items


def spin_box(name: str, low: int, high: int, value: int | None = None) -> NoWheelSpinBox:
    """Make a spin box for whole numbers."""
    box = NoWheelSpinBox()
    box.setObjectName(name)
    box.setRange(low, high)
    box.setValue(low if value is None else value)
    return box


def number_box(name: str, accessible: str, widest: str) -> NoWheelDoubleSpinBox:
    """Make a narrow box for a number that is applied once it was typed.

    Parameters
    ----------
    name, accessible : str
        Object name, and name for screen readers.
    widest : str
        Text that the box has room for.
    """
    box = NoWheelDoubleSpinBox()
    box.setObjectName(name)
    box.setAccessibleName(accessible)
    box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
    box.setKeyboardTracking(False)
    # The style of napari has a larger least width.
    room = box.fontMetrics().horizontalAdvance(widest)
    box.setStyleSheet(
        f"QDoubleSpinBox {{ min-width: {room}px; max-width: {room}px; padding: 2px 4px; }}"
    )
    return box
