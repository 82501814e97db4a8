"""Keys of the label panel; the manifest of a plugin cannot bind any. Needs no Qt.

Those of the slices are letters that napari 0.9 uses neither in the viewer nor for labels. Digits
choose a structure, as in other programs; with a labels layer of ours they do so instead of choosing
napari's tools, which keep their letters. The polygon has none there, so it gets one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

DONE, NEXT_OPEN, NEXT_PAINTED = "D", "N", "U"
POLYGON = "G"

TOOLS = (
    ("paint", "Brush", "P", "Paint with the chosen structure."),
    ("fill", "Fill", "F", "Fill what is enclosed, or change a whole area, with one click."),
    ("polygon", "Polygon", POLYGON, "Click corner after corner; a double click closes the shape."),
    ("erase", "Erase", "E", "Erase what was painted, of any structure."),
    ("pick", "Pick", "L", "Choose a structure by clicking on it in the picture."),
    ("pan_zoom", "Move", "Z", "Move the picture, or zoom with the wheel; hold Space for a moment."),
)
"""Mode of napari, name, key, and what it does."""


def bind_slice_keys(viewer: Any, actions: dict[str, Callable[[], Any]]) -> None:
    """Bind keys of the viewer; of an earlier panel in the same window, this one takes them over."""
    for key, action in actions.items():
        viewer.bind_key(key, _pressed(action), overwrite=True)


def free_slice_keys(viewer: Any) -> None:
    """Take the keys of the viewer back."""
    for key in (DONE, NEXT_OPEN, NEXT_PAINTED):
        viewer.bind_key(key, None, overwrite=True)


def bind_label_keys(layer: Any, choose: Callable[[int], Any]) -> None:
    """Bind keys of a labels layer: 1…9 call ``choose`` with 0…8."""
    for number in range(9):
        layer.bind_key(str(number + 1), _pressed(partial(choose, number)), overwrite=True)

    def polygon(layer: Any) -> None:
        layer.mode = "polygon"

    layer.bind_key(POLYGON, polygon, overwrite=True)


def _pressed(action: Callable[[], Any]) -> Callable[[Any], None]:
    """Make what napari calls with the viewer or layer; what it returned would be called later."""

    def pressed(_: Any) -> None:
        action()

    return pressed
