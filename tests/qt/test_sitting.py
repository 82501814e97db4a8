"""A complete session in a real window, from an empty folder to exported labels, and reopening."""

import nibabel as nib
import numpy as np
import pydicom
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLineEdit

from dicom_files import write_series
from loop_project import write_scans
from napari_sslseg import core
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.labels import load_labels
from person import Person

SLICE = 5
CONTROL = Qt.KeyboardModifier.ControlModifier


def lay_out(folder):
    """Write two phantoms as NIfTI and one as a DICOM series; return a NIfTI in another folder."""
    write_scans(folder / "scans", 3)
    (folder / "apart").mkdir()
    last = sorted((folder / "scans").iterdir())[-1]
    apart = last.rename(folder / "apart" / last.name)
    scan, _ = make_patient(7, "MR", (10, 48, 48), (16.0, 7.0, 7.0))
    values = np.ascontiguousarray(scan.data[::-1]).astype(np.int16)
    write_series(
        folder / "scans" / "series", values, modality="MR", intercept=0, spacing=(7, 7),
        distance=16,
    )  # fmt: skip
    return apart


def name_class(person, panel, name):
    person.click(panel.classes.findChild(object, "add-class"))
    (editor,) = [e for e in panel.classes.list.findChildren(QLineEdit) if e.isVisible()]
    person.qtbot.keyClicks(editor, name)
    person.qtbot.keyClick(editor, Qt.Key.Key_Return)
    person.until(lambda: name in person.project.class_names.values())


def paint_and_mark(person, name, index, value):
    """Paint on a slice with the mouse and mark it with the D key; return the saved labels."""
    person.show(name)
    person.step("Label")
    person.scene.go_to(index)
    person.press(getattr(Qt.Key, f"Key_{value}"))
    person.press(Qt.Key.Key_P)
    person.drag((-6, -6), (-6, 6), (6, 6), (6, -6))
    assert (person.layer.data[index] == value).any()
    person.press(Qt.Key.Key_D)
    person.until(lambda: index in person.project.done(name))
    saved = person.saved()
    np.testing.assert_array_equal(saved, person.layer.data)
    return saved


