"""What happens when napari or the dock is closed: jobs end, labels are saved, the project closes.

A training that runs is asked about first. It then saves itself, and the window closes after that.
"""

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_sslseg.gui.model.session_jobs import WRITING
from napari_sslseg.gui.widgets.asking import ask

if TYPE_CHECKING:
    from napari_sslseg.gui.widget import FewShotWidget

TRAINING_SECONDS = 60.0
OTHER_SECONDS = 3.0
"""For how long a closing program waits for jobs; what they wrote so far is whole in any case."""

STOP = "Stop it and close"
AT_ONCE = "Close at once"


class Closing(QObject):
    """Watches a dock widget and its window.

    Parameters
    ----------
    widget : FewShotWidget
        The dock widget.
    """

    def __init__(self, widget: "FewShotWidget") -> None:
        super().__init__(widget)
        self.widget = widget
        self.over = False
        self._closing = False
        self._waiting = False
        self._dock: tuple[str, str] | None = None
        self.window: QWidget = widget
        widget.installEventFilter(self)
        widget.session.jobs_changed.connect(self._go_on)
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.shut_down)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Hear that the window or the dock goes."""
        kind = event.type()
        if self.over:
            return False
        if watched is self.widget:
            self._hear_widget(kind)
        elif watched is self.window and kind == QEvent.Type.Close:
            if not self._may_close():
                event.ignore()
                return True
            # napari may still ask something itself, and the window stay.
            self._closing = self.window.isVisible()
            if not self._closing:
                self.shut_down()
        elif kind == QEvent.Type.Hide and self._closing and not event.spontaneous():
            self.shut_down()
        return False

    def _hear_widget(self, kind: QEvent.Type) -> None:
        if kind == QEvent.Type.ParentChange:
            self._moved()
        elif kind == QEvent.Type.Show and self.window is self.widget:
            dock = self.widget.parent()
            window = dock.parent() if isinstance(dock, QDockWidget) else None
            if isinstance(window, QMainWindow):
                self.window = window
                window.installEventFilter(self)
        elif kind == QEvent.Type.Close and self.widget.isWindow():
            self.shut_down()

    def shut_down(self) -> None:
        """End all jobs, save, and let go of the project; once."""
        if self.over:
            return
        self.over = True
        session = self.widget.session
        self.widget.timer.stop()
        jobs = list(session.jobs)
        for job in jobs:
            job.stop()
        begun = time.monotonic()
        for job in jobs:
            lasting = job is session.training or job.kind in WRITING
            longest = TRAINING_SECONDS if lasting else OTHER_SECONDS
            job.wait(max(0.0, longest - (time.monotonic() - begun)))
        session.leaving = True
        session.pump()
        # What cannot be saved in its place is put elsewhere, and told.
        self.widget.scene.keeper.last_chance()
        session.close()
        self.widget.released.emit()
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.disconnect(self.shut_down)
        # The window must not be kept by what it keeps.
        self.window.removeEventFilter(self)
        self.window = self.widget

    def _may_close(self) -> bool:
        """Whether nothing speaks against closing the window now."""
        training = self.widget.session.training
        # Where a script closes the viewer, its inside is gone already, and there is no way back.
        if training is None or not self._is_whole():
            return True
        if self._waiting:
            answer = ask(
                self.window,
                "The training is being saved. Close without waiting for it?",
                [AT_ONCE],
                more="What it learnt since its last checkpoint is lost.",
                name="ask-close",
            )
            return answer == AT_ONCE or self.widget.session.training is None
        if self._stop_training("A training runs. Stop it, save it, and close napari?"):
            self._waiting = True
        return False

    def _is_whole(self) -> bool:
        """Whether the canvas is there still."""
        assert isinstance(self.window, QMainWindow)
        centre = self.window.centralWidget()
        inside = centre.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly)
        return any(part.isVisible() for part in inside)

    def _stop_training(self, question: str) -> bool:
        answer = ask(
            self.window,
            question,
            [STOP],
            more="It can go on later from where it was.",
            name="ask-close",
        )
        training = self.widget.session.training
        if answer != STOP:
            return False
        if training is not None:
            training.stop()
        # It may have ended while the question stood.
        QTimer.singleShot(0, self._go_on)
        return True

    def _go_on(self) -> None:
        """Close the window that waited for the training."""
        if self._waiting and self.widget.session.training is None:
            self._waiting = False
            # Not that of napari, which would forget whether all of it is to quit.
            QTimer.singleShot(0, lambda: QWidget.close(self.window))

    def _moved(self) -> None:
        """The widget has another parent, or none: its dock was closed."""
        dock = self.widget.parent()
        if isinstance(dock, QDockWidget):
            area = getattr(dock, "area", "right")
            self._dock = dock.windowTitle() or dock.objectName(), area
        elif dock is None and self._dock is not None:
            widget = self.widget  # Else nothing might hold it now that its dock is gone.
            QTimer.singleShot(0, lambda: self._left(widget))

    def _left(self, widget: "FewShotWidget") -> None:
        if self.over or widget.parent() is not None:
            return
        if widget.session.training is not None and self.window.isVisible():
            assert self._dock is not None
            name, area = self._dock
            widget.viewer.window.add_dock_widget(widget, name=name, area=area)
            widget.show()
            widget.session.note.emit("The panel stays while a training runs; stop it first.")
            return
        self.shut_down()
        widget.deleteLater()
