"""Lines through the point that the user looks at, over the picture of napari."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

COLOUR = (1.0, 0.84, 0.2, 0.67)
GAP = 3.0
"""Pixels of the scan around the point that stay free."""

ABOVE = 10**6
"""Order of drawing, above all layers."""


class MainCrosshair:
    """Draws lines in the scene of napari's canvas: they are no layer, and in no file.

    Parameters
    ----------
    scene : Scene
        Its viewer has a window; otherwise nothing is drawn.
    """

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        self._lines = _make_lines(scene.viewer)
        self.update()

    def update(self) -> None:
        """Move the lines to the point; there are none in 3D."""
        if self._lines is None:
            return
        image, hidden = self.scene.image, self.scene.look.hidden
        self._lines.visible = image is not None and hidden is not None
        if image is None or hidden is None:
            return
        first = self.scene.viewer.dims.ndim - 3
        rows, columns = (axis - first for axis in self.scene.viewer.dims.displayed)
        at, scale = self.scene.look.world(), np.asarray(image.scale)
        corner = np.asarray(image.data_to_world((-0.5, -0.5, -0.5)))
        end = corner + scale * image.data.shape
        gap = GAP * min(scale[rows], scale[columns])
        y, x = at[rows], at[columns]
        self._lines.set_data(
            pos=np.array(
                [
                    (corner[columns], y), (x - gap, y), (x + gap, y), (end[columns], y),
                    (x, corner[rows]), (x, y - gap), (x, y + gap), (x, end[rows]),
                ],
                np.float32,
            )
        )  # fmt: skip

    def remove(self) -> None:
        """Remove the lines from the canvas."""
        if self._lines is not None:
            self._lines.parent = None
            self._lines = None


def _make_lines(viewer: Any) -> Any:
    """Add lines to the canvas of a viewer; None without one."""
    canvas = getattr(getattr(getattr(viewer, "window", None), "_qt_viewer", None), "canvas", None)
    view = getattr(canvas, "view", None)
    if view is None:
        return None
    from vispy.scene.visuals import Line

    lines = Line(
        pos=np.zeros((8, 2), np.float32), connect="segments", color=COLOUR, parent=view.scene
    )
    lines.order = ABOVE
    lines.set_gl_state("translucent", depth_test=False)
    return lines
