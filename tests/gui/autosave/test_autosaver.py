"""Automatic saving of labels, without a window."""

import os
import subprocess
import sys
import threading
import time

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel

from labelling_screen import NAMES, Screen, broken, stroke
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.scans.volume import load_volume
from napari_sslseg.gui.autosave import autosaver, rescue as label_rescue
from napari_sslseg.gui.autosave.rescue import rescue_labels, write_backup
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.viewer.scene import Scene
from paths import HELPERS
from patience import LIMIT
from scene_project import write_project


@pytest.fixture
def screen(folder):
    made = Screen(folder)
    made.until(lambda: made.layer is not None)
    made.until(lambda: made.autosaver.status == "saved")
    yield made
    made.session.close()


def polygon(screen):
    screen.layer.paint_polygon([(3, 10, 10), (3, 10, 40), (3, 40, 40)], 2)


def fill(screen):
    screen.layer.mode = "fill"
    screen.layer.fill((4, 0, 0), 2)


def many_pixels(screen):
    screen.layer.data_setitem((np.array([5, 20]), np.array([1, 1]), np.array([2, 2])), 1)


def hidden_undo(screen):
    screen.layer.visible = False  # Then napari emits no event.
    screen.layer.undo()


def test_a_new_session_makes_no_copies_of_labels(screen):
    stroke(screen, (6, 50, 50))
    screen.until_saved()
    folder = screen.session.project.folder
    screen.session.close()
    again = Screen(folder)
    again.until(lambda: again.layer is not None)
    stroke(again, (8, 20, 20))
    again.until_saved()
    again.session.close()
    assert not (folder / "labels/aside").exists()


def test_labels_of_another_program_are_kept_and_reported(screen):
    notes = []
    screen.session.note.connect(notes.append)
    stroke(screen, (6, 50, 50))
    screen.until_saved()
    path = screen.session.project.labels_path(NAMES[0])
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, 2, np.uint8), image.affine, image.header), path)
    written = path.read_bytes()
    before = screen.layer.data.copy()
    stroke(screen, (8, 20, 20))
    screen.until(lambda: bool(notes))
    assert "ann" in notes[0]
    assert "labels/aside" in notes[0]
    (kept,) = (screen.session.project.folder / "labels/aside").glob("*.nii.gz")
    assert kept.read_bytes() == written
    assert (screen.layer.data != before).any()
    screen.until_saved()


@pytest.mark.parametrize(
    "draw",
    [
        lambda screen: stroke(screen, (6, 50, 50)),
        fill,
        polygon,
        many_pixels,
        lambda screen: screen.layer.undo(),
        lambda screen: (screen.layer.undo(), screen.layer.redo(), screen.layer.undo()),
        hidden_undo,
    ],
    ids=["stroke", "fill", "polygon", "data_setitem", "undo", "redo", "hidden undo"],
)
def test_each_kind_of_change_is_saved_by_itself(screen, draw):
    stroke(screen, (2, 30, 30))
    screen.until_saved()
    screen.scene.go_to(9)  # Undo changes slices that are not shown.
    before = screen.saved()
    draw(screen)
    assert not np.array_equal(screen.layer.data, before)
    screen.until(lambda: not np.array_equal(screen.saved(), before))
    screen.until_saved()
    assert screen.autosaver.status == "saved"
    assert "saved" in screen.autosaver.sentence


def test_status_is_saved_only_after_saving(screen):
    stroke(screen, (2, 30, 30))
    assert screen.autosaver.status == "saving"
    while screen.autosaver.status != "saved":
        assert screen.autosaver.status == "saving"
        screen.autosaver.tick()
        time.sleep(0.002)
    np.testing.assert_array_equal(screen.saved(), screen.layer.data)
    screen.layer.undo()
    assert screen.autosaver.status == "saving"
    screen.until_saved()
    screen.scene.go_to(4)  # Showing another slice changes nothing.
    assert screen.autosaver.status == "saved"


