"""A preview of a pretext task as a figure, drawn without any window."""

from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.pretext.base import PretextPreview

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = 2.4
OUTLINE = "#f5a623"


def preview_figure(preview: PretextPreview, channel: int = 0) -> "Figure":
    """Draw slices in rows, and what happens to them in columns.

    Original, corrupted and restored slices of a row share one grey scale, all errors another.

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

    names = ["original", "corrupted", "mask", "restored", "error"]
    shown = {name: getattr(preview, name) for name in names if getattr(preview, name) is not None}
    n, _, height, width = preview.original.shape
    panel_height = PANEL_INCHES * float(np.clip(height / width, 0.4, 2.5))
    figure = Figure(
        figsize=(PANEL_INCHES * len(shown), n * panel_height + 0.35),
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0),
    )
    axes = figure.subplots(n, len(shown), squeeze=False)
    worst = None if preview.error is None else _high(preview.error[:, channel])
    for row in range(n):
        limits = _limits(preview.original[row, channel])
        replaced = preview.mask[row, 0]
        for axis, (name, images) in zip(axes[row], shown.items(), strict=True):
            image = images[row, 0 if name == "mask" else channel]
            low, high = {"mask": (0.0, 1.0), "error": (0.0, worst)}.get(name, limits)
            axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_axis_off()
            if name == "corrupted":
                _outline(axis, replaced)
            if row == 0:
                axis.set_title(preview.captions[name], fontsize=9)
    return figure


def _limits(image: np.ndarray) -> tuple[float, float]:
    """Grey scale that a few bright pixels cannot darken."""
    low, high = np.percentile(image, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def _high(errors: np.ndarray) -> float:
    return float(np.percentile(errors, 99.5)) or 1.0


def _outline(axis: "Axes", replaced: np.ndarray) -> None:
    """Draw the border of the replaced pixels, exactly along pixel edges."""
    from matplotlib.collections import LineCollection

    padded = np.pad(replaced, 1).astype(np.int8)
    rows, columns = np.nonzero(np.diff(padded, axis=0)[:, 1:-1])
    horizontal = _segments(columns, rows, along=0)
    rows, columns = np.nonzero(np.diff(padded, axis=1)[1:-1])
    vertical = _segments(columns, rows, along=1)
    lines = np.concatenate([horizontal, vertical]) - 0.5
    axis.add_collection(LineCollection(list(lines), colors=OUTLINE, linewidths=0.6))


def _segments(columns: np.ndarray, rows: np.ndarray, along: int) -> np.ndarray:
    """Pixel edges from their starts: (edges, ends, xy)."""
    starts = np.stack([columns, rows], axis=1).astype(float)
    ends = starts.copy()
    ends[:, along] += 1
    return np.stack([starts, ends], axis=1)
