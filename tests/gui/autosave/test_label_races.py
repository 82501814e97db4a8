"""Labels and done slices survive concurrent imports and changes of planes, structures and scans."""

import threading

import numpy as np
import pytest

from labelling_screen import NAMES, SHAPE, Screen, broken, stroke
from napari_sslseg import core
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.scans.labels import save_labels
from napari_sslseg.gui.autosave import autosaver, rescue as label_rescue
from napari_sslseg.gui.label.class_edits import remove_class
from napari_sslseg.gui.scans.scan_actions import ScanActions
from patience import LIMIT

ANN, BOB = NAMES


@pytest.fixture
def screen(folder, tmp_path):
    """A screen that shows the first scan; ``other`` is a label file for both scans."""
    made = Screen(folder)
    made.work, made.notes = ScanActions(made.session), []
    made.session.note.connect(made.notes.append)
    made.other = tmp_path / "other.nii.gz"
    project = made.session.project
    made.drawn = np.zeros(SHAPE, np.uint8)
    made.drawn[10:15, 20:40, 20:40] = 1
    project.save_labels(BOB, made.drawn)
    made.other.write_bytes(project.labels_path(BOB).read_bytes())
    project.save_labels(BOB, np.zeros(SHAPE, np.uint8))
    made.until(lambda: made.layer is not None)
    settle(made)
    yield made
    made.session.close()


def settle(screen):
    screen.until(lambda: not screen.session.jobs and screen.autosaver.status == "saved", LIMIT)


class Gate:
    """Blocks a method of the project until it is opened; then the method continues."""

    def __init__(self, monkeypatch, project, name):
        self.reached, self.open = threading.Event(), threading.Event()
        real = getattr(project, name)

        def gated(*values, **named):
            self.reached.set()
            assert self.open.wait(LIMIT)
            return real(*values, **named)

        monkeypatch.setattr(project, name, gated)


@pytest.mark.parametrize("when", ["before", "during"])
def test_labels_imported_during_loading_are_shown_and_kept(screen, monkeypatch, when):
    project = screen.session.project
    load, save = Gate(monkeypatch, project, "labels"), Gate(monkeypatch, project, "import_labels")
    if when == "before":
        screen.session.select(BOB)
        assert load.reached.wait(LIMIT)
    screen.work.import_labels(BOB, screen.other, "with labels")
    assert save.reached.wait(LIMIT)
    if when == "during":
        screen.session.select(BOB)
    load.open.set()
    screen.until(lambda: not any(job.kind == "load" for job in screen.session.jobs))
    assert screen.session.current == ANN  # Labels that are being replaced cannot be painted on.
    save.open.set()
    screen.until(lambda: screen.session.current == BOB)
    settle(screen)
    np.testing.assert_array_equal(screen.layer.data, screen.drawn)
    stroke(screen, (20, 60, 60))
    screen.until_saved()
    assert project.done(BOB) == tuple(range(10, 15))
    assert (screen.saved()[10:15] == screen.drawn[10:15]).all()


def test_labels_imported_for_the_current_scan_are_shown(screen):
    stroke(screen, (2, 30, 30))
    screen.work.import_labels(ANN, screen.other, "none")
    assert screen.layer is None
    screen.until(lambda: screen.session.current == ANN)
    np.testing.assert_array_equal(screen.layer.data, screen.drawn)
    (aside,) = (screen.session.project.folder / "labels/aside").glob("*.nii.gz")
    screen.work.import_labels(ANN, aside, "none")
    screen.until(lambda: screen.session.current == ANN)
    assert screen.layer.data[2, 30, 30] == 1


def test_unsaved_labels_prevent_an_import(screen, monkeypatch):
    monkeypatch.setattr(autosaver, "RETRY_SECONDS", 0.1)
    with monkeypatch.context() as disk:
        broken(disk, screen)
        stroke(screen, (2, 30, 30))
        expected = screen.layer.data.copy()
        screen.show(BOB)
        assert screen.work.import_labels(ANN, screen.other, "none") is None
    assert "none are imported" in screen.problems[-1]
    settle(screen)
    np.testing.assert_array_equal(screen.saved(ANN), expected)


