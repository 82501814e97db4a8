"""Paint or train in a real window until killed: gui_process.py PROJECT WHAT.

WHAT is ``paint``, ``pretrain`` or ``finetune``. Prints a line of JSON for each stroke after it is
painted, with its voxel, value and time, and for each step of a training. Each stroke is one voxel,
so that no stroke covers another, and uses the paint function of the layer as the mouse does.
"""

import json
import sys
import time
from functools import partial

import napari
import torch
from qtpy.QtCore import QTimer

from napari_sslseg import core
from napari_sslseg.core.common.events import Step

PAUSE_MILLISECONDS = 120
STEPS = 3_000


def tell(**what):
    print(json.dumps(what | {"at": time.time()}), flush=True)


class Painter:
    """Paints strokes repeatedly, on slices of the whole scan."""

    def __init__(self, widget):
        self.widget, self.count = widget, 0
        self.timer = QTimer(widget)
        self.timer.timeout.connect(self.stroke)
        self.timer.start(PAUSE_MILLISECONDS)

    def stroke(self):
        scene, layer = self.widget.scene, self.widget.scene.labels
        if layer is None:
            return
        slices, rows, columns = layer.data.shape
        index = (self.count * 5) % slices
        row, column = (self.count * 7) % rows, (self.count * 11) % columns
        value = 1 + self.count % 2
        scene.go_to(index)
        layer.mode, layer.brush_size = "paint", 1
        layer.paint((index, row, column), value)
        self.count += 1
        tell(stroke=[index, row, column], value=value)
        if self.count % 9 == 0:
            scene.autosaver.mark([index])


def train(widget, what):
    session = widget.session
    training = core.Training(steps=STEPS, batch_size=2)
    network = core.Network.preset("tiny")
    if what == "pretrain":
        settings = core.PretrainSettings(network=network, training=training)
        session.pretrain(core.MaskedPatches(), settings, "cpu")
    else:
        settings = core.FinetuneSettings(network=network, training=training)
        session.finetune("scratch", settings, device="cpu")

    def heard(job, events):
        for event in events:
            if isinstance(event, Step):
                tell(step=event.step)

    session.job_events.connect(heard)
    session.problem.connect(lambda problem: tell(problem=problem.sentence))


def main():
    folder, what = sys.argv[1], sys.argv[2]
    torch.set_num_threads(1)
    viewer = napari.Viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-sslseg", "Few-shot segmentation")
    assert widget.session.open(folder)
    kept = []
    if what != "paint":
        QTimer.singleShot(0, partial(train, widget, what))
    kept.append(Painter(widget))
    tell(ready=True)
    napari.run()


if __name__ == "__main__":
    main()
