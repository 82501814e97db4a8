"""Curves of a training, live. pyqtgraph is loaded with the first panel that has one."""

import time
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.gui.model.words import short
from napari_sslseg.gui.widgets.curves import Curve

if TYPE_CHECKING:
    from pyqtgraph import PlotWidget

REDRAW_SECONDS = 0.9
PLOT_HEIGHT = 170
COLOURS = {
    # Okabe and Ito, the darker ones where the background is light.
    "dark": ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442"),
    "light": ("#0072b2", "#d55e00", "#00795a", "#a4497f", "#7a6a00"),
}
BACKGROUNDS = {"dark": ("#1b1c21", "#d6d8dc"), "light": ("#fbfaf9", "#2b2b2e")}


def kind_of_theme(name: str) -> str:
    """Tell whether a theme of napari is ``dark`` or ``light``."""
    from napari.utils.theme import get_system_theme, get_theme, is_theme_available

    if name == "system":
        name = get_system_theme()
    if not is_theme_available(name):
        return "dark"
    return "light" if str(getattr(get_theme(name), "type", name)) == "light" else "dark"


class CurvePlot(QWidget):
    """Curves over steps, redrawn at most once a second.

    Parameters
    ----------
    values : str
        What is drawn, such as "Loss".
    logarithmic : bool
        Whether the switch to a logarithmic scale is offered.
    limits : tuple of float, optional
        Lowest and highest value that is drawn; as the values are if None.
    height : int
        In pixels.
    words : callable
        Says a value.
    """

    def __init__(
        self,
        values: str = "Loss",
        logarithmic: bool = True,
        limits: tuple[float, float] | None = None,
        height: int = PLOT_HEIGHT,
        words: Callable[[float], str] = short,
    ) -> None:
        super().__init__()
        # Now, so that no training waits for it later, and in this thread: it makes classes of Qt.
        import pyqtgraph  # noqa: F401

        self.values, self.theme = values, "dark"
        self._limits, self._height, self._words = limits, height, words
        self._own: dict[str, str] = {}
        self.curves: dict[str, Curve] = {}
        self.drawn = 0
        self._marked: set[str] = set()
        self._items: dict[str, Any] = {}
        self._milestones: dict[float, str] = {}
        self._lines: dict[float, Any] = {}
        self._plot: PlotWidget | None = None
        self._last = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.redraw)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self.log = QCheckBox("Lo&g scale")
        self.log.setObjectName("plot-log")
        self.log.setToolTip("<p>Shows small changes late in a training more clearly.</p>")
        self.log.setVisible(logarithmic)
        self.log.toggled.connect(self.ask)
        self.key = QLabel()
        self.key.setTextFormat(Qt.TextFormat.RichText)
        self.key.setWordWrap(True)
        self.key.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout()
        row.addWidget(self.key, 1)
        row.addWidget(self.log)
        self._layout.addLayout(row)
        self.setAccessibleName(f"{values} by step")

    def add(self, name: str, step: float, value: float, marked: bool = False) -> None:
        """Add a point to a curve; points of a marked one are seen one by one.

        It is drawn when :meth:`ask` asks for it.
        """
        self.curves.setdefault(name, Curve()).add(step, value)
        if marked:
            self._marked.add(name)

    def mark(self, step: float, words: str) -> None:
        """Show what holds from a step on, by a line through the plot.

        It is drawn when :meth:`ask` asks for it, and goes with the curves.
        """
        self._milestones[step] = words

    def paint(self, colours: Mapping[str, str]) -> None:
        """Give curves colours of their own, by name; the others have those of the theme."""
        if dict(colours) != self._own:
            self._own = dict(colours)
            self._redo()

    def clear(self) -> None:
        """Forget all curves and marks."""
        self.curves.clear()
        self._marked.clear()
        self._milestones.clear()
        self._wipe()
        self.key.clear()

    def set_theme(self, name: str) -> None:
        """Take the colours of a theme of napari."""
        self.theme = kind_of_theme(name)
        self._redo()

    def _redo(self) -> None:
        """Draw all in other colours."""
        self._wipe()
        if self._plot is not None:
            self._colour()
            self.redraw()

    def _wipe(self) -> None:
        self._items.clear()
        self._lines.clear()
        if self._plot is not None:
            self._plot.clear()

    def ask(self) -> None:
        """Redraw soon, but not too often."""
        if self._timer.isActive():
            return
        wait = REDRAW_SECONDS - (time.monotonic() - self._last)
        if wait > 0:
            self._timer.start(round(wait * 1000))
        else:
            self.redraw()  # With all else that changes now, so that the window is drawn once.

    def redraw(self) -> None:
        """Draw what there is."""
        self._last = time.monotonic()
        if not self.isVisible() or not self.curves:
            return
        plot = self._plot if self._plot is not None else self._make()
        log = self.log.isChecked()
        plot.setLogMode(x=False, y=log)
        for number, (name, curve) in enumerate(self.curves.items()):
            if name not in self._items:
                self._items[name] = self._item(plot, number, name in self._marked)
            x, y = curve.points(positive=log)
            self._items[name].setData(x, y)
        for step, words in self._milestones.items():
            if step not in self._lines:
                self._lines[step] = self._line(plot, step, words)
            self._lines[step].label.setFormat(words)
        self._tell()
        self.drawn += 1

    def showEvent(self, event: Any) -> None:  # noqa: N802
        super().showEvent(event)
        self.ask()

    def _make(self) -> "PlotWidget":
        import pyqtgraph

        plot = pyqtgraph.PlotWidget()
        plot.setFixedHeight(self._height)
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(x=False, y=False)
        plot.enableMouse(False)
        plot.hideButtons()
        plot.setAntialiasing(True)
        plot.setLabel("bottom", "Step")
        if self._limits is not None:
            plot.setYRange(*self._limits, padding=0.06)
        # Above the plot there is room for a name, but along its side there is none to spare.
        plot.getAxis("left").setWidth(48)
        for side in ("left", "bottom"):
            # It writes the name of the axis anew in each change of size, which crashed in one.
            plot.getAxis(side).enableAutoSIPrefix(False)
        # The axes alone leave too little for the name and the highest number.
        plot.getPlotItem().layout.setContentsMargins(1, 4, 4, 6)
        plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._plot = plot
        self._layout.addWidget(plot)
        self._colour()
        return plot

    def _item(self, plot: "PlotWidget", number: int, marked: bool) -> Any:
        import pyqtgraph

        colour = self._colour_of(number)
        pen = pyqtgraph.mkPen(colour, width=2 if marked else 1)
        symbols = {"symbol": "o", "symbolSize": 6, "symbolBrush": colour, "symbolPen": None}
        return plot.plot(pen=pen, **(symbols if marked else {}))

    def _line(self, plot: "PlotWidget", step: float, words: str) -> Any:
        import pyqtgraph

        text = BACKGROUNDS[self.theme][1]
        pen = pyqtgraph.mkPen(text, width=1, style=Qt.PenStyle.DashLine)
        # Its name changes sides with where the line is, such that it stays within the plot.
        names = {"position": 0.92, "color": text}
        line = pyqtgraph.InfiniteLine(step, 90, pen, label=words, labelOpts=names)
        # A step that is not reached yet would make room for itself.
        plot.addItem(line, ignoreBounds=True)
        return line

    def _colour_of(self, number: int) -> str:
        own = self._own.get(list(self.curves)[number])
        return own or COLOURS[self.theme][number % len(COLOURS[self.theme])]

    def _colour(self) -> None:
        assert self._plot is not None
        background, text = BACKGROUNDS[self.theme]
        self._plot.setBackground(background)
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(text)
            axis.setTextPen(text)
        self._plot.showGrid(x=False, y=True, alpha=0.15)

    def _tell(self) -> None:
        """Name the curves, with the latest value of each."""
        parts = []
        for number, (name, curve) in enumerate(self.curves.items()):
            mark = f"<span style='color:{self._colour_of(number)}'>●</span>"
            parts.append(f"{mark} {escape(name)} {self._words(curve.last)}")
        self.key.setText("&nbsp; ".join(parts))