def test_undo_and_redo_work_across_saves(screen):
    data = screen.layer.data
    states = [data.copy()]
    for k in range(3):
        stroke(screen, (k, 30, 30), 1 + k % 2)
        states.append(data.copy())
        screen.until_saved()
    for state in states[-2::-1]:
        screen.layer.undo()
        np.testing.assert_array_equal(data, state)
    screen.layer.redo()
    screen.until_saved()
    np.testing.assert_array_equal(screen.saved(), states[1])
    assert screen.layer.data is data


def wait_until_saved(screen):
    screen.until_saved()  # Slices that wait to be marked count as unsaved.


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_undo_on_a_hidden_slice_shows_and_unmarks_it(screen, plane):
    notes, axis = [], {"axial": 0, "coronal": 1}[plane]
    screen.session.note.connect(notes.append)
    screen.session.project.set_plane(plane)
    screen.session.plane_changed.emit()
    for index in (2, 6):
        screen.scene.go_to(index)
        at = [12, 48, 50]
        at[axis] = index
        stroke(screen, tuple(at))
        wait_until_saved(screen)
        screen.autosaver.mark([index])
    wait_until_saved(screen)
    screen.scene.go_to(9)
    screen.layer.undo()
    screen.until(lambda: screen.scene.slice == 6)
    wait_until_saved(screen)
    assert screen.session.project.done(NAMES[0]) == (2,)
    assert len(notes) == 1
    assert "slice 6" in notes[0]
    assert "no longer done" in notes[0]
    screen.layer.redo()  # The slice is shown, so there is nothing to report.
    wait_until_saved(screen)
    screen.scene.go_to(9)
    screen.layer.undo()
    screen.layer.undo()
    screen.until(lambda: screen.session.project.done(NAMES[0]) == ())
    assert "2 slices" in notes[1] or "slice 2" in notes[-1]


def test_painting_many_slices_unmarks_those_that_are_not_shown(screen):
    screen.autosaver.mark([2, 3, 4])
    wait_until_saved(screen)
    screen.scene.go_to(3)
    screen.layer.n_edit_dimensions = 3
    screen.layer.mode = "paint"
    screen.layer.brush_size = 7
    screen.layer.paint((3, 50, 50), 1)
    wait_until_saved(screen)
    assert screen.layer.data[2].any()
    assert screen.layer.data[4].any()
    screen.until(lambda: screen.session.project.done(NAMES[0]) == (3,))
    assert screen.scene.slice == 3


def test_a_long_stroke_is_saved_before_it_ends(screen):
    layer = screen.layer
    with layer.block_history():  # As napari does between press and release of the mouse button.
        end = time.monotonic() + LIMIT
        while time.monotonic() < end and not screen.saved().any():
            layer.mode = "paint"
            layer._draw(1, (2, 30, 30), (2, 30, 60))
            layer._draw(2, (2, 30, 60), (2, 30, 30))
            screen.autosaver.tick()
        assert screen.saved().any()
    screen.until_saved()


def test_writes_are_serial_and_in_order(screen, monkeypatch):
    project, save = screen.session.project, screen.session.project.save_labels
    active, most, written = [], [], []

    def slow(name, labels):
        active.append(1)
        most.append(len(active))
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.2)
        save(name, labels)
        written.append(int(labels.sum()))
        active.pop()

    monkeypatch.setattr(project, "save_labels", slow)
    monkeypatch.setattr(autosaver, "QUIET_SECONDS", 0.0)
    for k in range(20):
        stroke(screen, (k, 30, 30))
        screen.until(lambda: True)
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            screen.autosaver.tick()
    screen.until_saved()
    assert max(most) == 1
    assert len(written) > 2
    assert written == sorted(written)


def test_changing_the_scan_saves_the_labels_of_the_last_one(screen):
    stroke(screen, (2, 30, 30))
    expected = screen.layer.data.copy()
    screen.show(NAMES[1])
    np.testing.assert_array_equal(screen.saved(NAMES[0]), expected)
    assert not screen.layer.data.any()
    screen.show(NAMES[0])
    np.testing.assert_array_equal(screen.layer.data, expected)


