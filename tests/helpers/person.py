"""A simulated user of the plugin: opens it from napari, clicks, drags, types, drops, answers."""

from contextlib import contextmanager

from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QMouseEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDialog,
    QMessageBox,
    QRadioButton,
    QScrollArea,
    QWidget,
)

PLUGIN, DOCK = "napari-sslseg", "Few-shot segmentation"
LEFT = Qt.MouseButton.LeftButton


class Person:
    """A simulated user of a window with the plugin.

    Parameters
    ----------
    viewer, qtbot
        The viewer, and the fixture that waits for events.
    """

    def __init__(self, viewer, qtbot):
        self.viewer, self.qtbot = viewer, qtbot
        _, self.dock = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
        qtbot.waitUntil(self.dock.isVisible)
        self.session, self.scene = self.dock.session, self.dock.scene
        self.problems, self.notes = [], []
        self.session.problem.connect(lambda problem: self.problems.append(problem.sentence))
        self.session.note.connect(self.notes.append)

    @property
    def project(self):
        return self.session.project

    @property
    def layer(self):
        return self.scene.labels

    @property
    def window(self):
        return self.viewer.window._qt_window

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    def until(self, condition):
        self.qtbot.waitUntil(condition)

    def idle(self):
        """Wait until all jobs have ended."""
        self.until(lambda: not self.session.jobs)

    # The dock

    def step(self, name):
        """Press the button of a step; returns its panel."""
        self.click(self.dock.findChild(QWidget, f"step-{name}"))
        panel = self.dock.panels[name]
        assert panel.isVisible()
        return panel

    def click(self, button):
        """Scroll to a widget and click it."""
        parent = button.parentWidget()
        while parent is not None:
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(button)
            parent = parent.parentWidget()
        assert button.isVisible(), button.objectName()
        assert button.isEnabled(), button.objectName()
        self.qtbot.mouseClick(button, LEFT)

    def choose(self, combo, data):
        """Choose an entry of a combo box by its data."""
        assert combo.isEnabled()
        index = combo.findData(data)
        assert index >= 0, data
        combo.setCurrentIndex(index)
        combo.activated.emit(index)

    def show(self, name):
        """Show a scan by a double click on its row."""
        panel = self.step("Scans")
        self.pick(name)
        table = panel.list.table
        place = table.visualRect(table.currentIndex()).center()
        self.qtbot.mouseDClick(table.viewport(), LEFT, pos=place)
        self.until(lambda: self.session.current == name)
        return panel

    def pick(self, name):
        """Choose the row of a scan."""
        rows = self.dock.panels["Scans"].list
        index = rows.table.proxy.mapFromSource(rows.model.index(rows.model.row_of(name), 0))
        rows.table.scrollTo(index)
        place = rows.table.visualRect(index).center()
        self.qtbot.mouseClick(rows.table.viewport(), LEFT, pos=place)
        assert rows.chosen == [name]

    # The picture

    def press(self, key, modifier=Qt.KeyboardModifier.NoModifier):
        self.qtbot.keyClick(self.canvas, key, modifier)

    def at(self, down, right):
        """Position on the canvas, given in voxels from the centre of the scan."""
        data, axes = self.scene.image, self.viewer.dims.displayed
        scale = [abs(float(data.scale[axis])) for axis in axes]
        size, zoom = self.canvas.size(), self.viewer.camera.zoom
        return QPoint(
            int(size.width() / 2 + right * scale[1] * zoom),
            int(size.height() / 2 + down * scale[0] * zoom),
        )

    def drag(self, *places):
        """Drag from position to position with the left button pressed."""
        spots = [self.at(*place) for place in places]
        self._move(spots[0], Qt.MouseButton.NoButton)
        self.qtbot.mousePress(self.canvas, LEFT, pos=spots[0])
        for spot in spots[1:]:
            self._move(spot, LEFT)
            self.qtbot.wait(5)
        self.qtbot.mouseRelease(self.canvas, LEFT, pos=spots[-1])

    def _move(self, place, buttons):
        everywhere = QPointF(place), QPointF(self.canvas.mapToGlobal(place))
        none, kind = Qt.MouseButton.NoButton, QEvent.Type.MouseMove
        event = QMouseEvent(kind, *everywhere, none, buttons, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self.canvas, event)

    def saved(self):
        """Wait until the labels are saved; returns the saved labels."""
        self.until(lambda: self.scene.autosaver.status == "saved")
        return self.project.labels(self.session.current).data

    # Dropping and answering

    def drop(self, widget, paths):
        """Drop files or folders."""
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        copy, none = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
        enter = QDragEnterEvent(QPoint(20, 20), copy, data, LEFT, none)
        QApplication.sendEvent(widget, enter)
        assert enter.isAccepted()
        QApplication.sendEvent(widget, QDropEvent(QPointF(20, 20), copy, data, LEFT, none))

    @contextmanager
    def answering(self, text):
        """Press the button with this text in the next dialog, which must appear."""
        asked = []

        def look():
            box = QApplication.activeModalWidget()
            if not isinstance(box, QDialog):
                timer.start(20)
                return
            asked.append(box.text() if isinstance(box, QMessageBox) else box.windowTitle())
            buttons = {b.text().replace("&", ""): b for b in box.findChildren(QAbstractButton)}
            if text not in buttons:
                asked.append(f"one of {list(buttons)}")
                box.reject()
                return
            self.qtbot.mouseClick(buttons[text], LEFT)
            if isinstance(buttons[text], QRadioButton):
                self.qtbot.mouseClick(buttons["OK"], LEFT)

        timer = QTimer()
        timer.setSingleShot(True)
        timer.timeout.connect(look)
        timer.start(20)
        yield asked
        timer.stop()
        assert len(asked) == 1, (text, asked)

    # The end

    def forget_window(self):
        """Remove the closed window from the fixture, which would close it again."""
        del self.viewer.window._qt_window

    def end(self):
        """Stop all jobs and close the project."""
        for job in list(self.session.jobs):
            job.stop()
        self.idle()
        self.session.close()
