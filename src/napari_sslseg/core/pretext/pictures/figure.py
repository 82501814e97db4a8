"""A preview of a pretext task as a figure, drawn without any window."""

from itertools import zip_longest
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.pretext.pictures.matrix import MatrixLayout, draw_matrix
from napari_sslseg.core.pretext.pictures.outlines import (
    PANEL_INCHES,
    is_speckled,
    number_boxes,
    outline,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase

TITLE_INCHES = 0.35
NOTE_INCHES = 0.2
ROW_LABEL_INCHES = 0.25
CHARACTERS_PER_INCH = 14
"""Width of a line of a note."""

WIDEST_INCHES = 12.0
"""Largest width of slices and matrix side by side; otherwise the matrix is drawn below."""

FRAME = "0.6"

# Columns of a figure, and the range of those that do not show intensities.
COLUMNS = ("original", "partner", "corrupted", "mask", "levels", "restored", "error")
UNIT = (0.0, 1.0)


def preview_figure(preview: PretextPreview, channel: int = 0) -> "Figure":
    """Draw slices in rows, the steps of the task in columns, and the matrix next to it or below.

    Original, corrupted and restored slices of a row have the same intensity scale, all errors
    another. Masks and levels run from black (0) to white (1). For volumes the axial slice with most
    of the mask is drawn, or the middle slice without a mask, with its number on the left.

    Parameters
    ----------
    preview : PretextPreview
        Preview to draw.
    channel : int
        Channel of the slices to draw.

    Returns
    -------
    matplotlib.figure.Figure
        Figure without a window; write it with ``savefig``.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = {name: getattr(preview, name) for name in COLUMNS if name in preview.captions}
    shown = {name: images for name, images in shown.items() if images is not None}
    panel = PANEL_INCHES * float(np.clip(np.divide(*preview.original.shape[-2:]), 0.4, 2.5))
    labelled = preview.matrix is not None or preview.original.ndim == 5
    width = PANEL_INCHES * len(shown) + ROW_LABEL_INCHES * labelled
    characters = int(width * CHARACTERS_PER_INCH)
    notes = [
        fill(" · ".join(filter(None, words)), characters)
        for words in zip_longest(preview.sources, preview.notes)
    ]
    sides = fill(preview.orientation, characters)
    lines = sum(note.count("\n") + 1 for note in notes)
    lines += sides.count("\n") + 1 if sides else 0
    height = len(preview.original) * panel + NOTE_INCHES * lines + TITLE_INCHES
    figure = Figure(layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0))
    if preview.matrix is None:
        figure.set_size_inches(width, height)
        _draw_rows(figure, preview, shown, notes, channel)
        figure.supxlabel(sides, fontsize=8)
        return figure
    matrix = MatrixLayout(preview)
    if width + matrix.width <= WIDEST_INCHES:
        room = matrix.width, max(height, matrix.height)
        figure.set_size_inches(width + room[0], room[1])
        parts = figure.subfigures(1, 2, squeeze=False, width_ratios=(width, room[0]))
    else:
        room = max(width, matrix.width), matrix.height
        figure.set_size_inches(room[0], height + room[1])
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(height, room[1]))
    rows, beside = parts.ravel()
    _draw_rows(rows, preview, shown, notes, channel)
    rows.supxlabel(sides, fontsize=8)
    draw_matrix(beside, preview, room)
    return figure


def _draw_rows(
    figure: "FigureBase",
    preview: PretextPreview,
    shown: dict[str, np.ndarray],
    notes: list[str],
    channel: int,
) -> None:
    depth = preview.original.shape[2] if preview.original.ndim == 5 else 0
    mask, original, levels, error = preview.mask, preview.original, preview.levels, preview.error
    numbers = slice_numbers(mask) if depth else None
    if numbers is not None:
        shown = {name: _at(images, numbers) for name, images in shown.items()}
        mask, original = _at(mask, numbers), _at(original, numbers)
        levels = None if levels is None else _at(levels, numbers)
        error = None if error is None else _at(error, numbers)
    axes = figure.subplots(len(original), len(shown), squeeze=False)
    scales = {"mask": UNIT, "levels": UNIT}
    if levels is not None:
        scales |= {"restored": UNIT, "error": UNIT}
    elif error is not None:
        scales["error"] = (0.0, _high(error[:, min(channel, error.shape[1] - 1)]))
    for row, row_axes in enumerate(axes):
        limits = _limits(original[row, min(channel, original.shape[1] - 1)])
        # With levels, the outlines are those of the levels.
        regions = (mask if levels is None else levels)[row, 0]
        for axis, (name, images) in zip(row_axes, shown.items(), strict=True):
            image = images[row, min(channel, images.shape[1] - 1)]
            own = preview.separate_scans and name in ("partner", "corrupted")
            low, high = _limits(image) if own else scales.get(name, limits)
            if preview.separate_scans and _cut_out(image):
                image = np.where(image == 0, low, image)
            axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(color=FRAME, linewidth=0.5)
            if name == "corrupted" and not is_speckled(regions):
                outline(axis, regions)
            if name in preview.boxes and not depth:
                number_boxes(axis, preview.boxes[name][row], image.shape)
            if row == 0:
                axis.set_title(preview.captions[name], fontsize=9)
        words = [str(row + 1)] if preview.matrix is not None else []
        words += [f"axial slice {numbers[row] + 1} of {depth}"] if numbers is not None else []
        row_axes[0].set_ylabel(" · ".join(words), fontsize=8, rotation=90 if depth else 0)
        if not depth:
            row_axes[0].yaxis.label.set(ha="right", va="center")
        if row < len(notes):
            # In the middle of the whole row: of a panel, or between two.
            middle, x = divmod(len(shown) - 1, 2)
            row_axes[middle].set_xlabel(notes[row], fontsize=8, x=(1 + x) / 2, ha="center")


def slice_numbers(mask: np.ndarray) -> np.ndarray:
    """Axial slice of each volume to draw: the one with most of the mask, or the middle one.

    Parameters
    ----------
    mask : ndarray of bool, shape (N, 1, D, H, W)

    Returns
    -------
    ndarray, shape (N,)
    """
    covered = mask.sum(axis=(1, 3, 4))
    return np.where(covered.any(axis=1), covered.argmax(axis=1), (mask.shape[2] - 1) // 2)


def _at(volumes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """One slice of each volume: (N, C, H, W)."""
    return volumes[np.arange(len(volumes)), :, numbers]


def _cut_out(image: np.ndarray) -> bool:
    """Whether more than half of an image is 0, but not all."""
    return bool(image.size / 2 < np.count_nonzero(image == 0) < image.size)


def _limits(image: np.ndarray) -> tuple[float, float]:
    """Intensity range from the 0.5th to the 99.5th percentile.

    The zeros around an organ that was cut out do not count.
    """
    low, high = np.percentile(image[image != 0] if _cut_out(image) else image, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def _high(errors: np.ndarray) -> float:
    return float(np.percentile(errors, 99.5)) or 1.0
