"""The mouse wheel over the picture changes the slice, and zooms with Ctrl. Needs no Qt.

That is the habit of viewers in radiology; napari has it the other way round.
"""

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.gui.viewer.edge_letters import camera

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

ZOOM_STEP = 1.15
SCROLL = "dims_scroll"
"""Name of the function of napari that changes the slice with Ctrl."""

PREFERENCE = "wheel"
"""Key in the project under which ``zoom`` says that the wheel zooms without Ctrl."""


class Wheel:
    """Handles the wheel while a scan is shown in two dimensions.

    Attributes
    ----------
    replaced : list of callable
        What napari does with the wheel, which is called where this does nothing.
    """

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        self._progress = 0.0
        # A weak reference, so that the viewer does not keep a closed panel alive.
        reference = weakref.ref(self)

        def turned(viewer: Any, event: Any) -> None:
            wheel = reference()
            if wheel is not None and not wheel.turn(event):
                for scroll in wheel.replaced:
                    scroll(viewer, event)

        self._callback = turned
        callbacks = scene.viewer.mouse_wheel_callbacks
        self.replaced = [one for one in callbacks if getattr(one, "__name__", "") == SCROLL]
        for one in self.replaced:
            callbacks.remove(one)
        callbacks.insert(0, turned)

    @property
    def zooms(self) -> bool:
        """Whether the wheel zooms, and changes the slice with Ctrl, as in napari."""
        project = self.scene.session.project
        return project is not None and project.recall(PREFERENCE, "") == "zoom"

    def prefer(self, zooms: bool) -> None:
        """Let the wheel zoom, or change the slice."""
        self.scene.session.remember(PREFERENCE, "zoom" if zooms else "slice")

    def release(self) -> None:
        """Disconnect from the viewer."""
        if self._callback in self.scene.viewer.mouse_wheel_callbacks:
            self.scene.viewer.mouse_wheel_callbacks.remove(self._callback)
            self.scene.viewer.mouse_wheel_callbacks.extend(self.replaced)

    def turn(self, event: Any) -> bool:
        """Change the slice or zoom; False if napari is to do what it does."""
        image, viewer = self.scene.image, self.scene.viewer
        modifiers = [str(getattr(key, "name", key)) for key in event.modifiers]
        if image is None or viewer.dims.ndisplay != 2 or modifiers not in ([], ["Control"]):
            return False
        if self.zooms or event.handled:
            return False
        event.handled = True
        up = float(np.clip(event.delta[1], -1, 1))
        if modifiers:
            self._zoom(ZOOM_STEP**up, event.position)
            return True
        self._progress -= up
        steps = int(self._progress)
        self._progress -= steps
        if steps:
            self._move(steps)
        return True

    def _move(self, steps: int) -> None:
        """Show another slice of the view, which may be rolled."""
        dims = self.scene.viewer.dims
        axis = dims.not_displayed[-1]
        last = self.scene.viewer.dims.nsteps[axis] - 1
        dims.set_current_step(axis, int(np.clip(dims.current_step[axis] + steps, 0, last)))

    def _zoom(self, factor: float, position: Any) -> None:
        """Zoom so that the place under the mouse stays where it is."""
        view = camera(self.scene.viewer)
        shown = list(self.scene.viewer.dims.displayed)
        place = np.asarray(position, float)[shown]
        centre = np.asarray(view.center, float)
        centre[-2:] = place + (centre[-2:] - place) / factor
        view.zoom *= factor
        view.center = tuple(centre)
