"""Two further planes in a dock below the picture, which the user can switch on."""

from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QHBoxLayout, QMainWindow, QWidget

from napari_sslseg.gui.viewer.planes.main_crosshair import MainCrosshair
from napari_sslseg.gui.viewer.planes.plane_view import PlaneView

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

TITLE = "Other planes"
HEIGHT = 240
DELAY_MILLISECONDS = 50

EVENTS = (
    *("data", "visible", "opacity", "colormap", "contrast_limits", "gamma"),
    *("interpolation2d", "contour", "paint", "labels_update", "set_data"),
)
"""Events of layers after which the slices are drawn again; the last one is that of undo."""

CORNERS = (
    (Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea),
    (Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea),
)
"""Corners of the window that the docks at the sides keep, so that no panel becomes lower."""


class PlanesPane(QWidget):
    """The two planes, and the lines in the picture of napari."""

    def __init__(self, scene: "Scene") -> None:
        super().__init__()
        self.setObjectName("planes-pane")
        self.scene = scene
        self._layers: list[Any] = []
        layout = QHBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.setSpacing(4)
        self.views = [PlaneView(scene, number) for number in range(2)]
        for view in self.views:
            layout.addWidget(view, 1)
        self.crosshair = MainCrosshair(scene)
        # Several events become one drawing.
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MILLISECONDS)
        self._timer.timeout.connect(self._draw)
        scene.look.moved.connect(self._follow)
        scene.changed.connect(self._watch_layers)
        scene.front_changed.connect(self._watch_layers)
        self._watch_layers()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Draw what happened while the pane was hidden."""
        super().showEvent(event)
        self._plan()

    def release(self) -> None:
        """Disconnect from the scene and the viewer."""
        self._timer.stop()
        self.scene.look.moved.disconnect(self._follow)
        self.scene.changed.disconnect(self._watch_layers)
        self.scene.front_changed.disconnect(self._watch_layers)
        self._forget_layers()
        self.crosshair.remove()

    def _follow(self) -> None:
        self.crosshair.update()
        self._plan()

    def _plan(self, event: Any = None) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _draw(self) -> None:
        if self.isVisible():
            for view in self.views:
                view.draw_slice()

    def _watch_layers(self) -> None:
        """Follow what is painted, and how the layers look."""
        self._forget_layers()
        scene = self.scene
        labels = [*scene.of_role("labels"), *scene.of_role("prediction"), *scene.of_role("live")]
        self._layers = labels if scene.image is None else [scene.image, *labels]
        for emitter in self._emitters():
            emitter.connect(self._plan)
        self._follow()

    def _forget_layers(self) -> None:
        for emitter in self._emitters():
            emitter.disconnect(self._plan)
        self._layers = []

    def _emitters(self) -> list[Any]:
        return [
            getattr(layer.events, name)
            for layer in self._layers
            for name in EVENTS
            if hasattr(layer.events, name)
        ]


class ThreePlanes:
    """Switches the other planes on and off.

    Attributes
    ----------
    changed : Signal of bool
        The planes were switched on or off, also by closing their dock.
    """

    changed = Signal(bool)

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        self._pane: PlanesPane | None = None
        self._dock: Any = None
        self._corners: list[tuple[Qt.Corner, Qt.DockWidgetArea]] = []

    @property
    def shown(self) -> bool:
        """Whether the planes are switched on."""
        return self._pane is not None

    def show(self, shown: bool) -> None:
        """Switch the planes on or off."""
        window = getattr(self.scene.viewer, "window", None)
        if shown == self.shown or window is None:
            return
        if shown:
            self._pane = PlanesPane(self.scene)
            self._dock = window.add_dock_widget(
                self._pane, name=TITLE, area="bottom", add_vertical_stretch=False
            )
            self._dock.destroyed.connect(self._closed)
            main = self._dock.parent()
            if isinstance(main, QMainWindow):
                self._corners = [(corner, main.corner(corner)) for corner, _ in CORNERS]
                for corner, area in CORNERS:
                    main.setCorner(corner, area)
                main.resizeDocks([self._dock], [HEIGHT], Qt.Orientation.Vertical)
            self._fit()
            self.changed.emit(True)
        else:
            dock = self._dock
            self._closed()
            window.remove_dock_widget(dock)

    def release(self) -> None:
        """Switch the planes off."""
        self.show(False)

    def _closed(self) -> None:
        """Forget the pane, which its dock was closed with."""
        pane, self._pane, self._dock = self._pane, None, None
        if pane is None:
            return
        pane.release()
        main = pane.window()
        if isinstance(main, QMainWindow):
            for corner, area in self._corners:
                main.setCorner(corner, area)
        pane.deleteLater()
        self._fit()
        self.changed.emit(False)

    def _fit(self) -> None:
        """Show the whole slice once the picture has its new size."""
        viewer = self.scene.viewer
        QTimer.singleShot(0, lambda: viewer.reset_view() if self.scene.image is not None else None)
