"""Closing napari or the dock widget: jobs are stopped, labels saved, the project closed.

If a training is running, the user is asked first. The training then stops and saves its state, and
the window closes after that.
"""

import gc
import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_sslseg.gui.model.session_jobs import WRITING
from napari_sslseg.gui.viewer.strokes.done_check import take_strokes
from napari_sslseg.gui.widgets.dialogs import ask_choice

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

TRAINING_SECONDS = 60.0
OTHER_SECONDS = 3.0
"""How long the program waits for jobs when it closes. Files are complete in any case."""

STOP = "Stop it and close"
AT_ONCE = "Close at once"
TAKE_AND_CLOSE, LOSE_AND_CLOSE = "Take them over and close", "Close without them"


class ShutdownHandler(QObject):
    """Closes the session when a dock widget or its window is closed.

    Parameters
    ----------
    widget : QWidget
        The dock widget.
    session : Session
        Is closed.
    scene : Scene
        Its labels are saved.

    Attributes
    ----------
    started, finished : Signal
        The session is going to be closed; the session was closed.
    over : bool
        Whether the session was closed.
    """

    started = Signal()
    finished = Signal()

    def __init__(self, widget: QWidget, session: "Session", scene: "Scene") -> None:
        super().__init__(widget)
        self.widget, self.session, self.scene = widget, session, scene
        self.over = False
        self._closing = False
        self._waiting = False
        self._strokes_left = False
        self._dock: tuple[str, str] | None = None
        self.window: QWidget = widget
        widget.installEventFilter(self)
        self._frozen = False
        scene.changing.connect(self._freeze_garbage)
        session.jobs_changed.connect(self._close_if_ready)
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.shut_down)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Notice that the window or the dock widget is closed."""
        kind = event.type()
        if self.over:
            return False
        if watched is self.widget:
            self._on_widget_event(kind)
        elif watched is self.window and kind == QEvent.Type.Close:
            if not self._may_close():
                event.ignore()
                return True
            # napari may ask a question itself, and the window may stay open.
            self._closing = self.window.isVisible()
            if not self._closing:
                self.shut_down()
        elif kind == QEvent.Type.Hide and self._closing and not event.spontaneous():
            self.shut_down()
        return False

    def _on_widget_event(self, kind: QEvent.Type) -> None:
        if kind == QEvent.Type.ParentChange:
            self._on_parent_change()
        elif kind == QEvent.Type.Show and self.window is self.widget:
            dock = self.widget.parent()
            window = dock.parent() if isinstance(dock, QDockWidget) else None
            if isinstance(window, QMainWindow):
                self.window = window
                window.installEventFilter(self)
        elif kind == QEvent.Type.Close and self.widget.isWindow():
            self.shut_down()

    def shut_down(self) -> None:
        """Stop all jobs, save the labels and close the project. Later calls have no effect."""
        if self.over:
            return
        self.over = True
        session = self.session
        self.started.emit()
        jobs = list(session.jobs)
        for job in jobs:
            job.stop()
        start = time.monotonic()
        for job in jobs:
            must_finish = job is session.training or job.kind in WRITING
            longest = TRAINING_SECONDS if must_finish else OTHER_SECONDS
            job.wait(max(0.0, longest - (time.monotonic() - start)))
        session.leaving = True
        session.pump()
        # Labels that cannot be saved in the project go to another folder, which is reported.
        self.scene.autosaver.last_chance()
        session.close()
        if self._frozen:
            gc.unfreeze()
        self.finished.emit()
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.disconnect(self.shut_down)
        # Do not keep the window alive.
        self.window.removeEventFilter(self)
        self.window = self.widget

    def _freeze_garbage(self) -> None:
        """Keep the objects of the program out of garbage collections, until the session closes.

        napari collects garbage for each layer that is removed, which takes a quarter of a second
        with all modules that are loaded. Layers, which hold large arrays in circles, must not be
        frozen: they would never be released.
        """
        if not self._frozen and self.session.volume is not None and not self.scene.viewer.layers:
            gc.freeze()
            self._frozen = True

    def _may_close(self) -> bool:
        """Whether the window can be closed now.

        Asks the user if there are strokes that are saved nowhere, and if a training is running.
        """
        # When a script closes the viewer, its content is gone already, and there is no way back.
        if not self._has_canvas():
            return True
        if not self._may_lose_strokes():
            return False
        training = self.session.training
        if training is None:
            return True
        if self._waiting:
            answer = ask_choice(
                self.window,
                "The training is being saved. Close without waiting for it?",
                [AT_ONCE],
                more="Steps since the last checkpoint are lost.",
                name="ask-close",
            )
            return answer == AT_ONCE or self.session.training is None
        if self._stop_training("A training is running. Stop it, save it, and close napari?"):
            self._waiting = True
        return False

    def _may_lose_strokes(self) -> bool:
        """Offer to take strokes over that are saved nowhere; False to stay."""
        strokes = self.scene.strokes
        painted = [layer.name for layer in strokes.painted]
        away = [f"{layer.name} ({place.scan})" for layer, place in strokes.elsewhere]
        if self._strokes_left or not (painted or away):
            return True
        take = [TAKE_AND_CLOSE] if painted and self.scene.paintable else []
        names = ", ".join(f"“{name}”" for name in (*painted, *away))
        answer = ask_choice(
            self.window,
            f"Your strokes on {names} are saved nowhere, since they are not on the labels of the "
            "scan. Close napari without them?",
            [*take, LOSE_AND_CLOSE],
            more="To keep them, cancel, show their scan, and take them over in step 3.",
            name="ask-strokes",
        )
        if answer == TAKE_AND_CLOSE:
            take_strokes(self.scene)
            return not away and self._may_lose_strokes()
        self._strokes_left = answer == LOSE_AND_CLOSE
        return self._strokes_left

    def _has_canvas(self) -> bool:
        """Whether the canvas still exists."""
        assert isinstance(self.window, QMainWindow)
        centre = self.window.centralWidget()
        inside = centre.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly)
        return any(part.isVisible() for part in inside)

    def _stop_training(self, question: str) -> bool:
        answer = ask_choice(
            self.window,
            question,
            [STOP],
            more="You can resume it later from the same step.",
            name="ask-close",
        )
        training = self.session.training
        if answer != STOP:
            return False
        if training is not None:
            training.stop()
        # It may have ended while the dialog was open.
        QTimer.singleShot(0, self._close_if_ready)
        return True

    def _close_if_ready(self) -> None:
        """Close the window if it was waiting for the training, and the training has ended."""
        if self._waiting and self.session.training is None:
            self._waiting = False
            # Not the method of napari, which would forget whether to quit the program.
            QTimer.singleShot(0, lambda: QWidget.close(self.window))

    def _on_parent_change(self) -> None:
        """Follow the widget to another dock, or close the session if its dock was closed."""
        dock = self.widget.parent()
        if isinstance(dock, QDockWidget):
            area = getattr(dock, "area", "right")
            self._dock = dock.windowTitle() or dock.objectName(), area
        elif dock is None and self._dock is not None:
            widget = self.widget  # Keep a reference, because the dock no longer does.
            QTimer.singleShot(0, lambda: self._on_dock_closed(widget))

    def _on_dock_closed(self, widget: QWidget) -> None:
        if self.over or widget.parent() is not None:
            return
        if self.session.training is not None and self.window.isVisible():
            assert self._dock is not None
            name, area = self._dock
            self.scene.viewer.window.add_dock_widget(widget, name=name, area=area)
            widget.show()
            self.session.note.emit(
                "The panel stays open while a training is running; stop it first."
            )
            return
        self.shut_down()
        widget.deleteLater()
