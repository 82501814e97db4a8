"""The value below the mouse in the status bar of napari, where it covers no part of the picture."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QMainWindow, QWidget

from napari_sslseg.gui.viewer.pointer.voxel_readout import VoxelReadout

WIDEST = "intensity 1234.5 · gallbladder"
TIP = (
    "Value of the scan below the mouse, in HU for CT, and the structure that is labelled or "
    "predicted there."
)


class ReadoutLabel(QLabel):
    """Shows a :class:`VoxelReadout` at the start of the status bar."""

    def __init__(self, readout: VoxelReadout) -> None:
        super().__init__()
        self.readout = readout
        self.setObjectName("voxel-readout")
        self.setAccessibleName("Value below the mouse")
        self.setToolTip(TIP)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setContentsMargins(6, 0, 6, 0)
        # Otherwise the rest of the bar moves with each value.
        self.setMinimumWidth(self.fontMetrics().horizontalAdvance(WIDEST))
        readout.changed.connect(self.show_text)

    def show_text(self, text: str) -> None:
        """Show a text of the readout."""
        self.setText(text)

    def place(self, panel: QWidget) -> None:
        """Move into the status bar of the window that contains a panel, unless it is there."""
        window = panel.parentWidget()
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        if window is not None and self.parent() is None:
            window.statusBar().insertWidget(0, self)
            self.show()

    def release(self) -> None:
        """Leave the status bar."""
        self.setParent(None)
        self.deleteLater()
