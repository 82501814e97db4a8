"""What a pretext task does to a slice, as small pictures with captions. Needs no Qt."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from napari_sslseg.core.common.pictures import PretextPreview

ORDER = ("original", "partner", "corrupted", "mask", "levels", "restored", "error")
MARK = (230, 159, 0)
"""Orange of Okabe and Ito: what is masked."""
BOX_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0))
TINT = 0.45
SPECKLED = 0.5
"""Share of masked pixels on an outline above which outlines would hide the picture."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture with its caption.

    Attributes
    ----------
    name : str
        Such as ``original``.
    caption, hint : str
        What it shows, in a few words and in a sentence.
    pixels : ndarray, shape (H, W, 3), uint8
    aspect : float
        Height over width of a pixel in mm.
    bar : ndarray, shape (K, 3), uint8, or None
        Colours of the scale, from the lowest value up; None where it needs none.
    limits : (str, str)
        What stands at its ends.
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

    Original, corrupted and restored slice share one grey scale, that of the original. The error has
    its own colours, whose steps look equally large, and a scale. Of several channels the first is
    shown, of volumes the axial slice with most of the mask.

    Parameters
    ----------
    preview : PretextPreview
        What to show.
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
            hint = "How far the network is off; bright is far, in units of the prepared values."
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
    """How alike the network finds examples."""
    matrix = preview.matrix
    assert matrix is not None
    bar = colour_table("viridis")
    low, high = (0.0, _high(matrix)) if preview.matrix_distances else (-1.0, 1.0)
    return Tile(
        "matrix",
        "Distance of pairs" if preview.matrix_distances else "How alike (bright: alike)",
        bar[to_bytes(matrix, low, high)],
        1.0,
        preview.matrix_title.replace("\n", " "),
        bar,
        (f"{low:.2g}".replace("-", "−"), f"{high:.2g}"),
    )


def limits(plane: np.ndarray) -> tuple[float, float]:
    """Grey scale that a few bright pixels cannot darken."""
    low, high = np.percentile(plane, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def to_bytes(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values from ``low`` to ``high`` as 0…255, others clipped."""
    scaled = (plane.astype(np.float32) - low) * (255 / (high - low))
    return np.nan_to_num(scaled).clip(0, 255).astype(np.uint8)


def to_grey(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey picture, shape (H, W, 3)."""
    return np.repeat(to_bytes(plane, low, high)[..., None], 3, axis=2)


def marked(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Tint masked pixels, and outline them where the outlines leave something to see."""
    tinted = pixels.copy()
    colour = np.array(MARK, np.float32)
    tinted[mask] = ((1 - TINT) * pixels[mask] + TINT * colour).astype(np.uint8)
    edge = outline(mask)
    if edge.sum() < SPECKLED * max(1, mask.sum()):
        tinted[edge] = MARK
    return tinted


def outline(mask: np.ndarray) -> np.ndarray:
    """Masked pixels beside one that is not; the border of the picture is no outline."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def boxed(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Outline boxes of (top, left, height, width); the same number has the same colour."""
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
    """256 colours of a map of napari, as bytes."""
    from napari.utils.colormaps import ensure_colormap

    table: Callable[[np.ndarray], np.ndarray] = ensure_colormap(name).map
    return (table(np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


def _plane(preview: PretextPreview, images: np.ndarray) -> np.ndarray:
    """First channel of the first example, of volumes one slice."""
    first = images[0, 0]
    if first.ndim == 3:
        from napari_sslseg.core.pretext.pictures.figure import slice_numbers

        first = first[int(slice_numbers(preview.mask)[0])]
    return first


def _high(values: np.ndarray) -> float:
    return float(np.percentile(values, 99.5)) or 1.0
