"""The scene: its own layers, scans opened by the user, and release of memory."""

import gc
import threading
import weakref

import numpy as np
import pytest
from napari.layers import _layer_actions

from napari_sslseg.core.project import sources as project_sources
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.project.sources import find_path
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.gui.scans.scan_actions import ScanActions
from napari_sslseg.gui.scans.viewer_scans import ViewerScans
from napari_sslseg.gui.viewer.edge_letters import edge_letters
from napari_sslseg.gui.viewer.live_prediction import LivePrediction
from napari_sslseg.gui.viewer.scene import ROLE
from scene_project import SHAPE, until, write_project


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
    prediction = scene.add_prediction(np.zeros(SHAPE, np.uint8), "of a run")
    show(scene, "bob")
    assert copy in layers
    assert prediction not in layers
    assert sorted(layer.name for layer in layers) == sorted(
        [copy.name, scene.image.name, scene.labels.name]
    )
    # Strokes belong to the scan on which they were drawn.
    copy.data_setitem((np.array([3]), np.array([4]), np.array([5])), 1)
    show(scene, "ann")
    assert copy not in layers
    show(scene, "bob")
    assert copy in layers
    assert copy.data[3, 4, 5] == 1


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


def shown_letters(viewer):
    """Letters at the edges of the canvas: left, right, top, bottom."""
    found = {text.position: text for key, text in viewer.canvas.overlays.items() if "sslseg" in key}
    places = ("middle_left", "middle_right", "top_center", "bottom_center")
    return "".join(found[place].text if found[place].visible else "-" for place in places)


def test_the_letters_at_the_edges_follow_the_view(scene):
    viewer = scene.viewer
    assert shown_letters(viewer) == "RLAP"
    viewer.dims.transpose()
    assert shown_letters(viewer) == "APRL"
    assert scene.in_plane
    viewer.dims.transpose()
    viewer.dims.roll()
    assert shown_letters(viewer) == "APSI"
    assert not scene.in_plane
    scene.turn()
    assert shown_letters(viewer) == "RLAP"
    viewer.dims.ndisplay = 3
    assert shown_letters(viewer) == "----"
    assert not scene.in_plane
    viewer.dims.ndisplay = 2
    viewer.scene.camera.orientation2d = ("up", "left")
    assert shown_letters(viewer) == "LRPA"
    viewer.scene.camera.orientation2d = ("down", "right")
    scene.image.rotate = 20  # The picture is no longer along the axes of the scan.
    assert shown_letters(viewer) == "----"
    scene.image.rotate = 0
    scene.session.project.set_plane("sagittal")
    scene.session.plane_changed.emit()
    assert shown_letters(viewer) == "APSI"
    scene.session.deselect()
    assert shown_letters(viewer) == "----"


@pytest.mark.parametrize(
    ("degrees", "letters"),
    [(0, ("A", "P")), (20, ("A", "P")), (40, ("AL", "PR")), (50, ("AR", "PL"))],
)
def test_letters_of_an_oblique_scan_name_both_sides(degrees, letters):
    turn = np.deg2rad(degrees)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:2, :2] = 2 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert edge_letters(Geometry(affine, (8, 8, 4)), 1) == letters
