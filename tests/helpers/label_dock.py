"""The label panel in a real window, with mouse and keys."""

import gc

import nibabel as nib
import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QWidget

from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.widget import FewShotWidget

NAMES = ("ann", "bob")
SHAPE = (20, 96, 100)


class Dock:
    """The label panel within the dock widget in a window."""

    def __init__(self, viewer, qtbot, folder):
        self.viewer, self.qtbot = viewer, qtbot
        self.widget = FewShotWidget(viewer)
        self.session, self.scene = self.widget.session, self.widget.scene
        self.problems, self.notes = [], []
        self.session.problem.connect(lambda problem: self.problems.append(problem.sentence))
        self.session.note.connect(self.notes.append)
        self.dock = viewer.window.add_dock_widget(self.widget, name="Few-shot", area="right")
        self.widget.show_step("Label")
        self.panel = self.widget.panels["Label"]
        self.panel.setFixedWidth(380)
        assert self.session.open(folder)
        self.until(lambda: self.layer is not None)
        qtbot.wait(50)

    def leave(self):
        self.session.close()
        gc.collect()

    @property
    def layer(self):
        return self.scene.labels

    @property
    def project(self):
        return self.session.project

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    def until(self, condition):
        self.qtbot.waitUntil(condition)

    def find(self, name, kind=QWidget):
        (found,) = self.panel.findChildren(kind, name)
        return found

    def click(self, name):
        button = self.find(name)
        assert button.isVisible()
        assert button.isEnabled()
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def press(self, key, on=None):
        self.qtbot.keyClick(on or self.canvas, key)

    def at(self, down, right):
        """Return a position on the canvas, as an offset from the centre in units of 20 mm."""
        size = self.canvas.size()
        zoom = self.viewer.camera.zoom
        scale = 20 * zoom
        return QPoint(int(size.width() / 2 + right * scale), int(size.height() / 2 + down * scale))

    def click_picture(self, down=0.0, right=0.0, button=Qt.MouseButton.LeftButton):
        self.qtbot.mouseMove(self.canvas, self.at(down, right))
        self.qtbot.mouseClick(self.canvas, button, pos=self.at(down, right))

    def drag(self, *places):
        self.qtbot.mouseMove(self.canvas, self.at(*places[0]))
        self.qtbot.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=self.at(*places[0]))
        for place in places[1:]:
            self.qtbot.mouseMove(self.canvas, self.at(*place))
            self.qtbot.wait(5)
        self.qtbot.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=self.at(*places[-1]))

    def saved(self, name=NAMES[0]):
        return self.project.labels(name).data

    def until_saved(self):
        self.until(lambda: self.find("labels-saved").text().startswith("✓"))
        np.testing.assert_array_equal(self.saved(self.session.current), self.layer.data)


def write_project(folder):
    """Write a project of two scans; returns its folder."""
    paths = []
    for seed, name in enumerate(NAMES):
        values = np.random.default_rng(seed).normal(300, 60, SHAPE[::-1]).astype(np.int16)
        paths.append(folder / f"{name}.nii")
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), paths[-1])
    with Project.create(folder / "project") as project:
        project.add_scans(paths)
        project.remember("scan", NAMES[0])
    return folder / "project"
