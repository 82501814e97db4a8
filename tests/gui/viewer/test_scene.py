"""The scene: its own layers, scans opened by the user, and release of memory."""

import gc
import threading
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import _layer_actions

from napari_sslseg.core.project import sources as project_sources
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.project.sources import find_path
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.scans.scan_actions import ScanActions
from napari_sslseg.gui.scans.viewer_scans import ViewerScans
from napari_sslseg.gui.viewer.live_prediction import LivePrediction
from napari_sslseg.gui.viewer.scene import EDGES, ROLE, Scene, text_overlay
from read_only_folder import read_only_folder
from scene_project import SHAPE, until, write_project


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A scene that shows the first scan."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    session = Session()
    made = Scene(session, ViewerModel())
    assert session.open(write_project(tmp_path))
    until(session, lambda: made.labels is not None and not session.jobs)
    yield made
    session.close()


def show(scene, name):
    scene.session.select(name)
    until(scene.session, lambda: scene.session.current == name and not scene.session.jobs)


def test_a_copy_of_the_labels_layer_is_left_alone(scene):
    layers = scene.viewer.layers
    layers.selection = {scene.labels}
    _layer_actions._duplicate_layer(layers)
    (copy,) = (layer for layer in layers if "copy" in layer.name)
    assert copy.metadata[ROLE] == "labels"  # Otherwise the test would prove nothing.
    assert scene.of_role("labels") == [scene.labels]
    copy.data_setitem((np.array([3]), np.array([4]), np.array([5])), 1)
    prediction = scene.add_prediction(np.zeros(SHAPE, np.uint8), "of a run")
    first = [scene.image, scene.labels, prediction]
    show(scene, "bob")
    assert copy in layers
    assert copy.data[3, 4, 5] == 1
    assert not [layer for layer in first if layer in layers]
    assert sorted(layer.name for layer in layers) == sorted(
        [copy.name, scene.image.name, scene.labels.name]
    )


def test_files_are_checked_only_for_scans_opened_by_the_user(scene, monkeypatch, tmp_path):
    looked = []

    def find(entry, folder):
        looked.append(entry.name)
        return find_path(entry, folder)

    monkeypatch.setattr(project_sources, "find_path", find)
    opened = ViewerScans(scene)
    show(scene, "bob")
    scene.session.scans_changed.emit()
    scene.add_prediction(np.zeros(SHAPE, np.uint8), "of a run")
    scene.viewer.add_image(np.zeros(SHAPE))
    assert opened.paths == []
    assert looked == []
    for name in ("ann", "new"):
        file = tmp_path / f"{name}.nii.gz"
        metadata = {"geometry": None, "files": (file,)}
        scene.viewer.add_image(np.zeros(SHAPE), metadata=metadata)
    assert opened.paths == [tmp_path / "new.nii.gz"]
    assert {"ann", "bob"} == set(looked)


def test_a_watched_scan_is_released_with_its_project(scene):
    session = scene.session
    live = LivePrediction(session, scene)
    live.look()
    assert session.watch.wanted[0] is session.volume
    held = weakref.ref(session.volume)
    session.close()
    assert session.watch.wanted is None
    gc.collect()
    assert held() is None


def test_a_project_is_checked_while_the_last_check_still_runs(scene, tmp_path, monkeypatch):
    session = scene.session
    other = write_project(tmp_path / "other")
    (tmp_path / "other" / "bob.nii.gz").unlink()
    begun, go_on = threading.Event(), threading.Event()
    look = Project.problem

    def slow(project, name):
        if project.folder != other:
            begun.set()
            assert go_on.wait(20)
        return look(project, name)

    monkeypatch.setattr(Project, "problem", slow)
    work = ScanActions(session)
    try:
        assert begun.wait(20)
        (first,) = (job for job in session.jobs if job.kind == "check")
        assert session.open(other)
        assert first.status == "stopping"
        until(session, lambda: "bob" in work.problems)
        assert first.active
        work.check()  # A second check, while the check of the first project is still running.
        assert len([job for job in session.jobs if job.kind == "check"]) == 2
    finally:
        go_on.set()
    until(session, lambda: not session.jobs)
    assert list(work.problems) == ["bob"]


def test_the_edges_of_the_picture_are_labelled(scene):
    overlay = text_overlay(scene.viewer)
    assert (overlay.text, overlay.visible) == (EDGES["axial"], True)
    scene.session.project.set_plane("sagittal")
    scene.session.plane_changed.emit()
    assert overlay.text == "left: A   right: P   top: S   bottom: I"
    scene.session.deselect()
    assert not overlay.visible
    # Text of the user is kept.
    overlay.text = "mine"
    scene.session.project.set_plane("axial")
    scene.session.plane_changed.emit()
    assert overlay.text == "mine"


def test_a_read_only_project_is_shown_and_not_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    session, problems = Session(), []
    session.problem.connect(lambda problem: problems.append(problem.sentence))
    scene = Scene(session, ViewerModel())
    with read_only_folder(write_project(tmp_path)) as folder:
        assert session.open(folder)
        until(session, lambda: scene.labels is not None and not session.jobs)
        assert len(problems) == 1
        assert "open for reading only" in problems[0]
        assert not scene.labels.editable
        scene.autosaver.mark([2])
        session.mark_done("ann", [2], True)
        show(scene, "bob")
        assert "reading only" in scene.autosaver.sentence
        assert all("reading only" in problem for problem in problems)
        session.close()
    with Project.open(folder) as project:
        assert project.done("ann") == ()
        assert not project.has_labels("ann")
