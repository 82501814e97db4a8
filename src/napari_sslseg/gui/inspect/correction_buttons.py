"""Buttons to correct labels with a prediction: find a slice, accept, mark as done."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QHideEvent, QKeyEvent
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.inspect.acceptance import accept_region, accept_slice, next_slice
from napari_sslseg.gui.inspect.accepted_marks import AcceptedMarks, hash_labels, shown_slice
from napari_sslseg.gui.inspect.undone_marks import UndoneMarks
from napari_sslseg.gui.viewer.strokes.done_check import DoneCheck
from napari_sslseg.gui.widgets.buttons import hinted_button

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.prediction_layers import PredictionLayers
    from napari_sslseg.gui.viewer.scene import Scene

KEYS = {"next": "Shift-N", "slice": "Shift-A", "region": "Shift-R"}
MARK = (
    "Mark slice as &done",
    "All structures on it are correct; the next training uses it, or only the scores if its "
    "patient is held out. Your labels are saved.",
)
UNMARK = (
    "&Done: unmark slice",
    "This slice is done. Unmark it if something on it is not correct; its labels stay.",
)
"""Texts and hints of the button for a slice that is not done, and for one that is."""

FIRST_PREDICT = "Predict this scan first."


class CorrectionButtons(QWidget):
    """Four buttons.

    Parameters
    ----------
    session, scene, layers
        Session, scan and predictions that are shown.
    message : QLabel
        Shows the result of each button, as long as it is true.
    look_at : callable
        Shows a slice of a scan, by name and number.
    """

    def __init__(
        self,
        session: "Session",
        scene: "Scene",
        layers: "PredictionLayers",
        message: QLabel,
        look_at: Callable[[str, int], object],
    ) -> None:
        super().__init__()
        self.session, self.scene, self.layers = session, scene, layers
        self._message, self._look_at = message, look_at
        self._about: tuple[str, int, tuple[Any, ...]] | None = None
        self.marks, self.undone = AcceptedMarks(session, scene), UndoneMarks(session, scene)
        self.check = DoneCheck(self, session, scene)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        self.next = hinted_button(
            "inspect-next", "&Next slice to correct", "The slice with the highest uncertainty "
            "that is not done yet; in the next predicted scan if all slices of this one are done "
            f"({KEYS['next']}).",
        )  # fmt: skip
        self.accept = hinted_button(
            "inspect-accept", "&Accept slice", "Replaces your labels on this slice by the "
            f"prediction; one step to undo ({KEYS['slice']}).",
        )  # fmt: skip
        self.region = hinted_button(
            "inspect-region", "Accept a &region", "Click on a predicted region in the image "
            f"to copy it into your labels; or point at it and press {KEYS['region']}.",
        )  # fmt: skip
        self.region.setCheckable(True)
        self.done = hinted_button("inspect-done", *MARK)
        for number, button in enumerate((self.next, self.accept, self.region, self.done)):
            grid.addWidget(button, number // 2, number % 2)
        self.next.clicked.connect(self.go_next)
        self.accept.clicked.connect(self.accept_slice)
        self.region.toggled.connect(self._wait_for_click)
        self.done.clicked.connect(self.toggle_done)
        self._bind_keys()
        self.undone.restored.connect(self._restored)
        self._waiting_on: Any = None
        scene.autosaver.changed.connect(self._check_message)
        scene.changed.connect(self._check_message)
        scene.changed.connect(self.forget)
        session.done_changed.connect(lambda name: self._check_message())
        for signal in (scene.moved, scene.changed, scene.autosaver.changed, session.done_changed):
            signal.connect(self._show_mark)
        self._show_mark()

    def _bind_keys(self) -> None:
        for key, act in (
            (KEYS["next"], self.go_next),
            (KEYS["slice"], self.accept_slice),
            (KEYS["region"], self.accept_pointed),
        ):
            self.scene.viewer.bind_key(key, lambda viewer, act=act: act(), overwrite=True)

    def release(self) -> None:
        """Remove shortcuts and callbacks from the viewer."""
        self._wait_for_click(False)
        for key in KEYS.values():
            self.scene.viewer.bind_key(key, None, overwrite=True)

    def forget(self) -> None:
        """Wait for no click any more."""
        self.region.setChecked(False)

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """In another step a click has another meaning."""
        super().hideEvent(event)
        if not event.spontaneous():
            self.forget()

    def refresh(self) -> None:
        """Enable the buttons that apply."""
        predicted = self.layers.predicted() is not None and self.scene.labels is not None
        self.next.setEnabled(predicted)
        for button in (self.accept, self.region):
            button.setEnabled(predicted and not self.layers.compares)
        if not self.region.isEnabled():
            self.forget()
        self.done.setEnabled(self.scene.labels is not None)

    def _refuses(self) -> bool:
        """Whether nothing can be accepted from this view, which the user is told."""
        if self.check.turned():
            return True
        if self.layers.compares:
            self._say("The picture shows a difference; choose Run A or Run B to accept from it.")
            return True
        return False

    def go_next(self) -> None:
        """Go to the most uncertain slice that is not done, in this scan or the next one."""
        project, now = self.session.project, self.session.current
        if project is None or self.session.predictions.scores(self.layers.run, now) is None:
            self._say(FIRST_PREDICT)
            return
        names = list(project.names)
        place = names.index(now)
        for name in names[place:] + names[:place]:
            found = self.session.predictions.scores(self.layers.run, name)
            if found is None or name in self.session.scan_problems:
                continue
            shown = self.scene.slice if name == now else -1
            index = next_slice(found.mean_uncertainty, project.done(name), shown)
            if index is not None:
                where = f"Slice {index}" if name == now else f"{name}, slice {index}"
                self._say(f"{where}: on average {found.mean_uncertainty[index]:.0%} uncertain.")
                self._look_at(name, index)
                return
        self._say("All slices of all predicted scans are done; predict another scan.")

    def accept_slice(self) -> None:
        """Copy the predicted slice into the labels."""
        if self._refuses():
            return
        found, labels = self.layers.predicted(), self.scene.labels
        if found is None or labels is None:
            self._say(FIRST_PREDICT)
            return
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        before, done = take_slices(labels.data, index, axis), self._is_done(index)
        count = accept_slice(labels, found.labels, axis, index, self.scene.paintable)
        self._accepted(count, index, before, done)

    def accept_pointed(self) -> None:
        """Copy the predicted region under the mouse into the labels."""
        self._accept_at(self.scene.viewer.cursor.position)

    def _accept_at(self, position: Any) -> None:
        if self._refuses():
            return
        found, labels = self.layers.predicted(), self.scene.labels
        if found is None or labels is None:
            self._say(FIRST_PREDICT)
            return
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        place = [float(number) for number in labels.world_to_data(position)[-3:]]
        place[axis] = index
        before, done = take_slices(labels.data, index, axis), self._is_done(index)
        count = accept_region(labels, found.labels, axis, place, self.scene.paintable)
        if count < 0:
            self._say("No structure of the project is predicted there; point at a coloured region.")
        else:
            self._accepted(count, index, before, done)

    def _is_done(self, index: int) -> bool:
        return bool(self.scene.autosaver.done[index])

    def _accepted(self, count: int, index: int, before: np.ndarray, done: bool) -> None:
        if not count:
            self._say_of(index, f"Your labels on slice {index} already equal the prediction.")
            return
        if not self.marks.note(index, self.layers.run, before):
            if self.scene.labels is not None:
                self.scene.labels.undo()  # Labels without a record would pass for manual ones.
            return
        self.scene.take_labels()  # Undo needs the labels layer to be active.
        if done:
            # A prediction must not count as checked by a person, least of all in scores.
            self.scene.autosaver.mark([index], done=False)
            self.undone.note(index, before)
            then = "The slice is no longer done; mark it again when it is correct."
        else:
            then = "Mark the slice as done when it is correct."
        pixels = f"{count:,} {'pixel' if count == 1 else 'pixels'}"
        verb = "was" if count == 1 else "were"
        source = f" from {self.layers.run}" if self.layers.second else ""
        self._say_of(
            index, f"{pixels} of slice {index} {verb} accepted{source}; Ctrl+Z undoes it. {then}"
        )

    def _wait_for_click(self, waiting: bool) -> None:
        """Wait for clicks until another tool, step or scan is chosen, or Escape is pressed."""
        viewer = self.scene.viewer
        callbacks = viewer.mouse_drag_callbacks
        if waiting:
            if self.scene.labels is not None:
                self.scene.labels.mode = "pan_zoom"  # Otherwise the click would paint too.
                self._waiting_on = self.scene.labels
                self._waiting_on.events.mode.connect(self._tool_changed)
            for bound in (viewer, self._waiting_on):  # The labels have this key for polygons.
                if bound is not None:
                    bound.bind_key("Escape", lambda bound: self.forget(), overwrite=True)
            callbacks.append(self._clicked)
            self._say("Click on a predicted region to accept it; Escape or the button stops it.")
        elif self._clicked in callbacks:
            callbacks.remove(self._clicked)
            viewer.bind_key("Escape", None, overwrite=True)
            if self._waiting_on is not None:
                self._waiting_on.bind_key("Escape", None, overwrite=True)
                self._waiting_on.events.mode.disconnect(self._tool_changed)
                self._waiting_on = None
            self._say("")

    def _tool_changed(self, event: Any = None) -> None:
        if self._waiting_on is not None and self._waiting_on.mode != "pan_zoom":
            self.forget()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Escape stops waiting for a click, also while a button has the keyboard."""
        if event.key() == Qt.Key.Key_Escape and self.region.isChecked():
            self.forget()
        else:
            super().keyPressEvent(event)

    def _clicked(self, viewer: Any, event: Any) -> Iterator[None]:
        position, moved = event.position, False
        # Another layer may have a tool of its own.
        painting = getattr(viewer.layers.selection.active, "mode", "pan_zoom") != "pan_zoom"
        yield
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved and not painting:  # A drag moves the image.
            self._accept_at(position)

    def _show_mark(self) -> None:
        """Offer to mark a slice as done, or to unmark one that is done."""
        done, index = self.scene.autosaver.done, self.scene.slice
        text, hint = UNMARK if index < len(done) and done[index] else MARK
        self.done.setText(text)
        self.done.setToolTip(hint)

    def toggle_done(self) -> None:
        """Mark the slice as done, or unmark it."""
        if not self._is_done(self.scene.slice):
            self.mark_done()
        elif self.check.may_unmark():
            index = self.scene.slice
            self.scene.autosaver.mark([index], done=False)
            use = "scores do" if self.session.held_out else "the next training does"
            self._say_of(index, f"Slice {index} is no longer done; {use} not use it.")

    def mark_done(self) -> None:
        """Mark the slice as done, once its labels are saved."""
        if self.check.may_mark():
            index = self.scene.slice
            self.scene.autosaver.mark([index])
            note = "; scores mark its accepted prediction" if self._is_accepted(index) else ""
            use = (
                "it is used for scores only, because the patient is held out"
                if self.session.held_out
                else "the next training uses it"
            )
            self._say_of(index, f"Slice {index} is done; {use}{note}.")

    def _restored(self, index: int) -> None:
        self._say_of(index, f"The acceptance was undone; slice {index} is done again.")

    def _say(self, text: str) -> None:
        self._about = None
        self._message.setText(text)

    def _say_of(self, index: int, text: str) -> None:
        """Say something about a slice that is true until its labels or its mark change."""
        self._say(text)
        self._about = (text, index, self._state(index))

    def _state(self, index: int) -> tuple[Any, ...]:
        """Scan, mark and labels of a slice."""
        labels, done = shown_slice(self.scene, index), self.scene.autosaver.done
        if labels is None or index >= len(done):
            return (self.session.current,)
        return self.session.current, bool(done[index]), hash_labels(labels)

    def _check_message(self) -> None:
        """Remove what was said about a slice when it is no longer true."""
        if self._about is None:
            return
        text, index, state = self._about
        if self._message.text() != text:
            self._about = None
        elif self._state(index) != state:
            self._say("")

    def _is_accepted(self, index: int) -> bool:
        project, name = self.session.project, self.session.current
        if project is None or name not in project.names:
            return False
        return any(index in numbers for numbers in project.accepted(name).values())
