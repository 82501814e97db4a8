"""Errors at each step are reported in one sentence, and the window stays usable."""

import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from loop_project import make_project, write_scans
from napari_sslseg.core.networks import unet2d
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.autosave import autosaver, rescue as label_rescue
from napari_sslseg.gui.model.next_step import HELD_OUT
from person import Person

SENTENCE = 400
"""Longest sentence, in characters."""


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A disk that can be filled; without the permission to mount one, writing is made to fail."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=160m", "tmpfs", place):
        yield NoRoom(place, monkeypatch)
        return
    yield SmallDisk(place)
    subprocess.run(["umount", "-l", place], check=True)


def mount(*arguments):
    """Mount a file system and return whether it succeeded, which needs root on Linux."""
    if sys.platform != "linux" or not shutil.which("mount"):
        return False
    return not subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode


class SmallDisk:
    def __init__(self, place):
        self.place = place

    def fill(self):
        with (self.place / "filler").open("wb") as file:
            while free := shutil.disk_usage(self.place).free:
                file.write(b"\1" * min(free, 65536))
                file.flush()

    def clear(self):
        (self.place / "filler").unlink()


class NoRoom:
    def __init__(self, place, monkeypatch):
        self.place, self._patch = place, monkeypatch
        self._fsync = os.fsync

    def fill(self):
        def full(handle):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self._patch.setattr(os, "fsync", full)

    def clear(self):
        self._patch.setattr(os, "fsync", self._fsync)


@pytest.fixture
def person(viewer, qtbot, tmp_path, monkeypatch, one_thread):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    made = Person(viewer, qtbot)
    yield made
    made.end()


def enter(person, project):
    """Open a project and show its first scan."""
    assert person.session.open(project)
    person.idle()
    person.show(person.project.names[0])
    person.idle()
    return person.project.names


def reported_once(person, *parts):
    """Return the only problem that was reported, which must contain these parts."""
    assert len(person.problems) == 1, person.problems
    (sentence,) = person.problems
    for part in parts:
        assert part in sentence
    assert len(sentence) < SENTENCE
    assert "Traceback" not in sentence
    assert "should not have" not in sentence
    person.problems.clear()
    return sentence


def set_pretraining(person, steps):
    panel = person.step("Pretrain")
    person.choose(panel.form.network, "tiny")
    panel.form.steps.setValue(steps)
    panel.form.batch.setValue(2)
    person.until(
        lambda: panel.form.device.findData("cpu") >= 0
    )  # The devices are listed in the background.
    person.choose(panel.form.device, "cpu")
    person.until(panel.box.start.isEnabled)
    return panel


def pretrain(person, steps=3):
    panel = set_pretraining(person, steps)
    person.click(panel.box.start)
    person.until(lambda: person.session.training is None)
    person.idle()
    return panel


def finetune(person, steps=3, start=""):
    panel = person.step("Train")
    if not panel.form.steps.isVisible():
        panel.form.advanced.button.click()
    panel.form.start.setCurrentIndex(panel.form.start.findData(start))
    panel.form.steps.setValue(steps)
    panel.form.batch.setValue(2)
    if not start:
        person.choose(panel.form.network, "tiny")
    person.choose(panel.form.device, "cpu")
    person.click(panel.box.start)
    person.until(lambda: person.session.training is None)
    person.idle()
    return panel


def paint(person, index, value=1):
    person.step("Label")
    person.scene.go_to(index)
    person.press(getattr(Qt.Key, f"Key_{value}"))
    person.press(Qt.Key.Key_P)
    before = person.layer.data.copy()
    person.drag((-5, -5), (-5, 5), (5, 5))
    assert (person.layer.data != before).any()


def paint_elsewhere(person, index, value=2):
    """Paint another stroke, to check that the window still works."""
    paint(person, index, value)
    np.testing.assert_array_equal(person.saved(), person.layer.data)


# Missing scans


