"""Correcting with a prediction: find the slice, take over what is right, mark it as done."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QGridLayout, QWidget

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.gui.inspect.acceptance import accept_region, accept_slice, next_slice
from napari_sslseg.gui.inspect.accepted_marks import AcceptedMarks
from napari_sslseg.gui.widgets.buttons import hinted_button

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.prediction_layers import PredictionLayers
    from napari_sslseg.gui.viewer.scene import Scene

KEYS = {"next": "Shift-N", "slice": "Shift-A", "region": "Shift-R"}
FIRST_PREDICT = "Predict this scan first."


class CorrectionButtons(QWidget):
    """Four buttons; what they did is told through ``session.note`` and ``say``."""

    def __init__(
        self, session: "Session", scene: "Scene", layers: "PredictionLayers", say: Any
    ) -> None:
        super().__init__()
        self.session, self.scene, self.layers, self._say = session, scene, layers, say
        self.marks = AcceptedMarks(session, scene)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        self.next = hinted_button(
            "inspect-next", "&Next slice to correct", f"The one on which the network is least sure "
            f"and that is not done yet ({KEYS['next']}).",
        )  # fmt: skip
        self.accept = hinted_button(
            "inspect-accept", "&Accept slice", "Makes your labels on this slice what is predicted; "
            f"one step for undo ({KEYS['slice']}).",
        )  # fmt: skip
        self.region = hinted_button(
            "inspect-region", "Accept a &region", "Click on a predicted structure in the picture "
            f"to take that piece into your labels; or point at it and press {KEYS['region']}.",
        )  # fmt: skip
        self.region.setCheckable(True)
        self.done = hinted_button(
            "inspect-done", "Mark slice as &done", "All structures on it are right; it counts in "
            "the next training. Your labels are saved.",
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
        """Take from the viewer what was hung to it."""
        self._wait_for_click(False)
        for key in KEYS.values():
            self.scene.viewer.bind_key(key, None, overwrite=True)

    def refresh(self) -> None:
        """Offer what can be done now."""
        there = self.layers.predicted() is not None and self.scene.labels is not None
        for button in (self.accept, self.region, self.next):
            button.setEnabled(there)
        self.done.setEnabled(self.scene.labels is not None)

    def go_next(self) -> None:
        """Look at the slice that the network is least sure of."""
        project = self.session.project
        found = self.session.predictions.scores(self.layers.run, self.session.current)
        if project is None or found is None:
            self._say(FIRST_PREDICT)
            return
        done = project.done(self.session.current)
        index = next_slice(found.mean_uncertainty, done, self.scene.slice)
        if index is None:
            self._say("All slices of this scan are done; choose another scan.")
            return
        self.scene.go_to(index)
        self._say(f"Slice {index}: on average {found.mean_uncertainty[index]:.0%} unsure.")

    def accept_slice(self) -> None:
        """Take the predicted slice into the labels."""
        found, labels = self.layers.predicted(), self.scene.labels
        if found is None or labels is None:
            self._say(FIRST_PREDICT)
            return
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        before = np.take(labels.data, index, axis)
        self._accepted(accept_slice(labels, found.labels, axis, index), index, before)

    def accept_pointed(self) -> None:
        """Take the predicted region under the mouse into the labels."""
        self._accept_at(self.scene.viewer.cursor.position)

    def _accept_at(self, position: Any) -> None:
        found, labels = self.layers.predicted(), self.scene.labels
        if found is None or labels is None:
            self._say(FIRST_PREDICT)
            return
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        place = [float(number) for number in labels.world_to_data(position)[-3:]]
        place[axis] = index
        before = np.take(labels.data, index, axis)
        count = accept_region(labels, found.labels, axis, place)
        if count < 0:
            self._say("No structure is predicted there; point at a coloured region.")
        else:
            self._accepted(count, index, before)

    def _accepted(self, count: int, index: int, before: np.ndarray) -> None:
        if not count:
            self._say(f"Your labels on slice {index} are like that already.")
            return
        if not self.marks.note(index, self.layers.run, before):
            if self.scene.labels is not None:
                self.scene.labels.undo()  # Else nobody could tell that it was predicted.
            return
        self.scene.take_labels()  # Else undo does nothing.
        if self.scene.autosaver.done[index]:
            # What a network said must not pass for what a person checked, least of all in scores.
            self.scene.autosaver.mark([index], done=False)
            then = "The slice is not done any more; mark it again when all on it is right."
        else:
            then = "Mark the slice as done when all on it is right."
        self._say(f"{count:,} pixels of slice {index} were accepted; Ctrl+Z undoes it. {then}")

    def _wait_for_click(self, waiting: bool) -> None:
        callbacks = self.scene.viewer.mouse_drag_callbacks
        if waiting:
            if self.scene.labels is not None:
                self.scene.labels.mode = "pan_zoom"  # Else the click would paint as well.
            callbacks.append(self._clicked)
            self._say("Click on a predicted structure to accept it; press the button to stop.")
        elif self._clicked in callbacks:
            callbacks.remove(self._clicked)
            self._say("")

    def _clicked(self, viewer: Any, event: Any) -> Iterator[None]:
        position, moved = event.position, False
        yield
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved:  # Else the picture was only shifted.
            self._accept_at(position)

    def mark_done(self) -> None:
        """Mark the slice as done, once its labels are saved."""
        if self.scene.labels is not None:
            index = self.scene.slice
            self.scene.autosaver.mark([index])
            told = (
                "; scores tell that a prediction was accepted on it" if self._known(index) else ""
            )
            self._say(f"Slice {index} is done; it counts in the next training{told}.")

    def _known(self, index: int) -> bool:
        project, name = self.session.project, self.session.current
        if project is None or name not in project.names:
            return False
        return any(index in numbers for numbers in project.accepted(name).values())
