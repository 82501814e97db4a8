"""The inspect step in a real window: predict, inspect, accept, undo, compare, export."""

import json
import shutil
import threading

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog

from dialogs import answer
from loop_project import DONE, idle, make_project, open_panel
from napari_sslseg import core
from napari_sslseg.core.common.events import Preview
from napari_sslseg.core.common.example_pictures import SlicePrediction
from napari_sslseg.core.project.record import with_changes
from napari_sslseg.gui.inspect.panel import InspectPanel
from napari_sslseg.gui.label.class_edits import remove_class
from napari_sslseg.gui.viewer.live_prediction import LivePrediction
from napari_sslseg.gui.viewer.scene import ROLE


def press(qtbot, button):
    assert button.isVisible()
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with two short trainings, and the true labels."""
    folder = tmp_path_factory.mktemp("loop")
    truths = make_project(folder, count=4)
    with core.Project.open(folder / "project") as project:
        for steps in (40, 5):
            split = project.split_validation()
            core.finetune(
                split.training,
                validation=split.validation,
                out=project.new_run_folder("finetune"),
                settings=core.FinetuneSettings(
                    network=core.Network.preset("tiny"),
                    training=core.Training(steps=steps, batch_size=4, learning_rate=5e-3),
                ),
                device="cpu",
            )
    return folder, truths


@pytest.fixture
def opened(viewer, qtbot, trained):
    host = open_panel(viewer, qtbot, InspectPanel, trained[0])
    yield host
    host.end(qtbot)


def roles(viewer):
    return [layer.metadata.get(ROLE) for layer in viewer.layers]


def predict(host, qtbot, button="this"):
    press(qtbot, getattr(host.panel, button))
    idle(host, qtbot)


def choose(host, run):
    host.panel.run.setCurrentIndex(host.panel.run.findData(run))


def test_each_step_shows_only_its_own_prediction(opened, viewer, qtbot):
    predict(opened, qtbot)
    scene, shape = opened.scene, opened.scene.image.data.shape
    (finished,) = scene.of_role("prediction")
    scene.bring("live")  # The training step calls this when it is shown.
    assert finished.visible  # No training runs.
    live = LivePrediction(opened.session, scene)
    values = np.ones(shape[1:], np.uint8)
    doubt = np.zeros(values.shape, np.float32)
    picture = SlicePrediction(opened.session.current, scene.plane, 4, values, doubt)
    seen = threading.Event()  # Set to end the training.

    def training(stop, pause):
        yield Preview(1, picture)
        seen.wait(20)

    job = opened.session.run("finetune", "Training", training)
    qtbot.waitUntil(lambda: not finished.visible)
    scene.bring("prediction")
    assert finished.visible
    assert not live.layer.visible
    scene.bring("live")
    # What is hidden stays hidden when its layer is made anew, as at another scan.
    scene.show_predictions(False)
    viewer.layers.remove(live.layer)
    live._show(picture)
    assert not live.layer.visible
    scene.show_predictions(True)
    assert live.layer.visible
    seen.set()
    idle(opened, qtbot)
    assert not job.active
    assert live.layer is None
    assert finished.visible  # The training is over.


def test_a_prediction_that_is_deleted_in_napari_comes_back(opened, viewer, qtbot):
    predict(opened, qtbot)
    scene, overlay = opened.scene, opened.panel.show_box.boxes["overlay"]
    (layer,) = scene.of_role("prediction")
    viewer.layers.remove(layer)
    assert not overlay.isChecked()
    overlay.click()
    (again,) = scene.of_role("prediction")
    assert again.visible
    assert again.data.any()


def test_a_prediction_is_shown_accepted_undone_and_marked_as_done(opened, viewer, qtbot, trained):
    host, panel, scene = opened, opened.panel, opened.scene
    choose(host, "finetune-001")
    assert not panel.correct.accept.isEnabled()
    predict(host, qtbot)
    labels, before = scene.labels, scene.labels.data.copy()
    assert roles(viewer) == ["scan", "prediction", "labels"]
    (shown,) = scene.of_role("prediction")
    assert shown.data.any()
    np.testing.assert_array_equal(labels.data, before)
    assert shown.contour == 1
    # Check boxes.
    boxes = panel.show_box.boxes
    for key in ("contour", "uncertainty", "errors"):
        boxes[key].click()
    assert shown.contour == 0
    assert roles(viewer) == ["scan", "uncertainty", "prediction", "labels", "errors"]
    scene.go_to(DONE[0])
    (errors,) = scene.of_role("errors")
    wrong = shown.data[DONE[0]] != before[DONE[0]]
    np.testing.assert_array_equal(errors.data[DONE[0]] > 0, wrong)
    for key in ("contour", "uncertainty", "errors", "overlay"):
        boxes[key].click()
    assert roles(viewer) == ["scan", "prediction", "labels"]
    assert not shown.visible
    boxes["overlay"].click()
    # The slice with the highest uncertainty that is not done.
    press(qtbot, panel.correct.next)
    index = scene.slice
    assert index not in DONE
    doubt = host.session.predictions.scores("finetune-001", host.session.current).mean_uncertainty
    assert doubt[index] == max(d for i, d in enumerate(doubt) if i not in DONE)

    differs = shown.data[index] != before[index]
    press(qtbot, panel.correct.accept)
    np.testing.assert_array_equal(labels.data[index], shown.data[index])
    assert "Ctrl+Z" in panel.message.text() if differs.any() else "already" in panel.message.text()
    others = [i for i in range(len(before)) if i != index]
    np.testing.assert_array_equal(labels.data[others], before[others])
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    labels.redo()
    np.testing.assert_array_equal(labels.data[index], shown.data[index])
    press(qtbot, panel.correct.done)
    project, name = host.session.project, host.session.current
    qtbot.waitUntil(lambda: index in project.done(name))
    np.testing.assert_array_equal(project.labels(name).data, labels.data)
    fresh = host.session.predictions.is_up_to_date
    qtbot.waitUntil(lambda: fresh("finetune-001", name))
    idle(host, qtbot)
    # A slice that is done is offered to be unmarked.
    assert "unmark" in panel.correct.done.text()
    press(qtbot, panel.correct.done)
    qtbot.waitUntil(lambda: index not in project.done(name))
    assert "no longer done" in panel.message.text()
    assert "unmark" not in panel.correct.done.text()
    scene.go_to(DONE[0])
    assert "unmark" in panel.correct.done.text()
    project.save_labels(name, before)
    np.testing.assert_array_equal(shown.data, host.panel.layers.predicted().labels)


def key(viewer, qtbot, letter, *modifiers):
    """Press a key on the picture."""
    held = Qt.KeyboardModifier.NoModifier
    for modifier in modifiers:
        held |= modifier
    qtbot.keyClick(viewer.window._qt_viewer.canvas.native, letter, held)


CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


def test_undo_of_an_acceptance_brings_the_done_mark_back_and_no_message_stays_false(
    opened, viewer, qtbot
):
    host, panel, scene = opened, opened.panel, opened.scene
    project, name = host.session.project, host.session.current
    choose(host, "finetune-001")
    predict(host, qtbot)
    predicted, before = panel.layers.predicted().labels, scene.labels.data.copy()
    index = next(i for i in DONE if (predicted[i] != before[i]).any())
    said = panel.message.text
    scene.go_to(index)
    press(qtbot, panel.correct.accept)
    assert "no longer done" in said()
    qtbot.waitUntil(lambda: index not in project.done(name))
    key(viewer, qtbot, Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(scene.labels.data, before)
    qtbot.waitUntil(lambda: index in project.done(name))
    assert "done again" in said()
    assert "accepted" not in said()
    # Redo accepts the prediction again, which is not checked.
    key(viewer, qtbot, Qt.Key.Key_Z, CONTROL, SHIFT)
    np.testing.assert_array_equal(scene.labels.data[index], predicted[index])
    qtbot.waitUntil(lambda: index not in project.done(name))
    assert said() == ""
    press(qtbot, panel.correct.accept)
    assert "already equal" in said()
    key(viewer, qtbot, Qt.Key.Key_Z, CONTROL)
    assert "already equal" not in said()
    qtbot.waitUntil(lambda: index in project.done(name))
    # A mark makes it untrue that the slice is not done.
    key(viewer, qtbot, Qt.Key.Key_Z, CONTROL, SHIFT)
    qtbot.waitUntil(lambda: index not in project.done(name))
    key(viewer, qtbot, Qt.Key.Key_Z, CONTROL)
    qtbot.waitUntil(lambda: index in project.done(name))
    press(qtbot, panel.correct.accept)
    assert "no longer done" in said()
    scene.autosaver.mark([index])  # As the key D of step 3 does.
    qtbot.waitUntil(lambda: said() == "")
    qtbot.waitUntil(lambda: index in project.done(name))
    key(viewer, qtbot, Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(scene.labels.data, before)
    qtbot.waitUntil(lambda: scene.autosaver.status == "saved")
    assert project.done(name) == DONE


def test_a_slice_of_a_held_out_patient_is_for_scores_only(opened, qtbot):
    host, panel, scene = opened, opened.panel, opened.scene
    session, name = host.session, host.session.current
    choose(host, "finetune-001")
    predict(host, qtbot)
    session.set_role(name, "test")
    try:
        scene.go_to(DONE[0])
        for words in ("no longer", "scores only"):  # It was done.
            press(qtbot, panel.correct.done)
            assert words in panel.message.text()
            assert "training" not in panel.message.text()
        scene.go_to(0)
        scene.labels.data[0] = 0
        session.knows_empty, heard = False, []

        def refuse():
            box = QApplication.activeModalWidget()
            heard.append(box.informativeText())
            box.reject()

        QTimer.singleShot(100, refuse)
        press(qtbot, panel.correct.done)
        assert "scores" in heard[0]
        assert "training" not in heard[0]
    finally:
        session.set_role(name, "train")
    scene.go_to(DONE[0])
    for words in ("no longer", "is done"):
        press(qtbot, panel.correct.done)
        assert words in panel.message.text()
        assert "next training" in panel.message.text()


def test_a_click_accepts_one_region_and_is_undone_as_one_step(opened, viewer, qtbot, trained):
    host, panel, scene = opened, opened.panel, opened.scene
    choose(host, "finetune-001")
    predict(host, qtbot)
    (shown,) = scene.of_role("prediction")
    index = int(np.count_nonzero(shown.data, axis=(1, 2)).argmax())
    scene.go_to(index)
    before = scene.labels.data.copy()
    scene.labels.data[index] = 0
    scene.labels.refresh()
    rows, columns = np.nonzero(shown.data[index])
    place = (index, rows[len(rows) // 2], columns[len(columns) // 2])
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.wait(50)
    # Position of the voxel on the canvas.
    world = scene.labels.data_to_world(place)
    middle = viewer.camera.center
    size = canvas.size()
    at = QPoint(
        round(size.width() / 2 + (world[2] - middle[2]) * viewer.camera.zoom),
        round(size.height() / 2 + (world[1] - middle[1]) * viewer.camera.zoom),
    )
    scene.labels.mode = "paint"
    press(qtbot, panel.correct.region)
    qtbot.mouseMove(canvas, at)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    from skimage.measure import label

    parts = label(shown.data[index] == shown.data[place], connectivity=1)
    expected = np.where(parts == parts[place[1:]], shown.data[place], 0)
    np.testing.assert_array_equal(scene.labels.data[index], expected)
    others = np.delete(np.arange(len(before)), index)
    np.testing.assert_array_equal(scene.labels.data[others], before[others])
    press(qtbot, panel.correct.region)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    scene.labels.undo()
    assert not scene.labels.data[index].any()

    def choose_a_tool():
        scene.labels.mode = "erase"

    def leave_the_step():
        panel.hide()
        panel.show()

    # It waits no longer after Escape, with another tool, in another step, on another scan.
    for leave in (
        lambda: qtbot.keyClick(canvas, Qt.Key.Key_Escape),
        lambda: qtbot.keyClick(panel.correct.region, Qt.Key.Key_Escape),
        choose_a_tool,
        leave_the_step,
    ):
        press(qtbot, panel.correct.region)
        assert panel.correct.region.isChecked()
        leave()
        assert not panel.correct.region.isChecked()
        qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
        assert not scene.labels.data[index].any()


def test_a_click_on_a_score_shows_the_scan_and_two_runs_are_compared(
    opened, viewer, qtbot, trained
):
    host, panel = opened, opened.panel
    choose(host, "finetune-001")
    panel.other.setCurrentIndex(panel.other.findData("finetune-002"))
    predict(host, qtbot, "all")
    table = panel.table
    project = host.session.project
    kept = core.Run.open(trained[0] / "project/runs/finetune-001").record["data"]
    apart = [entry["name"] for entry in kept if entry["role"] == "validation"]
    assert table.item(0, 0).text() == apart[0]
    assert {table.item(row, 5).text() for row in range(table.rowCount())} == {
        "validation",
        "training",
        "unseen",
    }
    assert "Mean Dice" in panel.verdict.text()
    assert "2 slices of 1 patient, a rough guide" in panel.verdict.text()
    assert not table.isColumnHidden(4)
    # The scores equal those of core on all done slices together.
    found = host.session.predictions.get("finetune-001", apart[0]).labels
    truth = project.labels(apart[0]).data
    expected = core.evaluate(found[list(DONE)], truth[list(DONE)]).classes
    assert table.item(0, 2).text() == f"{expected[1].dice:.2f}"
    other = next(name for name in project.names if name != host.session.current)
    row = next(r for r in range(table.rowCount()) if table.item(r, 0).text() == other)
    place = table.visualItemRect(table.item(row, 0)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: host.session.current == other)
    worst = host.session.predictions.scores("finetune-001", other).scores.worst
    assert host.scene.slice == worst
    # Run A, run B, and their differences.
    first, second = (
        host.session.predictions.get(run, other).labels for run in ("finetune-001", "finetune-002")
    )
    (shown,) = host.scene.of_role("prediction")
    np.testing.assert_array_equal(shown.data, first)
    panel.show_box.group.button(1).click()
    (shown,) = host.scene.of_role("prediction")
    np.testing.assert_array_equal(shown.data, second)
    panel.show_box.group.button(2).click()
    (map_,) = host.scene.of_role("errors")
    np.testing.assert_array_equal(map_.data[worst] > 0, first[worst] != second[worst])
    # Nothing is accepted from a difference, neither by a button nor by a key.
    assert not panel.correct.accept.isEnabled()
    assert not panel.correct.region.isEnabled()
    drawn = host.scene.labels.data.copy()
    panel.correct.accept_slice()
    panel.correct.accept_pointed()
    np.testing.assert_array_equal(host.scene.labels.data, drawn)
    assert "Run A" in panel.message.text()
    panel.show_box.group.button(1).click()
    assert panel.correct.accept.isEnabled()
    panel.show_box.group.button(2).click()
    (map_,) = host.scene.of_role("errors")
    # Maps would cover what is labelled in another step.
    panel.hide()
    assert not map_.visible
    panel.show()
    assert map_.visible
    table.sortItems(2, Qt.SortOrder.DescendingOrder)
    dice = [table.item(r, 2).text() for r in range(table.rowCount())]
    assert dice[-1] == "–"  # A scan without done slices.
    dice = [figure for figure in dice if figure != "–"]
    assert dice == sorted(dice, reverse=True)


def test_a_scan_of_another_modality_is_refused_for_each_run(opened, qtbot, trained):
    host, panel, project = opened, opened.panel, opened.session.project
    choose(host, "finetune-001")
    panel.other.setCurrentIndex(panel.other.findData("finetune-002"))
    name, record = host.session.current, project.record
    scans = tuple(with_changes(s, modality="CT") if s.name == name else s for s in record.scans)
    project.change(lambda record: with_changes(record, scans=scans))
    predict(host, qtbot)
    said = panel.message.text()
    assert "0 of 2 predictions" in said
    assert said.count("finetune-001") == 1
    assert "CT" in said
    assert "--" not in said
    project.change(lambda _: record)


def test_a_score_shows_how_many_slices_were_accepted_from_a_prediction(opened, qtbot, trained):
    host, panel, scene = opened, opened.panel, opened.scene
    session, project, table = host.session, host.session.project, opened.panel.table
    choose(host, "finetune-001")
    data = core.Run.open(trained[0] / "project/runs/finetune-001").record["data"]
    (name,) = (entry["name"] for entry in data if entry["role"] == "validation")
    session.select(name)
    qtbot.waitUntil(lambda: session.current == name)
    predict(host, qtbot)
    before, predicted = scene.labels.data.copy(), panel.layers.predicted().labels
    index = next(i for i in range(10) if i not in DONE and (predicted[i] != before[i]).any())

    def accepted():
        rows = [row for row in range(table.rowCount()) if table.item(row, 0).text() == name]
        if table.isColumnHidden(6):
            return set()
        return {table.item(row, 6).text() for row in rows}

    assert table.rowCount()
    assert accepted() == set()
    scene.go_to(index)
    press(qtbot, panel.correct.accept)
    assert project.accepted(name) == {"finetune-001": (index,)}
    press(qtbot, panel.correct.done)
    assert "accepted prediction" in panel.message.text()
    qtbot.waitUntil(lambda: accepted() == {"1 of 3"})
    idle(host, qtbot)
    words = "On 1 of these 3 slices a prediction of this run was accepted"
    assert words in panel.verdict.text()
    row = next(r for r in range(table.rowCount()) if table.item(r, 0).text() == name)
    assert "3 slices, 1 accepted from a prediction (finetune-001)" in table.item(row, 2).toolTip()
    assert table.item(row, 2).font().italic()
    # Slices accepted from this run also affect the score of the other run.
    choose(host, "finetune-002")
    predict(host, qtbot)
    assert accepted() == {"1 of 3"}
    assert "a prediction of another run was accepted" in panel.verdict.text()
    choose(host, "finetune-001")
    # After undo, the labels are drawn by hand again.
    scene.labels.undo()
    qtbot.waitUntil(lambda: accepted() == set())
    assert project.accepted(name) == {}
    idle(host, qtbot)
    assert "accepted" not in panel.verdict.text()
    np.testing.assert_array_equal(scene.labels.data, before)
    session.mark_done(name, [index], done=False)


def test_an_export_that_fails_leaves_nothing(opened, qtbot, trained, tmp_path, monkeypatch):
    host, panel = opened, opened.panel
    choose(host, "finetune-001")
    panel.export.parentWidget().button.click()
    form = panel.export
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    form.what.setCurrentIndex(1)
    form.scans.setCurrentIndex(form.scans.findData("all"))
    form.format.setCurrentIndex(form.format.findData(".nii.gz"))
    (trained[0] / "scans").rename(trained[0] / "elsewhere")
    try:
        press(qtbot, form.export)
        idle(host, qtbot)
    finally:
        (trained[0] / "elsewhere").rename(trained[0] / "scans")
    assert "0 of 4" in panel.message.text()
    assert list(tmp_path.iterdir()) == []


def test_the_next_slice_to_correct_is_in_the_next_scan_if_this_one_is_done(opened, qtbot):
    host, panel, session = opened, opened.panel, opened.session
    choose(host, "finetune-001")
    predict(host, qtbot, "all")
    first, second, *_ = session.project.names
    assert session.current == first
    before = session.project.done(first)
    doubt = session.predictions.scores("finetune-001", second).mean_uncertainty
    session.mark_done(first, range(host.scene.image.data.shape[0]))
    try:
        press(qtbot, panel.correct.next)
        qtbot.waitUntil(lambda: session.current == second)
        idle(host, qtbot)
        ready = [i for i in np.argsort(-doubt) if i not in session.project.done(second)]
        assert host.scene.slice == ready[0]
        assert second in panel.message.text()
    finally:
        session.mark_done(first, range(doubt.size), done=False)
        session.mark_done(first, before)


def test_labels_predictions_and_a_report_are_exported(
    opened, qtbot, trained, tmp_path, monkeypatch
):
    host, panel = opened, opened.panel
    choose(host, "finetune-001")
    panel.export.parentWidget().button.click()
    form = panel.export
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    form.scans.setCurrentIndex(form.scans.findData("all"))
    for what, suffix in ((0, ".nii.gz"), (1, ".nrrd"), (1, ".mha")):
        form.what.setCurrentIndex(what)
        form.format.setCurrentIndex(form.format.findData(suffix))
        press(qtbot, form.export)
        idle(host, qtbot)
    names = host.session.project.names
    assert {file.name for file in tmp_path.iterdir()} == {
        *(f"{name}_labels.nii.gz" for name in names[:3]),
        *(f"{name}_finetune-001{suffix}" for name in names for suffix in (".nrrd", ".mha")),
        "classes.json", "labels_slices.json",
    }  # fmt: skip
    # Names of the label values, and the labelled slices.
    assert json.loads((tmp_path / "classes.json").read_text()) == {
        "1": "liver", "2": "spleen",
    }  # fmt: skip
    slices = json.loads((tmp_path / "labels_slices.json").read_text())
    assert slices == {name: list(DONE) for name in names[:3]}
    written = nib.load(tmp_path / f"{names[0]}_labels.nii.gz")
    source = nib.load(trained[0] / "scans" / f"{names[0]}.nii.gz")
    np.testing.assert_array_equal(written.affine, source.affine)
    assert written.shape == source.shape
    assert "no label" not in panel.message.text()
    # Existing files are replaced only after confirmation.
    form.what.setCurrentIndex(0)
    form.format.setCurrentIndex(0)
    asked = []
    answer("Cancel", asked)
    stamp = (tmp_path / f"{names[0]}_labels.nii.gz").stat().st_mtime_ns
    press(qtbot, form.export)
    idle(host, qtbot)
    assert "3 of the files exist already" in asked[0]
    assert (tmp_path / f"{names[0]}_labels.nii.gz").stat().st_mtime_ns == stamp
    answer("Replace")
    press(qtbot, form.export)
    idle(host, qtbot)
    assert (tmp_path / f"{names[0]}_labels.nii.gz").stat().st_mtime_ns > stamp
    assert "3 of 3" in panel.message.text()
    project = host.session.project
    labels = project.labels(names[2]).data
    project.save_labels(names[2], np.zeros_like(labels))
    answer("Replace")
    press(qtbot, form.export)
    idle(host, qtbot)
    assert f"1 file has no label: {names[2]}." in panel.message.text()
    project.save_labels(names[2], labels)
    # The phantoms are not DICOM series.
    form.format.setCurrentIndex(form.format.findData(".dcm"))
    press(qtbot, form.export)
    idle(host, qtbot)
    assert "0 of 3" in panel.message.text()
    page = tmp_path / "scores.html"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(page), ""))
    press(qtbot, form.report)
    idle(host, qtbot)
    text = page.read_text()
    assert text.count("<img") == 9
    assert "Only slices marked as done are scored" in text
    assert text.index(">validation</td>") < text.index(">training</td>")
    assert "finetune-002" not in text
    panel.other.setCurrentIndex(panel.other.findData("finetune-002"))
    press(qtbot, form.report)
    idle(host, qtbot)
    assert "Run B: finetune-002" in page.read_text()


def test_a_structure_that_was_removed_is_not_accepted_as_another_one(
    viewer, qtbot, trained, tmp_path, monkeypatch
):
    shutil.copytree(trained[0], tmp_path / "copy")
    host = open_panel(viewer, qtbot, InspectPanel, tmp_path / "copy")
    panel, session, scene = host.panel, host.session, host.scene
    choose(host, "finetune-001")
    predict(host, qtbot)
    found = panel.layers.predicted().labels
    shown = int((found == 2).sum(axis=(1, 2)).argmax())
    assert (found[shown] == 2).any()
    remove_class(session, scene, 2, lambda why: True)
    idle(host, qtbot)
    session.project.add_class("kidney")
    session.classes_changed.emit()
    scene.go_to(shown)
    press(qtbot, panel.correct.accept)
    np.testing.assert_array_equal(scene.labels.data[shown], np.where(found[shown] == 1, 1, 0))
    # The prediction is exported as it is shown.
    panel.export.parentWidget().button.click()
    form = panel.export
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    form.what.setCurrentIndex(1)
    form.scans.setCurrentIndex(form.scans.findData("this"))
    form.format.setCurrentIndex(form.format.findData(".nii.gz"))
    press(qtbot, form.export)
    idle(host, qtbot)
    assert json.loads((tmp_path / "classes.json").read_text()) == {"1": "liver"}
    assert "spleen, which was removed" in panel.message.text()
    host.end(qtbot)


def test_scores_follow_the_labels_on_done_slices(opened, viewer, qtbot, trained):
    host, panel, scene = opened, opened.panel, opened.scene
    choose(host, "finetune-001")
    session = host.session
    name = session.project.names[1]  # Other tests draw on the first scan.
    session.select(name)
    qtbot.waitUntil(lambda: session.current == name)
    predict(host, qtbot)

    def dice():
        table = panel.table
        shown = [
            table.item(row, 0).data(Qt.ItemDataRole.UserRole) for row in range(table.rowCount())
        ]
        return {row.structure: (row.dice, row.stale) for row in shown if row.scan == name}

    assert not any(stale for _, stale in dice().values())
    before, labels = dice(), scene.labels.data.copy()
    # Erasing the liver on the done slices updates the scores without any click.
    where = np.nonzero(scene.labels.data[list(DONE)] == 1)
    rows = np.asarray(DONE)[where[0]]
    scene.labels.data_setitem((rows, where[1], where[2]), 0)
    qtbot.waitUntil(lambda: dice().get("liver") != before["liver"])
    idle(host, qtbot)
    qtbot.waitUntil(lambda: not any(stale for _, stale in dice().values()))
    assert (session.project.labels(name).data[list(DONE)] != 1).all()
    scene.labels.undo()  # This also unmarks the done slices that are not shown.
    qtbot.waitUntil(lambda: not set(DONE) <= set(session.project.done(name)))
    scene.autosaver.mark(DONE)
    qtbot.waitUntil(lambda: dice() == before)
    np.testing.assert_array_equal(scene.labels.data, labels)


def test_a_comparison_says_which_run_has_not_predicted_the_scan(opened, qtbot):
    host, panel = opened, opened.panel
    choose(host, "finetune-001")
    predict(host, qtbot)
    panel.other.setCurrentIndex(panel.other.findData("finetune-002"))
    for number in (1, 2):
        panel.show_box.group.button(number).click()
        assert panel.show_box.difference.isVisible()
        assert "finetune-002 has not predicted" in panel.show_box.difference.text()
        assert not panel.correct.accept.isEnabled()
    panel.show_box.group.button(0).click()
    assert not panel.show_box.difference.isVisible()
    assert panel.correct.accept.isEnabled()


def test_predictions_of_a_run_that_is_trained_again_elsewhere_are_not_shown_as_its(
    viewer, qtbot, trained, tmp_path
):
    shutil.copytree(trained[0], tmp_path / "copy")
    host = open_panel(viewer, qtbot, InspectPanel, tmp_path / "copy")
    choose(host, "finetune-002")
    predict(host, qtbot)
    session, project = host.session, host.session.project
    before = session.predictions.get("finetune-002", session.current)
    assert host.scene.of_role("prediction")
    split = project.split_validation()
    core.finetune(
        split.training,
        out=project.folder / "runs/finetune-002",
        settings=core.FinetuneSettings(
            network=core.Network.preset("tiny"), training=core.Training(steps=3, batch_size=2)
        ),
        device="cpu",
        overwrite=True,
    )
    assert session.predictions.get("finetune-002", session.current) is None
    qtbot.waitUntil(lambda: "trained again" in host.panel.message.text())
    assert "finetune-002" in host.panel.message.text()
    assert not host.scene.of_role("prediction")
    idle(host, qtbot)
    predict(host, qtbot)
    after = session.predictions.get("finetune-002", session.current)
    assert (after.uncertainty != before.uncertainty).any()
    assert host.scene.of_role("prediction")
    host.end(qtbot)
