"""Delegate that draws names so that they differ also in a narrow column."""

from collections.abc import Callable, Sequence

from qtpy.QtCore import QModelIndex, QPersistentModelIndex, Qt
from qtpy.QtGui import QFont, QFontMetrics
from qtpy.QtWidgets import QStyledItemDelegate, QStyleOptionViewItem, QWidget

from napari_sslseg.gui.text import shorten

PADDING = 14
"""Pixels beside picture and text of a name."""


def widths(font: QFont) -> QFontMetrics:
    """Widths of letters in bold, as the name of the scan that is shown has them."""
    bold = QFont(font)
    bold.setBold(True)
    return QFontMetrics(bold)


class NameDelegate(QStyledItemDelegate):
    """Shortens names by what they have in common, where the column is too narrow.

    Parameters
    ----------
    parent : QWidget
        The table.
    names : callable
        Returns the names that must differ.
    icon : int
        Width of the picture beside each name.
    """

    def __init__(self, parent: QWidget, names: Callable[[], Sequence[str]], icon: int = 0) -> None:
        super().__init__(parent)
        self._names, self._icon = names, icon
        self._known: tuple[list[str], int] = [], 0
        self._short: dict[str, str] = {}

    def initStyleOption(  # noqa: N802
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Replace the text by a name that fits."""
        super().initStyleOption(option, index)
        room = option.rect.width() - self._icon - PADDING
        name = str(index.data(Qt.ItemDataRole.DisplayRole))
        letters = widths(option.font)
        # Without a rectangle Qt asks for the size of the whole name.
        if room > 0 and letters.horizontalAdvance(name) > room:
            option.text = self._shortened(letters, room).get(name, name)

    def _shortened(self, letters: QFontMetrics, room: int) -> dict[str, str]:
        names = list(dict.fromkeys(self._names()))
        if names and self._known != (names, room):
            self._known = names, room
            width = letters.horizontalAdvance
            longest = max(names, key=width)
            most = max(room * len(longest) // max(width(longest), 1), 3)
            while max(map(width, short := shorten(names, most))) > room and most > 3:
                most -= 1
            self._short = dict(zip(names, short, strict=True))
        return self._short
