"""Small captioned pictures of a pretext preview. Needs no Qt."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from napari_sslseg.core.common.example_pictures import PretextPreview

ORDER = ("original", "partner", "corrupted", "mask", "levels", "restored", "error")
MARK = (230, 159, 0)
"""Colour of masked pixels: orange of Okabe and Ito."""
BOX_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0))
TINT = 0.45
SPECKLED = 0.5
"""Fraction of masked pixels on outlines above which no outline is drawn."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture with its caption.

    Attributes
    ----------
    name : str
        Name of the image, such as ``original``.
    caption, hint : str
        Short caption, and a tooltip.
    pixels : ndarray, shape (H, W, 3), uint8
        Colours.
    aspect : float
        Ratio of height to width of a pixel in mm.
    bar : ndarray, shape (K, 3), uint8, or None
        Colours of the scale bar, from low to high; None for no scale bar.
    limits : (str, str)
        Texts at the ends of the scale bar.
    """

    name: str
    caption: str
    pixels: np.ndarray
    aspect: float = 1.0
    hint: str = ""
    bar: np.ndarray | None = None
    limits: tuple[str, str] = ("", "")


def tiles(preview: PretextPreview, pixel: tuple[float, float] = (1.0, 1.0)) -> list[Tile]:
    """Make tiles of the first example of a preview.

    Original, corrupted and restored slice share the grey scale of the original. The error has a
    perceptually uniform colour map and a scale bar. Of several channels the first is shown, of
    volumes the axial slice with most of the mask.

    Parameters
    ----------
    preview : PretextPreview
        The preview.
    pixel : (float, float)
        Height and width of a pixel in mm.
    """
    shown = {name: getattr(preview, name) for name in ORDER if name in preview.captions}
    planes = {name: _plane(preview, images) for name, images in shown.items() if images is not None}
    grey = limits(_plane(preview, preview.original))
    aspect = pixel[0] / pixel[1]
    made = []
    for name, plane in planes.items():
        caption, bar, ends, hint = preview.captions[name], None, ("", ""), ""
        if name == "mask":
            under = to_grey(_plane(preview, preview.original), *grey)
            pixels = marked(under, plane.astype(bool))
        elif name == "error":
            high = 1.0 if preview.levels is not None else _high(plane)
            bar = colour_table("magma")
            pixels = bar[to_bytes(plane, 0.0, high)]
            ends = ("0", f"{high:.2g}")
            hint = "Absolute error, in units of the preprocessed intensities; bright is large."
        elif name == "levels" or (name == "restored" and preview.levels is not None):
            pixels = to_grey(plane, 0.0, 1.0)
        else:
            own = preview.separate_scans and name in ("partner", "corrupted")
            pixels = to_grey(plane, *(limits(plane) if own else grey))
        if name in preview.boxes and preview.original.ndim == 4:
            pixels = boxed(pixels, preview.boxes[name][0])
        made.append(Tile(name, caption, pixels, aspect, hint, bar, ends))
    if preview.matrix is not None:
        made.append(matrix_tile(preview))
    return made


def matrix_tile(preview: PretextPreview) -> Tile:
    """Make the tile of the similarity or distance of pairs of examples."""
    matrix = preview.matrix
    assert matrix is not None
    bar = colour_table("viridis")
    low, high = (0.0, _high(matrix)) if preview.matrix_distances else (-1.0, 1.0)
    return Tile(
        "matrix",
        "Distance of pairs"
        if preview.matrix_distances
        else "Similarity of pairs (bright: similar)",
        bar[to_bytes(matrix, low, high)],
        1.0,
        preview.matrix_title.replace("\n", " "),
        bar,
        (f"{low:.2g}".replace("-", "−"), f"{high:.2g}"),
    )


def limits(plane: np.ndarray) -> tuple[float, float]:
    """Return grey limits that a few bright pixels do not affect: percentiles 0.5 and 99.5."""
    low, high = np.percentile(plane, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def to_bytes(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale values from ``low`` to ``high`` to 0…255; others are clipped."""
    scaled = (plane.astype(np.float32) - low) * (255 / (high - low))
    return np.nan_to_num(scaled).clip(0, 255).astype(np.uint8)


def to_grey(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a grey picture, shape (H, W, 3)."""
    return np.repeat(to_bytes(plane, low, high)[..., None], 3, axis=2)


def marked(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Tint masked pixels, and outline them unless the outlines would hide the picture."""
    tinted = pixels.copy()
    colour = np.array(MARK, np.float32)
    tinted[mask] = ((1 - TINT) * pixels[mask] + TINT * colour).astype(np.uint8)
    edge = outline(mask)
    if edge.sum() < SPECKLED * max(1, mask.sum()):
        tinted[edge] = MARK
    return tinted


def outline(mask: np.ndarray) -> np.ndarray:
    """Return masked pixels next to an unmasked one; the border of the picture does not count."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def boxed(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Outline boxes (top, left, height, width); the colour depends on the number of the box."""
    drawn = pixels.copy()
    for number, box in enumerate(np.round(boxes).astype(int)):
        top, left = np.maximum(box[:2], 0)
        bottom, right = np.minimum(box[:2] + box[2:], pixels.shape[:2]) - 1
        if bottom <= top or right <= left:
            continue
        colour = BOX_COLOURS[number % len(BOX_COLOURS)]
        drawn[[top, bottom], left : right + 1] = colour
        drawn[top : bottom + 1, [left, right]] = colour
    return drawn


@lru_cache
def colour_table(name: str) -> np.ndarray:
    """Return 256 colours of a colour map of napari, as bytes."""
    from napari.utils.colormaps import ensure_colormap

    table: Callable[[np.ndarray], np.ndarray] = ensure_colormap(name).map
    return (table(np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


def _plane(preview: PretextPreview, images: np.ndarray) -> np.ndarray:
    """Return the first channel of the first example, of volumes one slice."""
    first = images[0, 0]
    if first.ndim == 3:
        from napari_sslseg.core.pretext.pictures.figure import slice_numbers

        first = first[int(slice_numbers(preview.mask)[0])]
    return first


def _high(values: np.ndarray) -> float:
    return float(np.percentile(values, 99.5)) or 1.0
