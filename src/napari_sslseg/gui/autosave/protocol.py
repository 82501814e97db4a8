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
    def changing(self) -> SignalInstance:
        """Emitted before the layers get the data of another scan, or are removed."""

    @property
    def changed(self) -> SignalInstance:
        """Emitted when another scan is shown."""

    @property
    def slice(self) -> int:
        """Number of the slice that is shown."""

    @property
    def in_plane(self) -> bool:
        """Whether the picture is a slice along the plane."""

    @property
    def is_complete(self) -> bool:
        """Whether the viewer still has the layers of the scan."""

    def go_to(self, index: int) -> None:
        """Show a slice."""