def test_closing_the_project_saves(screen, folder):
    stroke(screen, (2, 30, 30))
    expected = screen.layer.data.copy()
    screen.session.close()
    assert screen.autosaver.status == "none"
    with Project.open(folder) as project:
        np.testing.assert_array_equal(project.labels(NAMES[0]).data, expected)


def test_a_full_disk_is_reported_once_and_saving_is_retried(screen, monkeypatch):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.1)
    with monkeypatch.context() as disk:
        broken(disk, screen)
        stroke(screen, (2, 30, 30))
        screen.until(lambda: screen.autosaver.status == "failed")
        stroke(screen, (3, 30, 30))
        end = time.monotonic() + 0.5
        screen.until(lambda: time.monotonic() > end)
        assert screen.autosaver.status == "failed"
        assert "No space left" in screen.autosaver.sentence
        assert len(screen.problems) == 1
    screen.until_saved()
    assert len(screen.problems) == 1


def test_unsaved_labels_are_kept_while_other_scans_are_shown(screen, monkeypatch):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.1)
    with monkeypatch.context() as disk:
        broken(disk, screen)
        stroke(screen, (2, 30, 30))
        expected = screen.layer.data.copy()
        screen.show(NAMES[1])
        assert screen.autosaver.status == "failed"
        screen.show(NAMES[0])
        np.testing.assert_array_equal(screen.layer.data, expected)
        screen.show(NAMES[1])
    screen.until_saved()
    np.testing.assert_array_equal(screen.saved(NAMES[0]), expected)


def test_labels_saved_during_loading_are_shown(screen, monkeypatch):
    project, load = screen.session.project, screen.session.project.labels
    with monkeypatch.context() as disk:
        broken(disk, screen)
        stroke(screen, (2, 30, 30))
        expected = screen.layer.data.copy()
        screen.show(NAMES[1])
    monkeypatch.setattr(project, "labels", lambda name: (load(name), time.sleep(0.3))[0])
    screen.autosaver._retry_at = 0.0  # The disk is back just after the file was read.
    screen.show(NAMES[0])
    np.testing.assert_array_equal(screen.layer.data, expected)
    screen.until_saved()


def test_labels_that_cannot_be_saved_at_closing_are_rescued(screen, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(label_rescue, "rescue_folder", lambda: tmp_path / "rescued")
    broken(monkeypatch, screen)
    stroke(screen, (2, 30, 30))
    expected = screen.layer.data.copy()
    screen.session.close()
    (file,) = (tmp_path / "rescued").iterdir()
    assert str(file) in screen.problems[-1]
    with Project.open(folder) as project:
        project.import_labels(NAMES[0], file)
        np.testing.assert_array_equal(project.labels(NAMES[0]).data, expected)


def test_failed_saving_writes_a_backup_that_is_reported_at_reopening(
    screen, folder, monkeypatch, tmp_path
):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(label_rescue, "rescue_folder", lambda: tmp_path / "rescued")
    broken(monkeypatch, screen)
    stroke(screen, (2, 30, 30))
    screen.until(lambda: screen.autosaver.status == "failed")
    (file,) = (tmp_path / "rescued").iterdir()
    assert str(file) in screen.autosaver.sentence
    first = file.read_bytes()
    stroke(screen, (5, 60, 60), 2)
    wanted = screen.layer.data.copy()

    def later():
        with Project.create(tmp_path / "other") as other:
            other.add_scans(folder.parent / f"{NAMES[0]}.nii.gz")
            other.import_labels(NAMES[0], file)
            return other.labels(NAMES[0]).data

    screen.until(lambda: file.read_bytes() != first)
    np.testing.assert_array_equal(later(), wanted)

    # If this process were killed now, the next window reports the backup.
    kept, problems = file.read_bytes(), []
    monkeypatch.undo()
    monkeypatch.setattr(label_rescue, "rescue_folder", lambda: tmp_path / "rescued")
    screen.until_saved(8.0)
    assert not file.exists()
    assert "copy" not in screen.autosaver.sentence
    screen.session.close()
    file.write_bytes(kept)
    session = Session()
    Scene(session, ViewerModel())
    session.problem.connect(lambda problem: problems.append(problem.sentence))
    assert session.open(folder)
    assert str(file) in problems[0]
    session.close()

    # It is not replaced by a backup of that window.
    screen = Screen(folder)
    screen.until(lambda: screen.layer is not None)
    broken(monkeypatch, screen)
    stroke(screen, (2, 60, 60))
    screen.until(lambda: screen.autosaver.status == "failed")
    (other,) = set((tmp_path / "rescued").iterdir()) - {file}
    assert file.read_bytes() == kept
    assert str(other) in screen.autosaver.sentence
    monkeypatch.undo()
    monkeypatch.setattr(label_rescue, "rescue_folder", lambda: tmp_path / "rescued")
    screen.until_saved(8.0)
    screen.session.close()
    assert list((tmp_path / "rescued").iterdir()) == [file]


def test_saving_is_retried_when_the_folder_is_back(screen, folder, monkeypatch):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.1)
    away = folder.with_name("away")
    folder.rename(away)
    stroke(screen, (2, 30, 30))
    screen.until(lambda: screen.autosaver.status == "failed")
    assert not folder.exists()
    away.rename(folder)
    screen.until_saved()


