"""The help line of napari for the layers of a scan. Needs no Qt.

napari writes which keys choose its tools, such as "use <2> for paint". On the layers of a scan some
of these keys do something else.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_sslseg.gui.viewer.scene import ROLE

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

VIEW_HELP = "Page Up, Page Down: another scan, right or middle button: brightness and contrast"
"""Help of a layer that cannot be painted on."""


class LayerHelp:
    """Writes the help of the active layer.

    Parameters
    ----------
    scene : Scene
    text_of : callable
        Returns the help of a layer with a role. Layers of others keep the help of napari.
    """

    def __init__(self, scene: "Scene", text_of: Callable[[str], str]) -> None:
        self.scene, self.text_of = scene, text_of
        self._layer: Any = None
        self._text = ""
        scene.viewer.layers.selection.events.active.connect(self.follow)
        scene.changed.connect(self.follow)
        self.follow()

    def follow(self, event: Any = None) -> None:
        """Replace the help of the layer that is active now."""
        layer = self.scene.viewer.layers.selection.active
        if layer is not None and not self.scene.owns(layer):
            layer = None
        if layer is not self._layer:
            if self._layer is not None:
                self._layer.events.help.disconnect(self._replace)
            if layer is not None:
                layer.events.help.connect(self._replace)
            self._layer = layer
        if layer is not None:
            self._text = self.text_of(layer.metadata.get(ROLE, ""))
            self._replace()

    def _replace(self, event: Any = None) -> None:
        self._layer.help = self.scene.viewer.help = self._text
