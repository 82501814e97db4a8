"""Another scan on the layers of the last one: nothing of it stays, and nothing is lost."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks

from labelling_screen import Screen, stroke
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.model.predictions import Predicted, PredictionScores
from napari_sslseg.gui.viewer.prediction_layers import PredictionLayers
from napari_sslseg.gui.viewer.windowing import CUSTOM, Windowing
from scene_project import until

SCANS = {
    "ann": ((24, 48, 50), np.int16, (3.0, 1.0, 1.0)),
    "bob": ((30, 40, 44), np.int16, (2.0, 0.5, 0.5)),
    "like-ann": ((24, 48, 50), np.int16, (3.0, 1.0, 1.0)),
    "real": ((24, 48, 50), np.float32, (3.0, 1.0, 1.0)),
}
"""Shape, type and voxel size of each scan in the display grid."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    paths = []
    for seed, (name, (shape, kind, spacing)) in enumerate(SCANS.items()):
        values = np.random.default_rng(seed).normal(300 + 200 * seed, 60, shape[::-1])
        affine = np.diag([*spacing[::-1], 1.0])
        affine[:3, 3] = 10 * seed
        paths.append(tmp_path / f"{name}.nii")
        nib.save(nib.Nifti1Image(values.astype(kind), affine), paths[-1])
    with Project.create(tmp_path / "project") as project:
        project.add_scans(paths)
        project.add_class("liver")
        project.add_class("spleen")
        project.remember("scan", "ann")
    return tmp_path / "project"


@pytest.fixture
def screen(folder):
    made = Screen(folder)
    made.until(lambda: made.layer is not None and not made.session.jobs)
    yield made
    made.session.close()


def fresh(folder, name):
    """The layers of a scan in a viewer in which no other scan was shown."""
    with Project.open(folder) as project:
        project.remember("scan", name)
    made = Screen(folder)
    made.until(lambda: made.layer is not None and not made.session.jobs)
    layers = made.scene.image, made.layer
    made.session.close()
    return layers


PLACE = ("name", "scale", "translate", "rotate", "shear", "contrast_limits", "visible", "editable")


def looks(layer):
    found = {name: getattr(layer, name) for name in PLACE if hasattr(layer, name)}
    found["affine"] = layer.affine.affine_matrix
    found["extent"] = layer.extent.world
    return {
        name: np.round(value, 6).tolist() if isinstance(value, np.ndarray) else value
        for name, value in found.items()
    }


def test_no_layer_is_removed_or_added_for_another_scan(screen):
    changes = []
    for event in (
        screen.scene.viewer.layers.events.inserted,
        screen.scene.viewer.layers.events.removed,
    ):
        event.connect(lambda event: changes.append(event.value))
    layers = screen.scene.image, screen.layer
    for name in ("bob", "like-ann", "ann"):
        screen.show(name)
        assert (screen.scene.image, screen.layer) == layers
    assert changes == []


def test_the_picture_is_the_array_of_the_scan_and_no_copy(screen):
    screen.show("bob")
    volume = screen.session.volume
    assert screen.scene.image.data is volume.data
    assert volume.data.dtype == np.int16
    assert screen.scene.image.metadata["geometry"] is volume.geometry


def test_layers_of_another_scan_look_like_new_ones(screen, folder):
    image, labels = screen.scene.image, screen.layer
    image.rotate = labels.rotate = 30  # By mistake, with the mouse.
    image.visible = labels.visible = False
    image.affine = np.diag([1.0, 2.0, 1.0, 1.0])
    labels.n_edit_dimensions = 3
    screen.show("bob")
    assert screen.scene.image is image
    assert labels.n_edit_dimensions == 2
    shown = looks(image), looks(labels)
    letters = screen.scene._letters.letters()
    screen.session.close()
    assert shown == tuple(looks(layer) for layer in fresh(folder, "bob"))
    assert set(letters) == {"left", "right", "top", "bottom"}


def test_a_scan_with_another_type_of_values_gets_new_layers(screen):
    before = screen.scene.image
    screen.show("real")
    assert screen.scene.image is not before
    assert screen.scene.image.data.dtype == np.float32
    assert [layer.name for layer in screen.scene.viewer.layers] == ["real", "real labels"]