def test_a_missing_scan_is_reported_at_each_step_and_the_others_are_used(person, tmp_path):
    make_project(tmp_path)
    names = enter(person, tmp_path / "project")
    gone = tmp_path / "scans" / f"{names[1]}.nii.gz"
    away = gone.rename(tmp_path / gone.name)
    person.step("Scans")
    person.session.select(names[1])
    person.idle()
    reported_once(person, "missing", names[1])
    assert person.session.current == names[0]
    panel = pretrain(person)
    assert "pretrain-001 is finished" in panel.box.state.text()
    assert not person.problems
    trained = finetune(person)
    assert trained.box.state.text().startswith("finetune-001 is finished")
    inspect = person.step("Inspect")
    person.click(inspect.all)
    person.until(lambda: inspect.job is None)
    reported_once(person, "2 of 3 scans", "missing")
    predicted = [n for n in names if person.session.predictions.get("finetune-001", n) is not None]
    assert predicted == [names[0], names[2]]
    away.rename(gone)
    person.show(names[1])
    person.idle()
    assert person.layer.data.any()
    assert not person.problems


def test_a_broken_file_is_named_and_the_others_are_added(person, tmp_path):
    write_scans(tmp_path / "scans", 2)
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"no scan at all")
    whole = sorted((tmp_path / "scans").glob("phantom*"))
    cut = tmp_path / "scans" / "cut.nii.gz"
    cut.write_bytes(whole[0].read_bytes()[:600])
    assert person.session.create(tmp_path / "project")
    panel = person.step("Scans")
    person.drop(panel, [tmp_path / "scans"])
    person.idle()
    assert len(person.project.names) == 2
    assert "2 files were" in panel.left_out_toggle.text()
    assert all(len(sentence) < SENTENCE for _, sentence in panel.scan_actions.left_out)
    person.show(person.project.names[1])


# No training data


def test_training_needs_a_training_scan(person, tmp_path):
    make_project(tmp_path, count=2, labelled=1)
    names = enter(person, tmp_path / "project")
    person.step("Scans")
    for name in names:
        person.pick(name)
        person.dock.panels["Scans"].list.use.activated.emit(1)
    panel = person.step("Pretrain")
    person.until(lambda: panel.estimate.text().startswith("⚠"))
    assert not panel.box.start.isEnabled()
    assert person.dock.session.next_step() == HELD_OUT
    person.dock.show_step("Train")
    train = person.dock.panels["Train"]
    person.click(train.box.start)
    assert "who are held out" in train.box.state.text()
    assert person.session.training is None
    person.step("Scans")
    person.pick(names[0])
    person.dock.panels["Scans"].list.use.activated.emit(0)
    assert "pretrain-001 is finished" in pretrain(person).box.state.text()
    assert finetune(person).box.state.text().startswith("finetune-001 is finished")
    assert not person.problems


def test_training_needs_a_done_slice_and_a_structure(person, tmp_path):
    make_project(tmp_path, count=2, labelled=0)
    names = enter(person, tmp_path / "project")
    train = person.dock
    train.show_step("Train")
    panel = train.panels["Train"]
    person.click(panel.box.start)
    assert panel.box.state.text().startswith("No slice is done yet")
    # A single structure is enough.
    for name in names:
        person.show(name)
        paint(person, 4)
        person.press(Qt.Key.Key_D)
        person.until(lambda name=name: person.project.done(name) == (4,))
    assert finetune(person).box.state.text().startswith("finetune-001 is finished")
    assert not person.problems


# Memory


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_is_reported_and_the_next_training_runs(person, tmp_path, monkeypatch, error):
    make_project(tmp_path)
    enter(person, tmp_path / "project")
    with monkeypatch.context() as short:

        def forward(*_, **__):
            raise error

        short.setattr(unet2d.UNet2d, "forward", forward)
        panel = set_pretraining(person, 3)
        person.click(panel.box.start)
        person.until(lambda: person.session.training is None)
        sentence = reported_once(person, "memory", "smaller")
        assert sentence in panel.box.state.text()
        person.idle()
    panel = pretrain(person)
    assert panel.box.state.text().endswith(" is finished.")
    assert not person.problems


# The disk


