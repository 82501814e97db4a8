"""Buttons to correct labels with a prediction: find a slice, accept, mark as done."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QGridLayout, QWidget

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.inspect.acceptance import accept_region, accept_slice, next_slice
from napari_sslseg.gui.inspect.accepted_marks import AcceptedMarks
from napari_sslseg.gui.viewer.strokes.done_check import DoneCheck
from napari_sslseg.gui.widgets.buttons import hinted_button

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.prediction_layers import PredictionLayers
    from napari_sslseg.gui.viewer.scene import Scene

KEYS = {"next": "Shift-N", "slice": "Shift-A", "region": "Shift-R"}
FIRST_PREDICT = "Predict this scan first."


class CorrectionButtons(QWidget):
    """Four buttons.

    Parameters
    ----------
    session, scene, layers
        Session, scan and predictions that are shown.
    say : callable
        Shows the result of each button.
    look_at : callable
        Shows a slice of a scan, by name and number.
    """

    def __init__(
        self,
        session: "Session",
        scene: "Scene",
        layers: "PredictionLayers",
        say: Callable[[str], object],
        look_at: Callable[[str, int], object],
    ) -> None:
        super().__init__()
        self.session, self.scene, self.layers = session, scene, layers
        self._say, self._look_at = say, look_at
        self.marks = AcceptedMarks(session, scene)
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
        self.done = hinted_button(
            "inspect-done", "Mark slice as &done", "All structures on it are correct; the next "
            "training uses it. Your labels are saved.",
        )  # fmt: skip
        for number, button in enumerate((self.next, self.accept, self.region, self.done)):
            grid.addWidget(button, number // 2, number % 2)
        self.next.clicked.connect(self.go_next)
        self.accept.clicked.connect(self.accept_slice)
        self.region.toggled.connect(self._wait_for_click)
        self.done.clicked.connect(self.mark_done)
        self._bind_keys()

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

    def refresh(self) -> None:
        """Enable the buttons that apply."""
        predicted = self.layers.predicted() is not None and self.scene.labels is not None
        for button in (self.accept, self.region, self.next):
            button.setEnabled(predicted)
        self.done.setEnabled(self.scene.labels is not None)

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
        if self.check.turned():
            return
        found, labels = self.layers.predicted(), self.scene.labels
        if found is None or labels is None:
            self._say(FIRST_PREDICT)
            return
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        before = take_slices(labels.data, index, axis)
        count = accept_slice(labels, found.labels, axis, index, self.scene.paintable)
        self._accepted(count, index, before)

    def accept_pointed(self) -> None:
        """Copy the predicted region under the mouse into the labels."""
        self._accept_at(self.scene.viewer.cursor.position)

    def _accept_at(self, position: Any) -> None:
        if self.check.turned():
            return
        found, labels = self.layers.predicted(), self.scene.labels
        if found is None or labels is None:
            self._say(FIRST_PREDICT)
            return
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        place = [float(number) for number in labels.world_to_data(position)[-3:]]
        place[axis] = index
        before = take_slices(labels.data, index, axis)
        count = accept_region(labels, found.labels, axis, place, self.scene.paintable)
        if count < 0:
            self._say("No structure of the project is predicted there; point at a coloured region.")
        else:
            self._accepted(count, index, before)

    def _accepted(self, count: int, index: int, before: np.ndarray) -> None:
        if not count:
            self._say(f"Your labels on slice {index} already equal the prediction.")
            return
        if not self.marks.note(index, self.layers.run, before):
            if self.scene.labels is not None:
                self.scene.labels.undo()  # Labels without a record would pass for manual ones.
            return
        self.scene.take_labels()  # Undo needs the labels layer to be active.
        if self.scene.autosaver.done[index]:
            # A prediction must not count as checked by a person, least of all in scores.
            self.scene.autosaver.mark([index], done=False)
            then = "The slice is no longer done; mark it again when it is correct."
        else:
            then = "Mark the slice as done when it is correct."
        self._say(f"{count:,} pixels of slice {index} were accepted; Ctrl+Z undoes it. {then}")

    def _wait_for_click(self, waiting: bool) -> None:
        callbacks = self.scene.viewer.mouse_drag_callbacks
        if waiting:
            if self.scene.labels is not None:
                self.scene.labels.mode = "pan_zoom"  # Otherwise the click would paint too.
            callbacks.append(self._clicked)
            self._say("Click on a predicted region to accept it; press the button again to stop.")
        elif self._clicked in callbacks:
            callbacks.remove(self._clicked)
            self._say("")

    def _clicked(self, viewer: Any, event: Any) -> Iterator[None]:
        position, moved = event.position, False
        yield
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved:  # A drag moves the image.
            self._accept_at(position)

    def mark_done(self) -> None:
        """Mark the slice as done, once its labels are saved."""
        if self.check.may_mark():
            index = self.scene.slice
            self.scene.autosaver.mark([index])
            note = "; scores mark its accepted prediction" if self._is_accepted(index) else ""
            self._say(f"Slice {index} is done; the next training uses it{note}.")

    def _is_accepted(self, index: int) -> bool:
        project, name = self.session.project, self.session.current
        if project is None or name not in project.names:
            return False
        return any(index in numbers for numbers in project.accepted(name).values())
