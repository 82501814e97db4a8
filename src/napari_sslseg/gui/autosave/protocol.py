"""What automatic saving needs from the scene that shows the labels."""

from typing import Any, Protocol

from psygnal import SignalInstance


class LabelScene(Protocol):
    """A scene with one labels layer, see :class:`napari_sslseg.gui.viewer.scene.Scene`."""

    @property
    def labels(self) -> Any:
        """The labels layer, or None."""

    @property
    def viewer(self) -> Any:
        """The napari viewer."""

    @property
    def changed(self) -> SignalInstance:
        """Emitted when another scan is shown."""

    @property
    def slice(self) -> int:
        """Number of the slice that is shown."""

    def go_to(self, index: int) -> None:
        """Show a slice."""
