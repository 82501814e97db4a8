"""The help line of napari for the layers of a scan. Needs no Qt.

napari writes which keys choose its tools, such as "use <2> for paint". On the layers of a scan some
of these keys do something else.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_sslseg.gui.viewer.scene import ROLE

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

VIEW_HELP = "Page Up, Page Down: another scan, right or middle button: brightness and contrast"
VIEWED = dict.fromkeys(("scan", "prediction", "live", "uncertainty", "errors"), VIEW_HELP)
"""Help of the layers that cannot be painted on, by role."""


class LayerHelp:
    """Writes the help of the active layer.

    Parameters
    ----------
    scene : Scene
    texts : mapping of str to str
        Help by role of the layer; layers of other roles keep the help of napari.
    """

    def __init__(self, scene: "Scene", texts: Mapping[str, str]) -> None:
        self.scene, self.texts = scene, texts
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
            text = "" if layer is None else self.texts.get(layer.metadata.get(ROLE, ""), "")
            self._layer, self._text = (layer, text) if text else (None, "")
            if self._layer is not None:
                self._layer.events.help.connect(self._replace)
        if self._layer is not None:
            self._replace()

    def _replace(self, event: Any = None) -> None:
        self._layer.help = self.scene.viewer.help = self._text
