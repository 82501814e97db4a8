"""Keyboard shortcuts of the label panel; a plugin manifest cannot bind keys. Needs no Qt.

The keys for slices are letters that napari 0.9 uses neither in the viewer nor in labels layers. In
the labels layer of the plugin, digits select a structure, as in other programs, instead of a tool
of napari; the tools keep their letters. The polygon tool has no letter in napari, so it gets one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

DONE, NEXT_OPEN, NEXT_PAINTED = "D", "N", "U"
POLYGON = "G"

TOOLS = (
    ("paint", "Brush", "P", "Paint with the selected structure."),
    ("fill", "Fill", "F", "Fill an enclosed area, or relabel a whole area, with one click."),
    ("polygon", "Polygon", POLYGON, "Click the corners of a shape; double-click to close it."),
    ("erase", "Erase", "E", "Erase labels of any structure."),
    ("pick", "Pick", "L", "Select a structure by clicking on it in the image."),
    (
        "pan_zoom",
        "Move",
        "Z",
        "Move the image, or zoom with the wheel. Also: hold Space.",
    ),
)
"""Mode of napari, name, key and tooltip of each tool."""

HELP = ", ".join(f"{key}: {name.lower()}" for _, name, key, _ in TOOLS) + (
    ", 1 to 9: structure, [ ]: brush size"
)
"""Help line of napari while the labels can be painted."""


def bind_slice_keys(viewer: Any, actions: dict[str, Callable[[], Any]]) -> None:
    """Bind keys of the viewer; they replace those of an earlier panel in the same window."""
    for key, action in actions.items():
        viewer.bind_key(key, _pressed(action), overwrite=True)


def unbind_slice_keys(viewer: Any) -> None:
    """Remove the keys from the viewer."""
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
    """Wrap an action: napari passes the viewer or layer, and calls any returned function later."""

    def pressed(_: Any) -> None:
        action()

    return pressed
