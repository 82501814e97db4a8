"""Letters of the sides of the patient at the four edges of the picture. Needs no Qt."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_sslseg.core.scans.geometry import Geometry
    from napari_sslseg.gui.viewer.shown_scan import ShownScan

PLACES = {
    "left": "middle_left",
    "right": "middle_right",
    "top": "top_center",
    "bottom": "bottom_center",
}
"""Position of the letters of each edge on the canvas of napari."""

SIDES = ("LR", "PA", "IS")
"""Side at the low and at the high end of each patient axis."""

OBLIQUE = 0.5
"""An edge has a second letter if this share of its direction points there: from 30 degrees on."""


class EdgeLetters:
    """Shows the side of the patient at each edge, for the view that is really shown.

    The letters follow the order of the axes, as after roll and transpose, and the orientation of
    the camera. There are none in 3D, without a scan, and when a layer of the scan was rotated.
    """

    def __init__(self, scene: "ShownScan") -> None:
        self.scene = scene
        viewer = scene.viewer
        self._overlays = _make_overlays(viewer)
        for events, names in (
            (viewer.dims.events, ("order", "ndisplay", "ndim")),
            (camera(viewer).events, ("orientation",)),
        ):
            for name in names:
                getattr(events, name).connect(self.show)
        self._layer: Any = None

    def show(self, event: Any = None) -> None:
        """Show the letters of the present view."""
        layer = self.scene.image
        if layer is not self._layer:
            for emitter in _moves(self._layer):
                emitter.disconnect(self.show)
            for emitter in _moves(layer):
                emitter.connect(self.show)
            self._layer = layer
        letters = self.letters()
        if self._overlays is None:
            overlay = self.scene.viewer.text_overlay
            ours = " " + "   ".join(f"{edge}: {text}" for edge, text in letters.items())
            # A text of the user, which does not begin with a space, stays.
            if not overlay.text or overlay.text.startswith(" "):
                overlay.text = ours if letters else ""
                overlay.position, overlay.visible = "top_left", bool(letters)
            return
        for edge, overlay in self._overlays.items():
            overlay.text = letters.get(edge, "")
            overlay.visible = bool(overlay.text)

    def letters(self) -> dict[str, str]:
        """Letters of the left, right, top and bottom edge; empty where they are not sure."""
        image, volume, viewer = self.scene.image, self.scene.session.volume, self.scene.viewer
        first = viewer.dims.ndim - 3  # Other layers may have more axes.
        shown = [axis - first for axis in viewer.dims.displayed]
        if image is None or volume is None or len(shown) != 2 or min(shown) < 0:
            return {}
        if not _lies_straight(image, volume.geometry):
            return {}
        down, right = (edge_letters(volume.geometry, axis) for axis in shown)
        vertical, horizontal = (str(way) for way in camera(viewer).orientation2d)
        top, bottom = down if vertical == "down" else down[::-1]
        left, right_ = right if horizontal == "right" else right[::-1]
        return {"left": left, "right": right_, "top": top, "bottom": bottom}


def edge_letters(geometry: "Geometry", axis: int) -> tuple[str, str]:
    """Sides of the patient at the start and at the end of an axis of the display grid.

    Parameters
    ----------
    geometry : Geometry
        Geometry of the scan.
    axis : int
        Axis of the display grid, from 0 to 2.

    Returns
    -------
    tuple of (str, str)
        One letter each of R, L, A, P, S and I; two letters for an oblique axis, such as ``RA``, the
        nearer side first.
    """
    along = geometry.display_affine[:3, axis] / np.linalg.norm(geometry.display_affine[:3, axis])
    order = np.argsort(-np.abs(along), kind="stable")
    named = [n for n in order if n == order[0] or abs(along[n]) >= OBLIQUE]
    end = "".join(SIDES[n][int(along[n] > 0)] for n in named)
    start = "".join(SIDES[n][int(along[n] <= 0)] for n in named)
    return start, end


def _moves(layer: Any) -> list[Any]:
    """Events of a layer that is moved or turned."""
    events = None if layer is None else layer.events
    return [] if events is None else [events.scale, events.rotate, events.shear, events.affine]


def _lies_straight(image: Any, geometry: "Geometry") -> bool:
    """Whether the layer has the scale of the scan, and was neither rotated nor flipped."""
    return (
        bool(np.allclose(image.scale, geometry.spacing))
        and bool(np.allclose(image.rotate, np.eye(3)))
        and not np.any(image.shear)
        and bool(np.allclose(image.affine.affine_matrix, np.eye(4)))
    )


def _make_overlays(viewer: Any) -> dict[str, Any] | None:
    """Add a text at each edge of the canvas; None for napari before 0.9, which has one text."""
    canvas = getattr(viewer, "canvas", None)
    if canvas is None:
        return None
    from napari.components.overlays import TextOverlay

    made = {}
    for edge, position in PLACES.items():
        key = f"sslseg_{edge}"
        if key not in canvas.overlays:
            canvas.overlays[key] = TextOverlay(position=position, font_size=12, visible=False)
        made[edge] = canvas.overlays[key]
    return made


def camera(viewer: Any) -> Any:
    """Return the camera of a viewer, under its name since napari 0.9 or before."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera
