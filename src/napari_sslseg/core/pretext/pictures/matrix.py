"""Matrix of a preview: similarities or distances of examples for a trained network."""

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.example_pictures import PretextPreview

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

# Perceptually uniform, so that it is readable in greyscale and with any colour vision.
COLOURS = "cividis"
MOST_NUMBERS = 12
"""Rows and columns up to which the values are written in the cells."""

SMALL, LARGE = 7, 9
"""Font sizes of labels and numbers, and of the title, in points."""

# All in inches.
CELL, MOST, LEAST_BAR = 0.42, 5.0, 1.3
SMALL_CHARACTER, LARGE_CHARACTER, LINE = 0.062, 0.08, 0.17
MARGIN, BAR, BAR_LABELS = 0.12, 0.12, 0.65


@dataclass(frozen=True)
class MatrixLayout:
    """Positions of the parts of a matrix in inches, with room for all text.

    Parameters
    ----------
    preview : PretextPreview
        With a matrix.
    """

    preview: PretextPreview

    @property
    def cells(self) -> tuple[float, float]:
        """Width and height of all cells together."""
        assert self.preview.matrix is not None
        m, k = self.preview.matrix.shape
        cell = min(CELL, MOST / max(m, k))
        return k * cell, m * cell

    @property
    def columns(self) -> tuple[str, ...]:
        """Labels of the columns; those of the rows if not given."""
        return self.preview.matrix_columns or self.preview.matrix_labels

    @property
    def left(self) -> float:
        """Width of the labels of the rows."""
        return MARGIN + SMALL_CHARACTER * max(map(len, self.preview.matrix_labels), default=0)

    @property
    def below(self) -> float:
        """Height of the labels of the columns."""
        return MARGIN + SMALL_CHARACTER * max(map(len, self.columns), default=0)

    @property
    def width(self) -> float:
        """Total width."""
        return self.left + self.cells[0] + MARGIN + BAR + BAR_LABELS

    @property
    def title(self) -> str:
        """Title, wrapped into lines that fit."""
        most = int(self.width / LARGE_CHARACTER)
        return "\n".join(fill(line, most) for line in self.preview.matrix_title.split("\n"))

    @property
    def height(self) -> float:
        """Total height; a colour bar taller than the cells extends next to their labels."""
        title = MARGIN + LINE * (self.title.count("\n") + 1)
        return title + max(self.cells[1] + self.below, LEAST_BAR + MARGIN)


def draw_matrix(figure: "FigureBase", preview: PretextPreview, room: tuple[float, float]) -> "Axes":
    """Draw the matrix of a preview in the middle of a figure; bright cells are similar.

    Cosine similarities run from −1 to 1, distances from 0 to the largest.

    Parameters
    ----------
    figure : Figure or SubFigure
        Empty figure.
    preview : PretextPreview
        Preview with a matrix.
    room : tuple of float
        Width and height of the figure in inches, at least those of the layout.
    """
    layout, matrix = MatrixLayout(preview), preview.matrix
    assert matrix is not None
    width, height = layout.cells
    left = (room[0] - layout.width) / 2 + layout.left
    top = (room[1] + layout.height) / 2 - MARGIN - LINE * (layout.title.count("\n") + 1)

    def place(x: float, wide: float, high: float) -> "Axes":
        share = x / room[0], (top - high) / room[1], wide / room[0], high / room[1]
        return figure.add_axes(share)

    axis = place(left, width, height)
    low, high, colours, words = -1.0, 1.0, COLOURS, "1 similar, 0 unrelated"
    if preview.matrix_distances:
        low, high, colours, words = 0.0, float(matrix.max()) or 1.0, f"{COLOURS}_r", "0 similar"
    image = axis.imshow(
        matrix, cmap=colours, vmin=low, vmax=high, interpolation="nearest", aspect="auto"
    )
    axis.set_yticks(range(len(preview.matrix_labels)), preview.matrix_labels, fontsize=SMALL)
    axis.set_xticks(range(len(layout.columns)), layout.columns, fontsize=SMALL, rotation=90)
    axis.tick_params(length=0)
    if max(matrix.shape) <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(matrix):
            colour = "black" if sum(image.to_rgba(value)[:3]) > 1.5 else "white"
            number = f"{value:.2f}".replace("-", "−")
            axis.text(column, row, number, ha="center", va="center", color=colour, size=SMALL)
    bar = place(left + width + MARGIN, BAR, max(height, LEAST_BAR))
    axis.figure.colorbar(image, cax=bar).set_label(words, fontsize=SMALL)
    bar.tick_params(labelsize=SMALL)
    figure.text(0.5, (top + 0.06) / room[1], layout.title, size=LARGE, ha="center", va="bottom")
    return axis
