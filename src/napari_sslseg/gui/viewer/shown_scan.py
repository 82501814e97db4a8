"""What parts of the scene need of it, so that they do not import the scene that makes them."""

from typing import TYPE_CHECKING, Any, Protocol

from napari_sslseg.core.common.sizes import Plane

if TYPE_CHECKING:
    from psygnal import SignalInstance

    from napari_sslseg.gui.model.session import Session


class ShownScan(Protocol):
    """A scene with the layers of one scan, see :class:`napari_sslseg.gui.viewer.scene.Scene`."""

    session: "Session"
    viewer: Any
    image: Any
    labels: Any

    @property
    def changing(self) -> "SignalInstance":
        """Emitted when another scan is going to be shown."""

    @property
    def changed(self) -> "SignalInstance":
        """Emitted when another scan is shown."""

    @property
    def plane(self) -> Plane:
        """Plane of the project."""

    @property
    def is_within(self) -> bool:
        """Whether the slider is within the scan."""

    @property
    def slice(self) -> int:
        """Number of the slice that is shown."""

    @property
    def class_names(self) -> dict[int, str]:
        """Names of all values that can be painted, but the background."""

    @property
    def paintable(self) -> list[int]:
        """Values that the brush may have."""

    def owns(self, layer: Any) -> bool:
        """Whether a layer was added by the plugin."""

    def take_labels(self) -> None:
        """Make the labels the active layer."""