def test_a_complete_session_and_reopening_the_project(
    make_napari_viewer, qtbot, tmp_path, monkeypatch, one_thread
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    apart = lay_out(tmp_path / "data")
    answers = iter([tmp_path / "study"])
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(next(answers)))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (next(answers), ""))
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1300, 1000)
    person = Person(viewer, qtbot)
    session, scene = person.session, person.scene

    # A project with scans: a folder dropped on the dock, a file dropped on the canvas.
    scans = person.dock.panels["Scans"]
    person.click(scans.bar.new)
    assert person.project.folder == tmp_path / "study"
    person.drop(scans, [tmp_path / "data" / "scans"])
    person.idle()
    assert len(person.project.names) == 3
    person.drop(viewer.window._qt_viewer, [apart])
    person.until(scans.opened_box.isVisible)
    person.click(scans.opened_add)
    person.idle()
    assert len(person.project.names) == 4
    assert not scans.left_out_box.isVisible()
    first, second, held = sorted(n for n in person.project.names if n.startswith("phantom"))
    (series,) = set(person.project.names) - {first, second, held}
    person.pick(held)
    scans.list.use.activated.emit(1)
    assert person.project.entry(held).role == "test"
    person.show(first)

    # The preview, and a pretraining that runs while slices are labelled.
    pretrain = person.step("Pretrain")
    person.until(lambda: [tile.name for tile in pretrain.strip.shown][:1] == ["original"])
    assert "3 scans of 3 patients" in pretrain.estimate.text()
    person.choose(pretrain.form.network, "tiny")
    pretrain.form.steps.setValue(20_000)
    pretrain.form.batch.setValue(2)
    person.until(lambda: pretrain.form.device.findData("cpu") >= 0)
    person.choose(pretrain.form.device, "cpu")
    person.until(pretrain.box.start.isEnabled)
    person.click(pretrain.box.start)
    person.until(lambda: pretrain.box.eta.step > 1)
    label = person.step("Label")
    name_class(person, label, "liver")
    name_class(person, label, "spleen")
    drawn = paint_and_mark(person, first, SLICE, 1)
    assert session.training is not None
    paint_and_mark(person, second, SLICE, 1)
    paint_and_mark(person, series, SLICE, 2)
    assert session.training is not None
    person.step("Pretrain")
    person.click(pretrain.box.stop)
    person.until(lambda: session.training is None)
    assert "you can resume it" in pretrain.box.state.text()

    # Fine-tuning from the pretraining, a prediction, and accepting a slice of it.
    person.show(first)
    train = person.step("Train")
    assert train.form.start.currentData() == "pretrain-001"
    train.form.advanced.button.click()
    train.form.steps.setValue(4)
    train.form.batch.setValue(2)
    person.choose(train.form.device, "cpu")
    person.click(train.box.start)
    person.until(lambda: train.box.state.text().startswith("finetune-001 is finished"))
    person.idle()
    inspect = person.step("Inspect")
    person.click(inspect.this)
    person.until(lambda: inspect.layers.predicted() is not None)
    person.idle()
    person.click(inspect.correct.next)
    index = scene.slice
    assert index != SLICE
    viewer.layers.selection.active = scene.image  # Undo works for any active layer.
    person.click(inspect.correct.accept)
    accepted = person.layer.data.copy()
    assert (accepted != drawn).any()
    person.press(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(person.layer.data, drawn)
    person.click(inspect.correct.accept)
    np.testing.assert_array_equal(person.layer.data, accepted)
    person.click(inspect.correct.done)
    person.until(lambda: person.project.done(first) == tuple(sorted((SLICE, index))))

    # Export of labels.
    person.click(inspect.export.parentWidget().button)
    answers = iter([tmp_path / "out", tmp_path / "out"])
    for name, suffix in ((first, ".nii.gz"), (series, ".dcm")):
        person.show(name)
        person.step("Inspect")
        person.choose(inspect.export.format, suffix)
        person.click(inspect.export.export)
        person.idle()
        assert "1 of 1" in inspect.message.text(), person.problems
    written = nib.load(tmp_path / "out" / f"{first}_labels.nii.gz")
    source = nib.load(tmp_path / "data" / "scans" / f"{first}.nii.gz")
    np.testing.assert_array_equal(written.affine, source.affine)
    grid = person.project.load(first).geometry
    np.testing.assert_array_equal(grid.to_display(np.asarray(written.dataobj)), accepted)
    segmentation = pydicom.dcmread(tmp_path / "out" / f"{series}_labels.dcm")
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["liver", "spleen"]
    found = load_labels(segmentation.filename, like=session.volume)
    np.testing.assert_array_equal(found.data, person.layer.data)

    # The window is closed during a training, which is saved first.
    person.step("Pretrain")
    person.click(pretrain.runs.button)
    person.until(lambda: session.training is not None and pretrain.box.eta.step > 0)
    with person.answering("Stop it and close") as asked:
        person.window.close()
    assert "training" in asked[0]
    person.until(lambda: person.dock.shutdown.over)
    person.forget_window()
    assert person.problems == []

    # A new window shows the same state.
    again = Person(make_napari_viewer(show=True), qtbot)
    scans = again.dock.panels["Scans"]
    again.click(scans.bar.recent.findChild(object, "recent-study"))
    again.until(lambda: again.session.current == series)
    project = again.project
    assert set(project.names) == {first, second, held, series}
    assert {n: project.entry(n).role for n in project.names} == dict.fromkeys(
        (first, second, series), "train"
    ) | {held: "test"}
    assert project.class_names == {1: "liver", 2: "spleen"}
    assert project.done(first) == tuple(sorted((SLICE, index)))
    assert project.done(second) == project.done(series) == (SLICE,)
    np.testing.assert_array_equal(project.labels(first).data, accepted)
    assert (again.layer.data == 2).any()
    assert {r.name: r.status for r in project.runs()} == {
        "pretrain-001": "stopped", "finetune-001": "finished",
    }  # fmt: skip
    pretrain = again.step("Pretrain")
    assert pretrain.runs.button.text() == "&Resume pretrain-001"
    assert core.Run.open(project.folder / "runs/finetune-001").record["init"] == "pretrain-001"
    inspect = again.step("Inspect")
    assert inspect.run.currentData() == "finetune-001"
    again.show(first)
    np.testing.assert_array_equal(again.layer.data, accepted)
    assert again.problems == []
    again.end()