def test_strokes_on_a_full_disk_are_saved_when_there_is_room(person, small_disk, monkeypatch):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.2)
    make_project(small_disk.place, count=2, labelled=1)
    names = enter(person, small_disk.place / "project")
    before = person.project.labels(names[0]).data
    small_disk.fill()
    paint(person, 4)
    person.until(lambda: person.scene.autosaver.status == "failed")
    reported_once(person, label_rescue.UNSAVED, "space")
    panel = person.dock.panels["Label"]
    assert "⚠ Not saved" in panel.saved.text()
    np.testing.assert_array_equal(person.project.labels(names[0]).data, before)
    paint(person, 6, 2)  # Painting continues, and the problem is not reported again.
    first = person.layer.data.copy()
    person.show(names[1])
    paint(person, 2)
    second = person.layer.data.copy()
    assert not person.problems
    small_disk.clear()
    person.until(lambda: person.scene.autosaver.status == "saved")
    np.testing.assert_array_equal(person.project.labels(names[0]).data, first)
    np.testing.assert_array_equal(person.project.labels(names[1]).data, second)
    assert "saved" in panel.saved.text()
    assert not person.problems


def test_a_full_disk_during_training_and_export_is_reported(
    person, small_disk, tmp_path, monkeypatch
):
    make_project(tmp_path)
    shutil.copytree(tmp_path / "scans", small_disk.place / "scans")
    shutil.move(tmp_path / "project", small_disk.place / "project")
    enter(person, small_disk.place / "project")
    panel = set_pretraining(person, 50_000)
    person.click(panel.box.start)
    person.until(lambda: panel.box.eta.step > 1 or bool(person.problems))
    assert not person.problems
    small_disk.fill()
    person.click(panel.box.stop)
    person.until(lambda: person.session.training is None)
    sentence = reported_once(person, "space")
    assert sentence in panel.box.state.text()
    # The export fails, too; the failed training may have left some space.
    small_disk.fill()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(small_disk.place))
    person.dock.show_step("Inspect")
    inspect = person.dock.panels["Inspect"]
    person.click(inspect.export.parentWidget().button)
    person.click(inspect.export.export)
    person.idle()
    assert reported_once(person, "space") == inspect.message.text()
    small_disk.clear()
    person.click(inspect.export.export)
    person.idle()
    assert "1 of 1" in inspect.message.text()
    assert pretrain(person).box.state.text().endswith(" is finished.")


# The project


def test_another_project_can_be_opened_after_one_was_deleted(person, tmp_path, monkeypatch):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.2)
    make_project(tmp_path)
    make_project(tmp_path / "other")
    enter(person, tmp_path / "project")
    shutil.rmtree(tmp_path / "project")
    paint(person, 4)
    expected = person.layer.data.copy()
    person.until(lambda: person.scene.autosaver.status == "failed")
    reported_once(person, "is missing")
    panel = set_pretraining(person, 3)
    person.click(panel.box.start)
    person.until(lambda: person.session.training is None)
    person.idle()
    assert person.problems
    assert all("is missing" in sentence for sentence in person.problems)
    assert not (tmp_path / "project").exists()
    person.problems.clear()
    # Another project is opened; the last strokes are rescued, which is reported.
    assert person.session.open(tmp_path / "other" / "project")
    person.idle()
    reported_once(person, "could not be saved in the project", "import them")
    (rescued,) = label_rescue.rescue_folder().iterdir()
    person.show(person.project.names[0])
    person.session.leave()
    person.project.import_labels(person.project.names[0], rescued)
    np.testing.assert_array_equal(person.project.labels(person.project.names[0]).data, expected)
    person.show(person.project.names[0])
    paint_elsewhere(person, 2)
    assert not person.problems


