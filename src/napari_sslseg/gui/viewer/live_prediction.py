"""A layer with the prediction of the current slice by a network that is being trained."""

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.events import Event, Preview, Step
from napari_sslseg.core.common.example_pictures import SlicePrediction
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.training.watch import Watch
from napari_sslseg.gui.viewer.scene import show_layer

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sslseg.gui.model.jobs import Job
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

NAME = "prediction in training"

MOST_UNCERTAIN = 0.5
"""Mean uncertainty of the predicted structures above which they are noise, which is not drawn."""

NOISY_SHARE, NOISY_STEPS = 0.25, 20
"""Share and number of the steps after which a prediction is drawn however uncertain it is.

Before 20 steps a network has seen a few dozen slices, and what is uncertain then is noise. A
training that is as short shows its prediction only if it is certain.
"""


class LivePrediction:
    """Requests the prediction of the current slice from a fine-tuning, and shows it. Needs no Qt.

    The layer contains one slice at a time and is removed when the training ends. It is there from
    the first prediction that is more than noise. The labels of the user are never changed.

    Attributes
    ----------
    waiting : bool
        Whether the predictions of the running training are noise so far.
    waiting_changed : Signal
    """

    waiting_changed = Signal()

    def __init__(self, session: "Session", scene: "Scene") -> None:
        self.session, self.scene = session, scene
        self._layer: Labels | None = None
        self._shown: tuple[slice | int, ...] | None = None
        self.waiting = False
        self._clear: Job | None = None  # Its predictions are more than noise.
        self._progress, self._steps = 0.0, 0
        session.job_events.connect(self._receive)
        session.jobs_changed.connect(self._jobs_changed)
        scene.moved.connect(lambda _: self.look())
        scene.changed.connect(self._changed)
        scene.front_changed.connect(self._update_visibility)

    def look(self) -> None:
        """Request a prediction of the current slice."""
        volume = self.session.volume
        if self.session.watch is None:
            self.session.watch = Watch()
        if volume is not None and self.scene.image is not None:
            self.session.watch.look_at(volume, self.scene.slice)

    @property
    def layer(self) -> "Labels | None":
        """The layer, or None; the user may have removed it."""
        layer = self._layer
        return layer if layer is not None and layer in self.scene.viewer.layers else None

    def _changed(self) -> None:
        self._layer = self._shown = None
        self.look()

    def _jobs_changed(self) -> None:
        training = self.session.training
        if training is None or training.kind != "finetune":
            self._clear, self._progress, self._steps = None, 0.0, 0
            self._wait(False)
            self._remove()

    def _receive(self, job: "Job", events: list[Event]) -> None:
        if job.kind != "finetune" or not job.active:
            return
        for event in events:
            if isinstance(event, Step):
                self._progress, self._steps = event.step / event.total, event.step
            if isinstance(event, Preview) and isinstance(event.picture, SlicePrediction):
                noise = self._clear is not job and self._is_noise(event.picture)
                if not noise and event.picture.labels.any():
                    self._clear = job
                self._wait(noise)
                if not noise:
                    self._show(event.picture)

    def _is_noise(self, picture: SlicePrediction) -> bool:
        """Whether a network at its beginning guesses structures all over the slice."""
        found = picture.labels > 0
        late = self._progress >= NOISY_SHARE and self._steps >= NOISY_STEPS
        if late or not found.any():
            return False
        return float(picture.uncertainty[found].mean()) > MOST_UNCERTAIN

    def _wait(self, waiting: bool) -> None:
        if waiting != self.waiting:
            self.waiting = waiting
            self.waiting_changed.emit()

    def _show(self, picture: SlicePrediction) -> None:
        image = self.scene.image
        if image is None or picture.scan != self.session.current:
            return
        axis = PLANE_AXIS[picture.plane]
        shape = list(image.data.shape)
        if not 0 <= picture.index < shape.pop(axis) or picture.labels.shape != tuple(shape):
            return  # The scan was replaced by another one of the same name.
        layer = self.layer
        if layer is None:
            self._shown = None
            layer = self._layer = self.scene.add_prediction(
                np.zeros(image.data.shape, np.uint8), NAME, "live"
            )
            self._update_visibility()
        where: list[Any] = [slice(None)] * 3
        where[axis] = picture.index
        if self._shown is not None:
            layer.data[self._shown] = 0
        layer.data[tuple(where)] = picture.labels
        self._shown = tuple(where)
        layer.refresh()

    def _update_visibility(self) -> None:
        if self.layer is not None:
            show_layer(self.layer, not self.scene.hides("live"))

    def _remove(self) -> None:
        layer = self.layer
        self._layer = self._shown = None
        if layer is not None:
            self.scene.viewer.layers.remove(layer)
            self.scene.front_changed.emit()
