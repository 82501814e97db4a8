"""The training step in a real window, operated by mouse and keys."""

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QGraphicsTextItem, QGraphicsView

from loop_project import make_project, open_panel, write_scans
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.train.panel import TrainPanel
from napari_sslseg.gui.viewer import live_prediction


def press(qtbot, button):
    assert button.isVisible()
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def tiny(panel, steps):
    """Set up a training that takes seconds, under Advanced."""
    form = panel.form
    form.advanced.button.click()
    form.start.setCurrentIndex(form.start.findData(""))
    form.steps.setValue(steps)
    form.batch.setValue(2)
    form.network.setCurrentIndex(form.network.findData("tiny"))
    form.device.setCurrentIndex(form.device.findData("cpu"))


@pytest.fixture
def made(tmp_path):
    return make_project(tmp_path)


@pytest.fixture
def opened(viewer, qtbot):
    """Return a function that opens the panel; its project is closed at the end."""
    hosts = []

    def enter(folder):
        host = open_panel(viewer, qtbot, TrainPanel, folder)
        hosts.append(host)
        return host, host.panel

    yield enter
    for host in hosts:
        host.end(qtbot)


def test_a_training_is_started_watched_paused_stopped_and_resumed(
    opened, made, viewer, qtbot, tmp_path, monkeypatch
):
    monkeypatch.setattr(live_prediction, "NOISY_SHARE", 0.0)  # How soon it is sure takes long.
    widget, panel = opened(tmp_path)
    qtbot.waitUntil(lambda: "validation" in panel.material.text())
    for words in ("4 done slices of 2 patients", "1 other patient (2 done slices)"):
        assert words in panel.material.text()
    assert panel.box.start.isVisible()
    assert not panel.box.pause.isVisible()
    tiny(panel, 3_000)
    labels = widget.scene.labels
    before = labels.data.copy()
    widget.scene.go_to(5)
    press(qtbot, panel.box.start)
    qtbot.waitUntil(lambda: panel.box.eta.step > 2)
    assert not panel.form.isVisible()
    qtbot.waitUntil(lambda: panel.live.layer is not None)
    layer = panel.live.layer
    assert viewer.layers.index(layer) < viewer.layers.index(labels)
    qtbot.waitUntil(
        lambda: "n = 2 slices of 1 patient" in panel.scores.words.text(), timeout=90_000
    )
    # Only the slice that is shown is predicted, in the same layer.
    widget.scene.go_to(3)
    qtbot.waitUntil(lambda: panel.live._shown[0] == 3)
    assert panel.live.layer is layer
    filled = {int(i) for i in np.unique(np.nonzero(layer.data)[0])}
    assert filled <= {3}

    press(qtbot, panel.box.pause)
    qtbot.waitUntil(lambda: panel.box.state.text().startswith("Paused at step"))
    assert panel.box.pause.text().replace("&", "") == "Resume"
    qtbot.waitUntil(lambda: f"step {panel.box.eta.step:,} of" in panel.box.state.text())
    press(qtbot, panel.box.pause)
    qtbot.waitUntil(lambda: panel.job.status == "running")
    press(qtbot, panel.box.stop)
    qtbot.waitUntil(lambda: panel.job is None)
    assert panel.box.state.text().startswith("finetune-001 was stopped at step")
    assert panel.live.layer is None
    assert panel.box.plot.curves["Loss"].points()[0][-1] == panel.box.eta.step
    qtbot.waitUntil(lambda: panel.scores.plot.drawn > 0)
    np.testing.assert_array_equal(labels.data, before)

    qtbot.waitUntil(  # Runs are listed in the background.
        lambda: "Resume finetune-001" in panel.runs.button.text().replace("&", ""),
    )
    step = panel.box.eta.step
    press(qtbot, panel.runs.button)
    qtbot.waitUntil(lambda: panel.box.eta.step > step)
    press(qtbot, panel.box.stop)
    qtbot.waitUntil(lambda: panel.job is None)


def test_the_validation_patient_and_structures_of_one_patient_are_named(
    opened, made, qtbot, tmp_path
):
    with Project.open(tmp_path / "project") as project:
        split = project.split_validation()
        checked = project.entry(split.validation[0].name).subject
        first, second = (item.name for item in split.training)
        tumour = project.add_class("tumour").value
        labels = made[first].copy()
        labels[3, :4, :4] = tumour
        project.save_labels(first, labels)
        # On a slice that is not done it is no label of the training.
        labels = made[second].copy()
        labels[0, :4, :4] = tumour
        project.save_labels(second, labels)
        trained = project.entry(first).subject
    _, panel = opened(tmp_path)
    qtbot.waitUntil(lambda: "validation" in panel.material.text())
    text = panel.material.text()
    assert f"for validation: {checked}." in text
    assert f"Only {trained}, used for training, has tumour labelled" in text
    assert "liver" not in text