def test_strokes_are_undone_only_in_their_scan(screen):
    stroke(screen, (5, 20, 20))
    screen.show("like-ann")
    screen.layer.undo()
    assert not screen.layer.data.any()
    stroke(screen, (6, 10, 10), 2)
    screen.show("ann")
    assert screen.layer.data[5, 20, 20] == 1
    screen.layer.undo()
    assert not screen.layer.data.any()
    screen.layer.redo()
    assert screen.layer.data[5, 20, 20] == 1
    screen.show("like-ann")
    assert screen.layer.data[6, 10, 10] == 2
    screen.layer.undo()
    assert not screen.layer.data.any()
    screen.until_saved()
    assert screen.saved("ann")[5, 20, 20] == 1


def test_labels_that_were_replaced_meanwhile_have_no_strokes_to_undo(screen, tmp_path):
    stroke(screen, (5, 20, 20))
    screen.until_saved()
    screen.show("bob")
    imported = np.zeros(SCANS["ann"][0], np.uint8)
    imported[8, 10:20, 10:20] = 2
    screen.session.project.save_labels("ann", imported)
    screen.show("ann")
    screen.layer.undo()
    np.testing.assert_array_equal(screen.layer.data, imported)


def test_labels_are_saved_under_their_own_scan(screen):
    """Scans of one shape, so that nothing but the name tells them apart."""
    stroke(screen, (5, 20, 20))
    screen.session.select("like-ann")  # Before the stroke is saved.
    screen.until(lambda: screen.session.current == "like-ann")
    stroke(screen, (6, 30, 30), 2)
    screen.show("ann")
    screen.until_saved()
    assert np.unique(screen.saved("ann")).tolist() == [0, 1]
    assert np.unique(screen.saved("like-ann")).tolist() == [0, 2]


def test_done_slices_stay_done_when_another_scan_is_shown(screen):
    stroke(screen, (5, 20, 20))
    screen.autosaver.mark([5, 7])
    screen.until(lambda: screen.session.project.done("ann") == (5, 7))
    notes = []
    screen.session.note.connect(notes.append)
    for name in ("like-ann", "bob", "ann", "like-ann"):
        screen.show(name)
        screen.until_saved()
    assert screen.session.project.done("ann") == (5, 7)
    assert screen.session.project.done("like-ann") == ()
    assert notes == []


def press(layer, at):
    event = SimpleNamespace(
        type="mouse_press", is_dragging=False, button=1, modifiers=(), pos=np.zeros(2),
        position=tuple(layer.data_to_world(at)), view_direction=None, dims_displayed=[1, 2],
        dims_point=(0, 0, 0), handled=False,
    )  # fmt: skip
    mouse_press_callbacks(layer, event)
    return event


def test_a_stroke_that_is_not_ended_does_not_go_on_in_another_scan(screen):
    screen.scene.go_to(5)
    screen.layer.mode = "paint"
    first = screen.layer
    event = press(first, (5, 20, 20))
    assert first.data.any()
    screen.show("like-ann")
    event.type, event.is_dragging = "mouse_move", True
    event.position = tuple(screen.layer.data_to_world((5, 30, 30)))
    for layer in screen.scene.viewer.layers:
        mouse_move_callbacks(layer, event)
    assert not screen.layer.data.any()
    screen.until_saved()
    assert screen.saved("ann")[5, 20, 20] == 1


def test_a_polygon_that_is_not_closed_does_not_go_on_in_another_scan(screen):
    screen.layer.mode = "polygon"
    screen.layer._overlays["polygon"].points = [[5, 10, 10], [5, 20, 10], [5, 20, 20]]
    screen.show("like-ann")
    assert not screen.layer._overlays["polygon"].points


@pytest.mark.parametrize("which", ["image", "labels"])
def test_a_deleted_layer_comes_back_with_the_next_scan(screen, which):
    screen.scene.viewer.layers.remove(getattr(screen.scene, which))
    screen.session.select("bob")
    until(screen.session, lambda: screen.session.current == "bob")  # No tick notices it before.
    assert [layer.name for layer in screen.scene.viewer.layers] == ["bob", "bob labels"]
    assert screen.scene.is_complete
    stroke(screen, (5, 20, 20))
    screen.until_saved()


def test_a_window_set_by_hand_belongs_to_its_scan(screen):
    windowing = Windowing(screen.scene)
    screen.scene.image.contrast_limits = (100, 333)
    assert windowing.preset == CUSTOM
    screen.show("bob")
    assert windowing.preset == "Auto"
    auto = tuple(screen.scene.image.contrast_limits)
    screen.show("ann")
    assert tuple(screen.scene.image.contrast_limits) == (100, 333)
    screen.show("bob")
    assert tuple(screen.scene.image.contrast_limits) == pytest.approx(auto)
    windowing.release()


