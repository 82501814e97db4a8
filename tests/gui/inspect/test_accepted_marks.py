"""The record of accepted slices during accepting, undoing, redoing and erasing."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.inspect.acceptance import accept_region, accept_slice
from napari_sslseg.gui.inspect.accepted_marks import AcceptedMarks
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.viewer.scene import Scene
from scene_project import SHAPE, until, write_project

RUN = "finetune-001"


class Desk:
    """A session that accepts predictions, and waits until the labels are saved."""

    def __init__(self, folder):
        self.session = Session()
        self.problems = []
        self.session.problem.connect(lambda problem: self.problems.append(problem.sentence))
        self.scene = Scene(self.session, ViewerModel())
        self.marks = AcceptedMarks(self.session, self.scene)
        assert self.session.open(folder)
        until(self.session, lambda: self.labels is not None and not self.session.jobs)
        self.predicted = np.zeros(SHAPE, np.uint8)
        self.predicted[1:4, 4:8, 4:8] = 1
        self.predicted[1:4, 10:13, 4:8] = 1
        self.saved()

    @property
    def labels(self):
        return self.scene.labels

    @property
    def known(self):
        return self.session.project.accepted(self.session.current)

    def accept(self, index, place=None, run=RUN):
        before = np.take(self.labels.data, index, 0)
        if place is None:
            assert accept_slice(self.labels, self.predicted, 0, index)
        else:
            assert accept_region(self.labels, self.predicted, 0, (index, *place))
        assert self.marks.note(index, run, before)

    def draw(self, index, value=1, rows=slice(0, 2)):
        where = np.nonzero(np.ones(SHAPE[1:], bool)[rows])
        place = (np.full(len(where[0]), index), where[0] + (rows.start or 0), where[1])
        self.labels.data_setitem(place, value)

    def saved(self):
        def look():
            self.scene.autosaver.tick()
            return self.scene.autosaver.status == "saved"

        assert self.scene.autosaver.flush()
        until(self.session, look)

    def show(self, name):
        self.session.select(name)
        until(self.session, lambda: self.session.current == name and not self.session.jobs)
        self.saved()


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = Desk(write_project(tmp_path))
    yield made
    made.session.close()


def test_undo_removes_the_record_and_redo_restores_it(desk):
    records = []
    desk.marks.changed.connect(lambda: records.append(desk.known))
    desk.accept(2)
    assert desk.known == {RUN: (2,)}
    desk.saved()
    assert desk.known == {RUN: (2,)}
    desk.labels.undo()
    desk.saved()
    assert desk.known == {}
    desk.labels.redo()
    desk.saved()
    assert desk.known == {RUN: (2,)}
    assert records == [{RUN: (2,)}, {}, {RUN: (2,)}]
    desk.labels.undo()
    desk.saved()
    desk.draw(2)  # Drawn by hand, so it is not accepted.
    desk.saved()
    assert desk.known == {}


def test_the_record_is_removed_when_the_last_region_is_undone(desk):
    desk.draw(2)
    desk.saved()
    desk.accept(2, (5, 5))
    desk.saved()
    desk.accept(2, (11, 5), run="finetune-002")
    desk.saved()
    assert desk.known == {RUN: (2,), "finetune-002": (2,)}
    desk.labels.undo()
    desk.saved()
    assert desk.known == {RUN: (2,), "finetune-002": (2,)}
    desk.labels.undo()
    desk.saved()
    assert desk.known == {}
    assert desk.labels.data[2].any()


def test_a_corrected_slice_stays_accepted_and_an_erased_one_does_not(desk):
    desk.accept(2)
    desk.accept(3)
    desk.draw(2)
    desk.saved()
    assert desk.known == {RUN: (2, 3)}
    desk.draw(2, 0, slice(None))
    desk.saved()
    assert desk.known == {RUN: (3,)}
    desk.labels.undo()  # Erased labels are restored.
    desk.saved()
    assert desk.known == {RUN: (2, 3)}


def test_accepting_an_empty_prediction_is_recorded(desk):
    desk.draw(5)
    desk.saved()
    desk.accept(5)
    assert not desk.labels.data[5].any()
    desk.saved()
    assert desk.known == {RUN: (5,)}
    desk.labels.undo()
    desk.saved()
    assert desk.known == {}


def test_the_record_survives_another_scan_and_reopening(desk):
    first = desk.session.current
    desk.accept(2)
    desk.show("bob")
    assert desk.known == {}
    desk.show(first)
    assert desk.known == {RUN: (2,)}
    folder = desk.session.project.folder
    desk.session.close()
    again = Desk(folder)
    assert again.known == {RUN: (2,)}
    # Undoing a new acceptance does not remove the recorded one.
    again.draw(2)
    again.saved()
    again.accept(2)
    again.labels.undo()
    again.saved()
    assert again.known == {RUN: (2,)}
    again.session.close()
    with Project.open(folder) as project:
        assert project.accepted(first) == {RUN: (2,)}


def test_a_record_that_cannot_be_saved_is_reported(desk):
    before = desk.labels.data[2].copy()
    record = desk.session.project.folder / "project.json"
    record.write_text(record.read_text() + " ")
    accept_slice(desk.labels, desk.predicted, 0, 2)
    assert not desk.marks.note(2, RUN, before)
    assert "changed by another program" in desk.problems[0]
    assert desk.known == {}