def test_a_slice_is_marked_done_after_its_labels_are_saved(screen, monkeypatch):
    project, order = screen.session.project, []
    save, mark = project.save_labels, project.mark_done
    monkeypatch.setattr(
        project,
        "save_labels",
        lambda *values: (time.sleep(0.1), save(*values), order.append("save")),
    )
    monkeypatch.setattr(
        project, "mark_done", lambda *values: (order.append("mark"), mark(*values))[1]
    )
    stroke(screen, (2, 30, 30))
    screen.autosaver.mark([2])
    assert screen.autosaver.done[2]
    assert not project.done(NAMES[0])
    screen.autosaver.mark([2], False)
    screen.autosaver.mark([2])
    screen.until(lambda: project.done(NAMES[0]) == (2,))
    assert order == ["save", "mark"]
    screen.autosaver.mark([2], False)
    assert project.done(NAMES[0]) == ()
    # When everything is saved, marking is immediate; an empty slice can be done, too.
    screen.autosaver.mark([2, 7])
    assert project.done(NAMES[0]) == (2, 7)


def test_an_empty_slice_of_an_unlabelled_scan_can_be_done(screen):
    assert not screen.session.project.has_labels(NAMES[0])
    screen.autosaver.mark([3])
    screen.until(lambda: screen.session.project.done(NAMES[0]) == (3,))
    assert screen.session.project.has_labels(NAMES[0])


def test_no_slice_is_done_while_saving_fails(screen, monkeypatch):
    broken(monkeypatch, screen)
    stroke(screen, (2, 30, 30))
    screen.autosaver.mark([2])
    screen.until(lambda: screen.autosaver.status == "failed")
    assert not screen.autosaver.done.any()
    assert not screen.session.project.done(NAMES[0])
    monkeypatch.undo()
    # The slice is done as soon as its labels are saved.
    screen.autosaver._retry_at = 0.0
    screen.until_saved()
    assert screen.session.project.done(NAMES[0]) == (2,)


def test_painted_slices_are_known_along_each_plane(screen):
    stroke(screen, (2, 30, 60))
    stroke(screen, (9, 80, 20), 2)
    for plane, axis in (("axial", 0), ("coronal", 1), ("sagittal", 2)):
        screen.session.project.set_plane(plane)
        screen.session.plane_changed.emit()
        screen.until(lambda: screen.autosaver.status == "saved")
        other = tuple({0, 1, 2} - {axis})
        np.testing.assert_array_equal(
            screen.autosaver.painted, screen.layer.data.any(axis=other), plane
        )


def test_new_label_values_become_classes(screen):
    heard = []
    screen.session.classes_changed.connect(lambda: heard.append(1))
    stroke(screen, (2, 30, 30), 7)
    screen.until_saved()
    assert screen.session.project.class_names[7] == "class 7"
    assert heard == [1]