def test_training_on_empty_slices_is_refused_and_the_panel_stays_usable(
    opened, viewer, qtbot, tmp_path
):
    write_scans(tmp_path / "scans", 2)
    with Project.create(tmp_path / "project") as project:
        project.add_scans(tmp_path / "scans")
        project.add_class("liver")
        for name in project.names:
            project.mark_done(name, 4)
    widget, panel = opened(tmp_path)
    tiny(panel, 3)
    press(qtbot, panel.box.start)
    qtbot.waitUntil(lambda: "only background" in panel.box.state.text())
    assert panel.box.start.isVisible()
    assert panel.form.isVisible()
    assert list((tmp_path / "project/runs").iterdir()) == []
    # Without done slices the training is refused before it starts.
    for name in widget.session.project.names:
        widget.session.mark_done(name, [4], done=False)
    press(qtbot, panel.box.start)
    assert panel.box.state.text().startswith("No slice is done yet")


def test_the_pretraining_of_the_project_is_preselected_and_described(opened, made, qtbot, tmp_path):
    from napari_sslseg import core

    with Project.open(tmp_path / "project") as project:
        core.pretrain(
            project.scans(),
            core.MaskedPatches(),
            out=project.new_run_folder("pretrain"),
            settings=core.PretrainSettings(
                network=core.Network.preset("tiny"),
                training=core.Training(steps=2, batch_size=2),
            ),
            device="cpu",
        )
    widget, panel = opened(tmp_path)
    form = panel.form
    assert form.start.currentData() == "pretrain-001"
    assert "mae on 3 scans in 2 steps" in form.about.text()
    assert "pixels are those of the pretraining" in form.about.text()
    form.advanced.button.click()
    assert form.transfer.isVisible()
    assert not form.network.isVisible()  # The network of the pretraining is used.
    form.steps.setValue(3)
    form.batch.setValue(2)
    press(qtbot, panel.box.start)
    qtbot.waitUntil(
        lambda: "finetune-001 is finished" in panel.box.state.text(),
    )
    run = core.Run.open(tmp_path / "project/runs/finetune-001")
    assert run.record["init"] == "pretrain-001"
    assert run.record["status"] == "finished"
    # A network pretrained on axial slices cannot start a coronal training.
    widget.session.attempt(lambda: widget.session.project.set_plane("coronal", unmark=True))
    widget.session.mark_done(widget.session.project.names[0], [20])
    press(qtbot, panel.box.start)
    assert all(plane in panel.box.state.text() for plane in ("axial", "coronal"))


def drawn_words(plot):
    """Return the texts that are drawn in a plot."""
    return [
        item.toPlainText()
        for view in plot.findChildren(QGraphicsView)
        for item in view.scene().items()
        if isinstance(item, QGraphicsTextItem)
    ]


def test_unlabelled_slices_are_used_for_training_on_request(opened, made, qtbot, tmp_path):
    from napari_sslseg import core

    _, panel = opened(tmp_path)
    tiny(panel, 4)
    box = panel.form.unlabelled
    if not box.isChecked():
        qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    assert box.isChecked()
    press(qtbot, panel.box.start)
    qtbot.waitUntil(lambda: "finetune-001 is finished" in panel.box.state.text())
    run = core.Run.open(tmp_path / "project/runs/finetune-001")
    # Ten slices of each of the two training patients, two of which are done.
    assert run.record["slices"]["unlabelled"] == 16
    assert run.record["settings"]["self_training"] is not None
    # A line in the curve says why the loss jumps.
    qtbot.waitUntil(lambda: "with unlabelled slices" in drawn_words(panel.box.plot))
    assert run.record["settings"]["self_training"]["least_part"] > 0
    assert (
        run.record["settings"]["preprocessing"]["neighbours"] == 1
    )  # The slices are close together.
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    press(qtbot, panel.box.start)
    qtbot.waitUntil(lambda: "finetune-002 is finished" in panel.box.state.text())
    run = core.Run.open(tmp_path / "project/runs/finetune-002")
    assert run.record["settings"]["self_training"] is None
    panel.box.plot.redraw()
    assert len(panel.box.plot.curves["Loss"]) == 4
    assert "with unlabelled slices" not in drawn_words(panel.box.plot)


def test_the_advanced_settings_have_components_and_neighbouring_slices(
    opened, made, qtbot, tmp_path
):
    from napari_sslseg import core

    _, panel = opened(tmp_path)
    tiny(panel, 4)
    form = panel.form
    if not form.pieces.isVisible():
        press(qtbot, form.advanced.button)
    assert form.neighbours.text() == "automatic"
    form.neighbours.setFocus()
    qtbot.keyClick(form.neighbours, Qt.Key.Key_Up)
    assert form.neighbours.text() == "0"
    place = QPoint(8, form.pieces.height() // 2)
    qtbot.mouseClick(form.pieces, Qt.MouseButton.LeftButton, pos=place)
    press(qtbot, panel.box.start)
    qtbot.waitUntil(lambda: "finetune-001 is finished" in panel.box.state.text())
    settings = core.Run.open(tmp_path / "project/runs/finetune-001").record["settings"]
    assert settings["self_training"]["least_part"] == 0
    assert settings["preprocessing"]["neighbours"] == 0
    # The option only applies to unlabelled slices.
    box = form.unlabelled
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    assert not form.pieces.isEnabled()