@pytest.mark.parametrize("ask", [True, False])
def test_done_slices_belong_to_one_plane(screen, monkeypatch, ask):
    with monkeypatch.context() as disk:
        if not ask:  # Before the stroke, because afterwards it may be saved at any time.
            broken(disk, screen)
        stroke(screen, (12, 40, 40))
        screen.autosaver.mark([12])
        if ask:  # Unsaved marks are saved first, so that they count.
            assert not screen.work.set_plane("coronal")
            assert screen.session.project.done(ANN) == (12,)
            assert "1 axial slices" in screen.problems[-1]
        else:
            assert screen.work.set_plane("coronal")
    if not ask:
        screen.autosaver._retry_at = 0.0
        settle(screen)
        assert screen.session.project.done(ANN) == ()
    assert screen.saved().any()


def test_a_mark_beyond_the_slices_of_the_next_plane_is_dropped(screen, monkeypatch):
    project = screen.session.project
    project.set_plane("coronal")
    screen.session.plane_changed.emit()
    with monkeypatch.context() as disk:
        broken(disk, screen)
        stroke(screen, (3, 90, 30))
        screen.autosaver.mark([90])
        assert screen.work.set_plane("axial")
        assert not screen.autosaver.done.any()
    screen.autosaver._retry_at = 0.0
    settle(screen)
    assert project.done(ANN) == ()


def test_slices_that_lose_their_last_label_with_a_structure_are_unmarked(screen):
    project, remarks, changed = screen.session.project, [], []
    both = np.zeros(SHAPE, np.uint8)
    both[10:12, 20:40, 20:40], both[11, 50:60, 50:60] = 2, 1
    screen.session.leave()
    for name in NAMES:
        project.save_labels(name, both)
        project.mark_done(name, [10, 11])
    screen.show(ANN)
    screen.session.remark.connect(remarks.append)
    screen.session.done_changed.connect(changed.append)
    remove_class(screen.session, screen.scene, 2, lambda why: True)
    screen.until(lambda: 2 not in project.class_names and not screen.session.jobs)
    settle(screen)
    assert [project.done(name) for name in NAMES] == [(11,)] * len(NAMES)
    assert set(np.flatnonzero(screen.autosaver.done)) == {11}
    assert set(changed) == set(NAMES)
    (remark,) = remarks
    assert "2 slices" in remark
    assert all(word in remark for word in ("spleen", "no longer done", *NAMES))


def test_strokes_survive_the_removal_of_a_structure(screen, monkeypatch):
    project = screen.session.project
    both = np.zeros(SHAPE, np.uint8)
    both[10, 20:40, 20:40], both[11, 20:40, 20:40] = 2, 1
    screen.session.leave()
    for name in NAMES:
        project.save_labels(name, both)
    screen.show(ANN)
    gate = Gate(monkeypatch, project, "remove_class")
    remove_class(screen.session, screen.scene, 2, lambda why: True, erase=True)
    assert gate.reached.wait(LIMIT)
    stroke(screen, (5, 50, 50))
    expected = np.where(screen.layer.data == 2, 0, screen.layer.data)
    screen.show(BOB)
    assert screen.autosaver.status == "saving"
    # A scan that is being loaded is read again; nothing else writes labels at the same time.
    loading = Gate(monkeypatch, project, "labels")
    screen.session.select(ANN)
    assert loading.reached.wait(LIMIT)
    assert screen.work.import_labels(BOB, screen.other, "all") is None
    screen.work.remove([BOB])
    assert remove_class(screen.session, screen.scene, 1, lambda why: True) is None
    assert [sentence.split(";")[0] for sentence in screen.problems] == [
        "Labels are being changed in the background"
    ] * 3
    gate.open.set()
    screen.until(lambda: not any(job.kind == "classes" for job in screen.session.jobs))
    loading.open.set()
    screen.until(lambda: screen.session.current == ANN)
    settle(screen)
    np.testing.assert_array_equal(screen.layer.data, expected)
    np.testing.assert_array_equal(screen.saved(ANN), expected)
    np.testing.assert_array_equal(screen.saved(BOB), np.where(both == 2, 0, both))
    assert list(project.class_names) == [1]