def test_a_layer_converted_by_napari_is_still_saved(screen, monkeypatch):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.1)
    stroke(screen, (2, 30, 30))
    screen.layer.data = screen.layer.data.astype(np.int32)
    stroke(screen, (3, 30, 30))
    screen.until_saved()
    stroke(screen, (3, 60, 60), 300)
    screen.until(lambda: screen.autosaver.status == "failed")
    assert "0 to 254" in screen.autosaver.sentence
    screen.layer.undo()
    screen.until_saved()


def test_large_volumes_are_compared_in_short_steps(screen):
    from napari_sslseg.gui.autosave.label_copy import LabelCopy

    data = np.zeros((600, 256, 256), np.uint8)
    copy = LabelCopy(data)
    data[500, 3, 4] = data[20, 0, 0] = 1
    copy.invalidate()
    longest = 0.0
    while not copy.is_complete:
        start = time.thread_time()
        copy.update(data, 0.002)
        longest = max(longest, time.thread_time() - start)
    assert longest < 0.04
    np.testing.assert_array_equal(copy.snapshot()[1], data)
    np.testing.assert_array_equal(np.flatnonzero(copy.painted(0)), [20, 500])


@pytest.mark.parametrize("name", ["ann", "я" * 100], ids=["short", "long"])
def test_rescued_labels_of_equal_or_long_names_are_all_kept(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    source = write_project(tmp_path / "scans", (name,)).parent / f"{name}.nii.gz"
    kept, backups = [], []
    for place in ("hospital A", "hospital B"):
        with Project.create(tmp_path / place / ("проект " * 6)) as project:
            project.add_scans([source])
            drawn = project.labels(name)
            drawn.data[0, 0, len(kept)] = 1
            folder = project.folder
        session = Session()
        Scene(session, ViewerModel())
        for _ in range(2):  # Within a second.
            kept.append((rescue_labels(session, folder, name, drawn.data, drawn), drawn.data))
        backups.append(write_backup(folder, name, drawn.data, drawn))
        found = []
        session.problem.connect(lambda problem, found=found: found.append(problem.sentence))
        assert session.open(folder)
        session.close()
        assert str(backups[-1]) in "".join(found)
        # Another one is reported, too, when the first one was deleted.
        second = write_backup(folder, name, drawn.data, drawn)
        backups[-1].unlink()
        assert session.open(folder)
        session.close()
        assert str(second) in found[-1]
    assert len({path for path, _ in kept}) == 4
    assert len(set(backups)) == 2
    for path, labels in kept:
        np.testing.assert_array_equal(load_volume(path).data, labels)


PAINTER = """
import sys, time
import numpy as np
sys.path.insert(0, sys.argv[2])
from labelling_screen import Screen
screen = Screen(sys.argv[1])
screen.until(lambda: screen.layer is not None)
screen.layer.mode, screen.layer.brush_size = "paint", 1
count = 0
while True:
    k, y, x = np.unravel_index(count, screen.layer.data.shape)
    screen.layer.paint((k, y, x), 1)
    count += 1
    print(count, time.monotonic(), flush=True)
    for _ in range(3):
        screen.session.pump(); screen.autosaver.tick(); time.sleep(0.004)
"""


def test_a_killed_process_loses_at_most_two_seconds(folder):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PAINTER, str(folder), str(HELPERS)],
        stdout=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    strokes = []
    start = None
    for line in process.stdout:
        count, moment = line.split()
        strokes.append((int(count), float(moment)))
        start = start or float(moment)
        if float(moment) - start > 2.7:
            break
    process.kill()
    process.wait()
    last = strokes[-1][1]
    with Project.open(folder) as project:
        labels = project.labels(NAMES[0])
        kept = int(labels.data.sum())
        assert kept >= max(count for count, moment in strokes if moment < last - 2.0)
        assert labels.data.ravel()[:kept].all()  # Exactly the first strokes, none torn.
        path = project.labels_path(NAMES[0])
    assert nib.load(path).shape
