"""A project of small labelled phantoms, and a docked panel."""

from contextlib import contextmanager

import nibabel as nib
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QScrollArea

from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.viewer.scene import Scene
from napari_sslseg.gui.widget import FewShotWidget

DONE = (3, 5)


def write_scans(folder, count):
    """Write scans as NIfTI files; returns their true labels by name."""
    folder.mkdir(parents=True, exist_ok=True)
    truths = {}
    for seed in range(count):
        scan, truth = make_patient(seed, "MR", (10, 48, 48), (16.0, 7.0, 7.0))
        source = np.ascontiguousarray(scan.geometry.to_source(scan.data))
        nib.save(nib.Nifti1Image(source, scan.geometry.affine), folder / f"{scan.name}.nii.gz")
        # Two large organs can be learned in a few steps.
        truths[scan.name] = np.where(truth.data <= 2, truth.data, 0).astype(np.uint8)
    return truths


def make_project(folder, count=3, labelled=3):
    """Write a project whose first scans have labels and done slices; returns the true labels."""
    truths = write_scans(folder / "scans", count)
    with Project.create(folder / "project") as project:
        project.add_scans(folder / "scans")
        project.add_class("liver")
        project.add_class("spleen")
        for name in project.names[:labelled]:
            project.save_labels(name, truths[name])
            project.mark_done(name, DONE)
    return truths


class Host(QScrollArea):
    """A panel docked as in the plugin; a timer processes the events of its session."""

    def __init__(self, viewer, panel, project):
        super().__init__()
        self.session = Session()
        self.scene = Scene(self.session, viewer)
        assert self.session.open(project)
        self.timer = QTimer(self)
        self.timer.timeout.connect(self.session.pump)
        self.timer.timeout.connect(self.scene.autosaver.tick)
        self.timer.start(20)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.panel = panel(self.session, self.scene)
        self.setWidget(self.panel)
        viewer.window.add_dock_widget(self, name="Few-shot segmentation", area="right")
        self.setFixedWidth(380)
        self.session.problem.connect(lambda problem: self.problems.append(problem.sentence))
        self.problems = []

    def end(self, qtbot):
        """Stop all jobs and close the project."""
        for job in list(self.session.jobs):
            job.stop()
        idle(self, qtbot)
        self.timer.stop()
        self.session.close()


def open_panel(viewer, qtbot, panel, folder):
    """Open a project in a window with a docked panel; its first scan is shown."""
    host = Host(viewer, panel, folder / "project")
    first = host.session.project.names[0]
    idle(host, qtbot)  # The last scan is loaded.
    host.session.select(first)
    qtbot.waitUntil(lambda: host.session.current == first)
    return host


@contextmanager
def open_window(viewer, qtbot, project):
    """Open a project in the whole dock widget; close it when its jobs have ended."""
    widget = FewShotWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Few-shot segmentation", area="right")
    assert widget.session.open(project)
    qtbot.waitUntil(lambda: not widget.session.jobs)
    yield widget
    qtbot.waitUntil(lambda: not widget.session.jobs)
    widget.session.close()


def idle(host, qtbot):
    """Wait until all jobs have ended."""
    qtbot.waitUntil(lambda: not host.session.jobs)
