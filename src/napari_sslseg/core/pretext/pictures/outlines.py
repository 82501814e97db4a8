"""Outlines on the slices of a preview: of regions, and of numbered boxes."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTLINE = "#f5a623"
# Colours of Okabe & Ito, distinct with any colour vision; numbers distinguish those that repeat.
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
NUMBER_POINTS = 7
LEAST_POINTS = 10
"""Side of the smallest box with room for a number of two digits."""
PANEL_INCHES = 2.4
"""Width of a slice in a figure."""
# Outlines are useful only around regions larger than single pixels.
MOST_EDGES = 1.5
"""Largest number of edges per pixel of regions with an outline."""


def is_speckled(regions: np.ndarray) -> bool:
    """Whether the regions, shape (H, W), are hardly larger than single pixels."""
    edges = sum(np.count_nonzero(edge) for edge in _edges(regions))
    return bool(edges > MOST_EDGES * np.count_nonzero(regions))


def outline(axis: "Axes", regions: np.ndarray) -> None:
    """Draw the border of the regions, shape (H, W), exactly along pixel edges."""
    from matplotlib.collections import LineCollection

    below, right = _edges(regions)
    rows, columns = np.nonzero(below)
    horizontal = _segments(columns, rows, along=0)
    rows, columns = np.nonzero(right)
    vertical = _segments(columns, rows, along=1)
    lines = np.concatenate([horizontal, vertical]) - 0.5
    axis.add_collection(LineCollection(list(lines), colors=OUTLINE, linewidths=0.6))


def number_boxes(axis: "Axes", boxes: np.ndarray, shape: tuple[int, int]) -> None:
    """Outline boxes and write their numbers, from 1; the same number has the same colour.

    Parameters
    ----------
    axis : Axes
        Shows an image.
    boxes : ndarray, shape (R, 4)
        Top, left, height and width in pixels.
    shape : tuple of int
        Height and width of the image in pixels.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    points = 72 * PANEL_INCHES / shape[1]
    for number, (top, left, height, width) in enumerate(boxes.tolist()):
        colour = COLOURS[number % len(COLOURS)]
        corner = left - 0.5, top - 0.5
        box = Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=1.2)
        box.set_path_effects([withStroke(linewidth=2.2, foreground="black")])
        axis.add_patch(box)
        # Inside the box if the number fits, otherwise next to it on the side with more room.
        inside = min(width, height) * points > LEAST_POINTS
        after = left + width / 2 < shape[1] / 2
        edge = left - 0.5 + (width if after else 0)
        axis.annotate(
            str(number + 1),
            (left - 0.5 + width / 2 if inside else edge, top - 0.5 + height / 2),
            xytext=(0 if inside else 2 if after else -2, 0),
            textcoords="offset points",
            ha="center" if inside else "left" if after else "right",
            va="center_baseline",
            color="white",  # readable on any slice, unlike some of the colours
            fontsize=NUMBER_POINTS,
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )


def _edges(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Changes of the value from one row to the next, and from one column to the next."""
    padded = np.pad(regions, 1).astype(np.float32)
    return np.diff(padded, axis=0)[:, 1:-1] != 0, np.diff(padded, axis=1)[1:-1] != 0


def _segments(columns: np.ndarray, rows: np.ndarray, along: int) -> np.ndarray:
    """Pixel edges from their starts: (edges, ends, xy)."""
    starts = np.stack([columns, rows], axis=1).astype(float)
    ends = starts.copy()
    ends[:, along] += 1
    return np.stack([starts, ends], axis=1)