def test_a_project_that_becomes_read_only_is_reported(person, tmp_path, monkeypatch):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.2)
    place = tmp_path / "place"
    place.mkdir()
    if not mount("-t", "tmpfs", "tmpfs", place):
        pytest.skip("no disk can be mounted here")
    try:
        make_project(place)
        names = enter(person, place / "project")
        # The lock is open for writing, so that the disk itself cannot be made read-only.
        assert mount("--bind", place, place)
        assert mount("-o", "remount,ro,bind", place)
        paint(person, 4)
        person.until(lambda: person.scene.autosaver.status == "failed")
        reported_once(person, "Read-only")
        panel = set_pretraining(person, 3)
        person.problems.clear()
        person.click(panel.box.start)
        person.idle()
        assert person.problems
        assert all("Read-only" in sentence for sentence in person.problems)
        assert person.session.training is None
        person.problems.clear()
        subprocess.run(["umount", "-l", place], check=True)
        person.until(lambda: person.scene.autosaver.status == "saved")
        np.testing.assert_array_equal(person.project.labels(names[0]).data, person.layer.data)
        assert pretrain(person).box.state.text().endswith(" is finished.")
    finally:
        person.session.close()
        subprocess.run(["umount", "-l", place], check=False)


def test_a_damaged_run_is_reported_and_the_others_are_used(person, tmp_path):
    make_project(tmp_path)
    enter(person, tmp_path / "project")
    finetune(person)
    finetune(person)
    runs = tmp_path / "project/runs"
    for weights in (runs / "finetune-002").glob("*.safetensors"):
        weights.write_bytes(b"damaged")
    inspect = person.step("Inspect")
    person.choose(inspect.run, "finetune-002")
    person.click(inspect.this)
    person.idle()
    reports = [*person.notes, *person.problems]
    assert [text for text in reports if "finetune-002" in text and len(text) < SENTENCE], reports
    assert person.session.predictions.get("finetune-002", person.session.current) is None
    person.choose(inspect.run, "finetune-001")
    person.click(inspect.this)
    person.until(lambda: inspect.layers.predicted() is not None)
    # A run with a damaged record is left out, and a new run replaces it.
    (runs / "finetune-002" / "run.json").write_text("{")
    person.session.look_for_runs()
    person.idle()
    assert inspect.run.findData("finetune-002") < 0
    person.problems.clear()
    assert finetune(person).box.state.text().startswith("finetune-003 is finished")
    assert not person.problems


# Several projects and windows


def test_a_second_window_opens_a_project_after_the_first_leaves_it(
    person, make_napari_viewer, qtbot, tmp_path
):
    make_project(tmp_path)
    make_project(tmp_path / "other")
    names = enter(person, tmp_path / "project")
    second = Person(make_napari_viewer(show=True), qtbot)
    assert not second.session.open(tmp_path / "project")
    reported_once(second, "already open in this process")
    second.step("Scans")
    # The first window opens another project; its last stroke is saved, and the second may open it.
    paint(person, 4)
    expected = person.layer.data.copy()
    assert person.session.open(tmp_path / "other" / "project")
    person.idle()
    enter(second, tmp_path / "project")
    np.testing.assert_array_equal(second.project.labels(names[0]).data, expected)
    paint_elsewhere(second, 6)
    person.show(person.project.names[0])
    paint_elsewhere(person, 6)
    assert not person.problems
    second.end()


def test_a_second_program_is_refused(person, tmp_path):
    make_project(tmp_path)
    code = (
        "import sys, time\nfrom napari_sslseg.core.project.project import Project\n"
        "with Project.open(sys.argv[1]):\n    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "project"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "open\n"
    assert not person.session.open(tmp_path / "project")
    reported_once(person, f"in process {other.pid}")
    other.stdin.close()
    assert other.wait(30) == 0
    enter(person, tmp_path / "project")


def test_closing_the_dock_right_after_a_stroke_saves(viewer, qtbot, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    make_project(tmp_path)
    person = Person(viewer, qtbot)
    names = enter(person, tmp_path / "project")
    paint(person, 4)
    expected = person.layer.data.copy()
    person.click(person.dock.parent().title.close_button)
    person.until(lambda: person.dock.shutdown.over)
    with Project.open(tmp_path / "project") as project:
        np.testing.assert_array_equal(project.labels(names[0]).data, expected)
    assert os.listdir(tmp_path / "project/labels")
