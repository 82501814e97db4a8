"""The mouse over the picture moves the point that the user looks at. Needs no Qt."""

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

LEFT = 1


class PointMouse:
    """Moves the point with each press of the left button, and with Shift and a move.

    A press does what the tool says as well, so that the other planes show the place that is
    painted.
    """

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        # Weak references, so that the viewer does not keep a closed panel alive.
        reference = weakref.ref(self)

        def pressed(viewer: Any, event: Any) -> None:
            mouse = reference()
            if mouse is not None and event.button == LEFT and not event.modifiers:
                mouse.scene.look.move_to_world(event.position)

        def moved(viewer: Any, event: Any) -> None:
            mouse = reference()
            # The modifiers are vispy keys, which compare equal to their names.
            if mouse is not None and len(event.modifiers) == 1 and "Shift" in event.modifiers:
                mouse.scene.look.move_to_world(event.position)

        self._pressed, self._moved = pressed, moved
        scene.viewer.mouse_drag_callbacks.append(pressed)
        scene.viewer.mouse_move_callbacks.append(moved)

    def release(self) -> None:
        """Disconnect from the viewer."""
        viewer = self.scene.viewer
        for callbacks, ours in (
            (viewer.mouse_drag_callbacks, self._pressed),
            (viewer.mouse_move_callbacks, self._moved),
        ):
            if ours in callbacks:
                callbacks.remove(ours)
