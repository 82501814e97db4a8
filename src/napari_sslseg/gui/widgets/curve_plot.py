"""Live training curves. pyqtgraph is imported when the first plot is made."""

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

from napari_sslseg.gui.text import format_number
from napari_sslseg.gui.widgets.curve_points import Curve

if TYPE_CHECKING:
    from pyqtgraph import PlotWidget

REDRAW_SECONDS = 0.9
PLOT_HEIGHT = 170
COLOURS = {
    # Colours of Okabe and Ito; darker ones for light backgrounds.
    "dark": ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442"),
    "light": ("#0072b2", "#d55e00", "#00795a", "#a4497f", "#7a6a00"),
}
BACKGROUNDS = {"dark": ("#1b1c21", "#d6d8dc"), "light": ("#fbfaf9", "#2b2b2e")}


def kind_of_theme(name: str) -> str:
    """Return whether a theme of napari is ``dark`` or ``light``."""
    from napari.utils.theme import get_system_theme, get_theme, is_theme_available

    if name == "system":
        name = get_system_theme()
    if not is_theme_available(name):
        return "dark"
    return "light" if str(getattr(get_theme(name), "type", name)) == "light" else "dark"


class CurvePlot(QWidget):
    """Curves over training steps, redrawn at most about once a second.

    Parameters
    ----------
    values : str
        Name of the values, such as "Loss".
    logarithmic : bool
        Whether to offer a logarithmic scale.
    limits : tuple of float, optional
        Range of the vertical axis; automatic if None.
    height : int
        In pixels.
    formatter : callable
        Formats a value for the legend.
    """

    def __init__(
        self,
        values: str = "Loss",
        logarithmic: bool = True,
        limits: tuple[float, float] | None = None,
        height: int = PLOT_HEIGHT,
        formatter: Callable[[float], str] = format_number,
    ) -> None:
        super().__init__()
        # Imported now, so that no training waits for it, and in this thread, because it makes Qt
        # classes.
        import pyqtgraph  # noqa: F401

        self.values, self.theme = values, "dark"
        self._limits, self._height, self._formatter = limits, height, formatter
        self._colours: dict[str, str] = {}
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
        self.log.setToolTip("<p>Makes small changes late in a training easier to see.</p>")
        self.log.setVisible(logarithmic)
        self.log.toggled.connect(self.request_redraw)
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
        """Add a point to a curve. A marked curve shows a symbol at each point.

        Call :meth:`request_redraw` to draw it.
        """
        self.curves.setdefault(name, Curve()).add(step, value)
        if marked:
            self._marked.add(name)

    def mark(self, step: float, words: str) -> None:
        """Add a vertical line with a label at a step.

        Call :meth:`request_redraw` to draw it. :meth:`clear` removes it.
        """
        self._milestones[step] = words

    def paint(self, colours: Mapping[str, str]) -> None:
        """Set colours of curves by name; other curves use the colours of the theme."""
        if dict(colours) != self._colours:
            self._colours = dict(colours)
            self._recolour()

    def clear(self) -> None:
        """Remove all curves and marks."""
        self.curves.clear()
        self._marked.clear()
        self._milestones.clear()
        self._clear_plot()
        self.key.clear()

    def set_theme(self, name: str) -> None:
        """Use the colours of a theme of napari."""
        self.theme = kind_of_theme(name)
        self._recolour()

    def _recolour(self) -> None:
        """Draw everything again in other colours."""
        self._clear_plot()
        if self._plot is not None:
            self._colour()
            self.redraw()

    def _clear_plot(self) -> None:
        self._items.clear()
        self._lines.clear()
        if self._plot is not None:
            self._plot.clear()

    def request_redraw(self, *_: object) -> None:
        """Redraw now, or later if the last redraw was less than about a second ago."""
        if self._timer.isActive():
            return
        wait = REDRAW_SECONDS - (time.monotonic() - self._last)
        if wait > 0:
            self._timer.start(round(wait * 1000))
        else:
            self.redraw()  # Together with other changes, so that the window is drawn once.

    def redraw(self) -> None:
        """Draw the curves and marks."""
        self._last = time.monotonic()
        if not self.isVisible() or not self.curves:
            return
        plot = self._plot if self._plot is not None else self._make()
        log = self.log.isChecked()
        end = 0.0
        plot.setLogMode(x=False, y=log)
        for number, (name, curve) in enumerate(self.curves.items()):
            if name not in self._items:
                self._items[name] = self._item(plot, number, name in self._marked)
            x, y = curve.points(positive=log)
            self._items[name].setData(x, y)
            end = max([end, *x[-1:].tolist()])
        for step, words in self._milestones.items():
            if step not in self._lines:
                self._lines[step] = self._line(plot, step, words)
            # The words of a line beyond the axis would begin in the plot, and be cut there.
            self._lines[step].setVisible(step <= end)
            self._lines[step].label.setFormat(words)
        self._update_legend()
        self.drawn += 1

    def showEvent(self, event: Any) -> None:  # noqa: N802
        super().showEvent(event)
        self.request_redraw()

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
        # There is room for the name above the plot, but not at its side.
        plot.getAxis("left").setWidth(48)
        for side in ("left", "bottom"):
            # It rewrites the axis label at each resize, which has crashed.
            plot.getAxis(side).enableAutoSIPrefix(False)
        # By default there is too little room for the label and the highest number.
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
        # The label changes sides with the position of the line, so that it stays inside the plot.
        names = {"position": 0.92, "color": text}
        line = pyqtgraph.InfiniteLine(step, 90, pen, label=words, labelOpts=names)
        # Otherwise a step in the future would extend the axis.
        plot.addItem(line, ignoreBounds=True)
        return line

    def _colour_of(self, number: int) -> str:
        own = self._colours.get(list(self.curves)[number])
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

    def _update_legend(self) -> None:
        """Show the name and the latest value of each curve."""
        parts = []
        for number, (name, curve) in enumerate(self.curves.items()):
            mark = f"<span style='color:{self._colour_of(number)}'>●</span>"
            parts.append(f"{mark} {escape(name)} {self._formatter(curve.last)}")
        self.key.setText("&nbsp; ".join(parts))
