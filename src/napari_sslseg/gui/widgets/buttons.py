"""Buttons of the panels."""

from qtpy.QtWidgets import QPushButton


def hinted_button(name: str, text: str, hint: str) -> QPushButton:
    """A button with an object name, what it says, and what it does as a hint."""
    button = QPushButton(text)
    button.setObjectName(name)
    button.setToolTip(hint)
    return button
