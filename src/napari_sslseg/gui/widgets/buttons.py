"""Push buttons with a tooltip."""

from qtpy.QtWidgets import QPushButton


def hinted_button(name: str, text: str, hint: str) -> QPushButton:
    """Make a button with an object name, a text, and a tooltip."""
    button = QPushButton(text)
    button.setObjectName(name)
    button.setToolTip(hint)
    return button