def test_unsaved_labels_prevent_removing_the_scan(screen, monkeypatch):
    broken(monkeypatch, screen)
    stroke(screen, (2, 30, 30))
    screen.until(lambda: screen.autosaver.status == "failed")
    screen.work.remove([ANN])
    assert "no scan is removed" in screen.problems[-1]
    assert screen.session.project.names == NAMES
    assert screen.layer.data[2, 30, 30] == 1
    monkeypatch.undo()


def test_labels_of_a_removed_scan_are_rescued(screen, monkeypatch, tmp_path):
    monkeypatch.setattr(label_rescue, "rescue_folder", lambda: tmp_path / "rescued")
    with monkeypatch.context() as disk:
        broken(disk, screen)
        stroke(screen, (2, 30, 30))
        expected = screen.layer.data.copy()
        screen.show(BOB)
        assert screen.autosaver.status == "failed"
    screen.session.project.remove_scan(ANN)  # As a script may do.
    screen.autosaver._retry_at = 0.0
    screen.until(lambda: screen.autosaver.status == "saved")
    (file,) = (tmp_path / "rescued").iterdir()
    assert str(file) in screen.problems[-1]
    screen.session.project.import_labels(BOB, file, "none")
    np.testing.assert_array_equal(screen.saved(BOB), expected)


def test_a_project_stays_open_until_labels_are_imported(screen, monkeypatch, folder):
    gate = Gate(monkeypatch, screen.session.project, "import_labels")
    screen.work.import_labels(BOB, screen.other, "with labels")
    assert gate.reached.wait(LIMIT)
    assert not screen.session.create(folder.with_name("next"))
    assert "Labels are being changed" in screen.problems[-1]
    assert screen.session.project.folder == folder
    later = threading.Timer(0.2, gate.open.set)
    later.start()
    screen.session.close()
    later.join()
    with Project.open(folder) as project:
        assert project.done(BOB) == tuple(range(10, 15))
        np.testing.assert_array_equal(project.labels(BOB).data, screen.drawn)


def test_any_failure_of_saving_is_reported(screen, monkeypatch):
    def wrong(name, labels):
        raise KeyError(name)

    monkeypatch.setattr(screen.session.project, "save_labels", wrong)
    stroke(screen, (2, 30, 30))
    screen.until(lambda: screen.autosaver.status == "failed")
    assert "KeyError" in screen.problems[-1]
    assert "your work is saved" not in screen.problems[-1]
    monkeypatch.undo()


def test_a_training_with_unsaved_labels_is_refused(screen, monkeypatch):
    stroke(screen, (2, 30, 30))
    screen.until_saved()
    screen.autosaver.mark([2])
    broken(monkeypatch, screen)
    stroke(screen, (5, 30, 30))
    screen.until(lambda: screen.autosaver.status == "failed")
    assert screen.session.finetune("scratch", core.FinetuneSettings()) is None
    assert "not saved" in screen.problems[-1]
    assert not screen.session.jobs
    monkeypatch.undo()
    assert screen.session.is_saved("The training")


def test_values_of_another_program_become_structures_when_a_scan_is_shown(screen):
    path = screen.session.project.labels_path("bob")
    stroke(screen, (2, 30, 30))
    screen.until_saved()
    theirs = screen.saved("ann").copy()
    theirs[0, 0, :4] = 9
    path.parent.mkdir(exist_ok=True)
    save_labels(theirs, path, like=screen.session.project.load("bob"), overwrite=True)
    remarks = []
    screen.session.remark.connect(remarks.append)
    screen.show("bob")
    assert screen.session.project.class_names[9] == "class 9"
    assert any("class 9" in remark for remark in remarks)
    assert 9 in screen.scene.paintable
