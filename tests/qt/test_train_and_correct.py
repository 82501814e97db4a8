"""A complete round in a real window: train, predict, accept, undo, export, train again."""

import nibabel as nib
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from loop_project import Host, idle, make_project
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.scans.slices.ranges import parse_ranges
from napari_sslseg.gui.inspect.panel import InspectPanel
from napari_sslseg.gui.train.panel import TrainPanel


class BothPanels(QWidget):
    def __init__(self, session, scene):
        super().__init__()
        layout = QVBoxLayout(self)
        self.train, self.inspect = TrainPanel(session, scene), InspectPanel(session, scene)
        layout.addWidget(self.train)
        layout.addWidget(self.inspect)


def test_labels_are_trained_on_corrected_exported_and_trained_on_again(
    viewer, qtbot, tmp_path, monkeypatch
):
    make_project(tmp_path)
    host = Host(viewer, BothPanels, tmp_path / "project")
    train, inspect, session = host.panel.train, host.panel.inspect, host.session
    name = session.project.names[0]
    session.select(name)
    idle(host, qtbot)
    form = train.form
    form.advanced.button.click()
    form.steps.setValue(4)
    form.batch.setValue(2)
    form.network.setCurrentIndex(form.network.findData("tiny"))
    form.device.setCurrentIndex(form.device.findData("cpu"))
    inspect.export.parentWidget().button.click()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "out"))

    def press(button):
        host.ensureWidgetVisible(button)
        assert button.isEnabled()
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        idle(host, qtbot)

    accepted = []
    for number in (1, 2):
        run = f"finetune-00{number}"
        press(train.box.start)
        assert train.box.state.text().startswith(f"{run} is finished")
        assert len(train.box.plot.curves["Loss"]) == 4
        if number == 2:  # The selected run stays, and the new one is announced.
            assert inspect.run.currentData() == "finetune-001"
            assert inspect.message.text().startswith("finetune-002 is ready")
            inspect.run.setCurrentIndex(inspect.run.findData(run))
        assert inspect.run.currentData() == run  # The first run is selected automatically.
        press(inspect.this)
        labels = host.scene.labels
        before = labels.data.copy()
        press(inspect.correct.next)
        index = host.scene.slice
        predicted = inspect.layers.predicted().labels
        assert (predicted[index] != before[index]).any()
        press(inspect.correct.accept)
        labels.undo()
        np.testing.assert_array_equal(labels.data, before)
        press(inspect.correct.accept)
        press(inspect.correct.done)
        qtbot.waitUntil(lambda i=index: i in session.project.done(name))
        accepted.append(index)
        inspect.export.what.setCurrentIndex(number - 1)
        press(inspect.export.export)
    written = nib.load(tmp_path / "out" / f"{name}_labels.nii.gz")
    source = nib.load(tmp_path / "scans" / f"{name}.nii.gz")
    np.testing.assert_array_equal(written.affine, source.affine)
    assert (tmp_path / "out" / f"{name}_finetune-002.nii.gz").is_file()
    # The slice that was accepted and marked in the first round is used in the second.
    record = Run.open(tmp_path / "project/runs/finetune-002").record["data"]
    (entry,) = [entry for entry in record if entry["name"] == name]
    assert parse_ranges(entry["annotated"], 1000) == tuple(sorted({3, 5, accepted[0]}))
    assert host.problems == []
    host.end(qtbot)