def test_the_settings_of_the_brush_stay(screen):
    screen.layer.mode, screen.layer.brush_size, screen.layer.opacity = "erase", 13, 0.3
    screen.layer.selected_label = 2
    screen.show("bob")
    layer = screen.layer
    assert (str(layer.mode), layer.brush_size, layer.opacity) == ("erase", 13, 0.3)
    assert layer.selected_label == 2


def test_layers_of_the_user_stay_where_they_are(screen):
    viewer = screen.scene.viewer
    viewer.add_points(np.zeros((1, 3)), name="my points")
    names = [layer.name for layer in viewer.layers]
    screen.show("bob")
    assert [layer.name for layer in viewer.layers] == [name.replace("ann", "bob") for name in names]
    assert viewer.layers.selection.active is screen.layer


def test_a_closed_project_leaves_no_layers(screen):
    screen.show("bob")
    screen.session.close()
    assert len(screen.scene.viewer.layers) == 0


class Predictions:
    """Predictions of two scans by two runs, shown as in step 5."""

    def __init__(self, screen):
        self.screen = screen
        self.layers = PredictionLayers(screen.session, screen.scene)
        self.made = {
            (run, name): self._make(name, value)
            for value, run in enumerate(("run-a", "run-b"), start=1)
            for name in ("ann", "bob")
        }
        self.layers.first = "run-a"
        self.layers.refresh()

    def _make(self, name, value):
        labels = np.full(SCANS[name][0], value, np.uint8)
        return Predicted(labels, np.zeros(labels.shape, np.float16), 0.001)

    def arrive(self, run, name):
        figures = PredictionScores(np.zeros(3), None, (), {})
        self.screen.session.predictions._store(run, name, self.made[run, name], figures)


@pytest.fixture
def predictions(screen):
    return Predictions(screen)


def test_the_layer_of_the_prediction_stays_for_the_next_scan(screen, predictions):
    predictions.arrive("run-a", "ann")
    predictions.arrive("run-a", "bob")
    (layer,) = screen.scene.of_role("prediction")
    changes = []
    screen.scene.viewer.layers.events.inserted.connect(lambda event: changes.append(event.value))
    screen.scene.viewer.layers.events.removed.connect(lambda event: changes.append(event.value))
    for name in ("bob", "ann"):
        screen.show(name)
        assert layer.data is predictions.made["run-a", name].labels
        assert layer.extent.world.tolist() == screen.scene.image.extent.world.tolist()
        assert (layer.contour, layer.visible, layer.editable) == (1, True, False)
        assert [item.name for item in screen.scene.viewer.layers] == [
            name, "prediction of run-a", f"{name} labels",
        ]  # fmt: skip
    assert changes == []


def test_a_prediction_is_not_shown_on_a_scan_without_one(screen, predictions):
    predictions.arrive("run-a", "ann")
    assert len(screen.scene.of_role("prediction")) == 1
    screen.show("bob")
    assert screen.scene.of_role("prediction") == []
    screen.show("ann")
    (layer,) = screen.scene.of_role("prediction")
    assert layer.data is predictions.made["run-a", "ann"].labels
    screen.show("real")  # New layers, since it has another type of values.
    assert screen.scene.of_role("prediction") == []


def test_another_run_is_shown_on_the_same_layer(screen, predictions):
    predictions.arrive("run-a", "ann")
    predictions.arrive("run-b", "ann")
    (layer,) = screen.scene.of_role("prediction")
    predictions.layers.second, predictions.layers.shown = "run-b", "second"
    predictions.layers.refresh()
    assert screen.scene.of_role("prediction") == [layer]
    assert layer.data is predictions.made["run-b", "ann"].labels
    assert layer.name == "prediction of run-b"


def test_predictions_of_other_scans_do_not_draw_this_one_again(screen, predictions):
    predictions.arrive("run-a", "ann")
    (layer,) = screen.scene.of_role("prediction")
    drawn = []
    layer.events.set_data.connect(lambda event: drawn.append(event))
    for name in ("contour", "visible", "opacity"):
        getattr(layer.events, name).connect(lambda event: drawn.append(event))
    predictions.arrive("run-a", "bob")
    predictions.arrive("run-b", "ann")
    assert drawn == []
    screen.session.predictions.forget("run-a")
    assert screen.scene.of_role("prediction") == []
