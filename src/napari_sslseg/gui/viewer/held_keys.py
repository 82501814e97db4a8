"""Makes napari forget a key of a tool when it is released. Needs no Qt."""

from typing import Any


class HeldKeys:
    """Forgets keys that were released.

    napari gives back the former tool when the key of a tool is released after it was held for a
    moment. It never forgets the key, so that Ctrl+E or Ctrl+Z later counts as the release of the E
    or Z that chose a tool long ago, and gives back the tool before that. napari has no public
    access to what it remembers.
    """

    def __init__(self, viewer: Any) -> None:
        qt_viewer = viewer.window._qt_viewer
        self._keys = qt_viewer._key_map_handler._key_release_generators
        self._released = qt_viewer.canvas._scene_canvas.events.key_release
        self._released.connect(self._forget, position="last")

    def release(self) -> None:
        """Disconnect from the viewer."""
        self._released.disconnect(self._forget)

    def _forget(self, event: Any) -> None:
        if event.key is not None:
            self._keys.pop(event.key.name, None)
