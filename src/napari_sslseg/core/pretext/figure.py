"""A preview of a pretext task as a figure, drawn without any window."""

from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.pretext.base import PretextPreview

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = 2.4
OUTLINE = "#f5a623"
FRAME = "0.6"
# Outlines help only around regions larger than single pixels: at most this many edges per pixel.
MOST_EDGES = 1.5

# Columns of a figure, and the scales of those that do not show intensities.
COLUMNS = ("original", "partner", "corrupted", "mask", "levels", "restored", "error")
UNIT = (0.0, 1.0)


def preview_figure(preview: PretextPreview, channel: int = 0) -> "Figure":
    """Draw slices in rows, and what happens to them in columns.

    Original, corrupted and restored slices of a row share one grey scale, all errors another.
    Masks and levels run from black (0) to white (1).

    Parameters
    ----------
    preview : PretextPreview
        What to draw.
    channel : int
        Channel of the slices, where they have several.

    Returns
    -------
    matplotlib.figure.Figure
        Bound to no window; write it with ``savefig``.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = {name: getattr(preview, name) for name in COLUMNS if name in preview.captions}
    shown = {name: images for name, images in shown.items() if images is not None}
    n, _, height, width = preview.original.shape
    panel_height = PANEL_INCHES * float(np.clip(height / width, 0.4, 2.5))
    figure = Figure(
        figsize=(PANEL_INCHES * len(shown), n * panel_height + 0.35),
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0),
    )
    axes = figure.subplots(n, len(shown), squeeze=False)
    scales = {"mask": UNIT, "levels": UNIT}
    if preview.levels is not None:
        scales |= {"restored": UNIT, "error": UNIT}
    elif preview.error is not None:
        scales["error"] = (0.0, _high(preview.error[:, channel]))
    for row in range(n):
        limits = _limits(preview.original[row, channel])
        # Where levels differ from place to place, so do the regions.
        regions = (preview.mask if preview.levels is None else preview.levels)[row, 0]
        for axis, (name, images) in zip(axes[row], shown.items(), strict=True):
            image = images[row, min(channel, images.shape[1] - 1)]
            low, high = scales.get(name, limits)
            axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(color=FRAME, linewidth=0.5)
            if name == "corrupted" and not _speckled(regions):
                _outline(axis, regions)
            if row == 0:
                axis.set_title(preview.captions[name], fontsize=9)
    return figure


def _limits(image: np.ndarray) -> tuple[float, float]:
    """Grey scale that a few bright pixels cannot darken."""
    low, high = np.percentile(image, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def _high(errors: np.ndarray) -> float:
    return float(np.percentile(errors, 99.5)) or 1.0


def _edges(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the value changes from one row to the next, and from one column to the next."""
    padded = np.pad(regions, 1).astype(np.float32)
    return np.diff(padded, axis=0)[:, 1:-1] != 0, np.diff(padded, axis=1)[1:-1] != 0


def _speckled(regions: np.ndarray) -> bool:
    """Whether the regions are little more than single pixels."""
    edges = sum(np.count_nonzero(edge) for edge in _edges(regions))
    return bool(edges > MOST_EDGES * np.count_nonzero(regions))


def _outline(axis: "Axes", regions: np.ndarray) -> None:
    """Draw the border of the regions, exactly along pixel edges."""
    from matplotlib.collections import LineCollection

    below, right = _edges(regions)
    rows, columns = np.nonzero(below)
    horizontal = _segments(columns, rows, along=0)
    rows, columns = np.nonzero(right)
    vertical = _segments(columns, rows, along=1)
    lines = np.concatenate([horizontal, vertical]) - 0.5
    axis.add_collection(LineCollection(list(lines), colors=OUTLINE, linewidths=0.6))


def _segments(columns: np.ndarray, rows: np.ndarray, along: int) -> np.ndarray:
    """Pixel edges from their starts: (edges, ends, xy)."""
    starts = np.stack([columns, rows], axis=1).astype(float)
    ends = starts.copy()
    ends[:, along] += 1
    return np.stack([starts, ends], axis=1)
