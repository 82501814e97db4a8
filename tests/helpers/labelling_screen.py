"""A session and its scene without a window, for tests of labelling."""

import time

import numpy as np
from napari.components import ViewerModel

from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.viewer.scene import Scene
from patience import LIMIT

NAMES = ("ann", "bob")
SHAPE = (24, 96, 100)


class Screen:
    """A session and its scene; :meth:`until` replaces the timer of a window."""

    def __init__(self, folder):
        self.session = Session()
        self.scene = Scene(self.session, ViewerModel())
        self.autosaver = self.scene.autosaver
        self.problems = []
        self.session.problem.connect(lambda problem: self.problems.append(problem.sentence))
        assert self.session.open(folder)

    @property
    def layer(self):
        return self.scene.labels

    def until(self, condition, seconds=LIMIT):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.autosaver.sentence, self.problems)
            self.session.pump()
            self.autosaver.tick()
            time.sleep(0.005)

    def show(self, name):
        self.session.select(name)
        self.until(lambda: self.session.current == name)

    def saved(self, name=None):
        return self.session.project.labels(name or self.session.current).data

    def until_saved(self, seconds=LIMIT):
        self.until(lambda: self.autosaver.status == "saved", seconds)
        np.testing.assert_array_equal(self.saved(), self.layer.data)


def stroke(screen, at, value=1):
    screen.layer.mode = "paint"
    screen.layer.brush_size = 7
    screen.layer.paint(at, value)


def broken(monkeypatch, screen):
    """Let saving of labels fail, as on a full disk."""

    def full(name, labels):
        raise OSError(28, "No space left on device", name)

    monkeypatch.setattr(screen.session.project, "save_labels", full)
