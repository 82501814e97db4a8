"""Nothing of a project is shown, or used, in another project that is opened in the same window."""

from pathlib import Path

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog

from loop_project import make_project
from napari_sslseg.gui.train.training_choice import TrainingChoice
from person import Person


@pytest.fixture
def person(viewer, qtbot, tmp_path, monkeypatch, one_thread):
    """A person with a project, whose choices of new projects are in the fixture's folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "new"), "")
    )
    make_project(tmp_path)
    found = Person(viewer, qtbot)
    assert found.session.open(tmp_path / "project")
    found.idle()
    yield found
    found.end()


def train_quickly(person):
    """Train for some steps with choices that are no defaults."""
    panel = person.step("Train")
    form = panel.form
    person.click(form.advanced.button)
    form.steps.setValue(4)
    form.batch.setValue(2)
    form.seed.setValue(7)
    person.choose(form.network, "tiny")
    person.qtbot.mouseClick(form.unlabelled, Qt.MouseButton.LeftButton, pos=QPoint(9, 9))
    assert not form.choice().unlabelled
    person.click(form.advanced.button)
    person.click(panel.box.start)
    person.until(lambda: "is finished" in panel.box.state.text())
    person.idle()
    return panel


def test_results_and_choices_do_not_go_over_to_another_project(person, tmp_path):
    name = person.project.names[0]
    person.show(name)
    panel = train_quickly(person)
    assert panel.scores.isVisible()
    inspect = person.step("Inspect")
    person.click(inspect.this)
    person.idle()
    person.click(inspect.correct.region)
    pretrain = person.step("Pretrain")
    person.choose(pretrain.form.what, "context-restoration")
    person.choose(pretrain.form.network, "tiny")
    pretrain.form.steps.setValue(33)
    Path(person.session.project.entry(name).absolute).rename(tmp_path / "away.nii.gz")
    person.session.deselect()
    person.session.select(name)
    person.until(person.dock.problem.isVisible)

    scans = person.step("Scans")
    person.click(scans.bar.new)
    assert person.project.folder == tmp_path / "new"
    person.idle()
    assert not person.dock.problem.isVisible()
    buttons = [person.dock.steps.button(number).isEnabled() for number in range(5)]
    assert buttons == [True, False, False, False, False]
    # Train: neither the state, the curves and scores nor the choices.
    assert panel.box.state.text() == ""
    assert not panel.box.plot.curves
    assert not panel.scores.plot.curves
    assert panel.scores.words.text() == ""
    assert panel.box.finished == ""
    assert panel.box.log.toPlainText() == ""
    assert panel.form.choice() == TrainingChoice()
    # Pretrain and Inspect.
    plan = pretrain.form.plan()
    assert (plan.method.key, plan.network) != ("context-restoration", "tiny")
    assert plan.steps != 33
    assert pretrain.heading.text() == ""
    assert inspect.table.rowCount() == 0
    assert not inspect.correct.region.isChecked()
    assert "no trained network" in inspect.message.text()

    # Back in the first project its steps are open, with its own runs.
    assert person.session.open(tmp_path / "project")
    person.idle()
    panel = person.step("Train")
    assert panel.box.state.text() == ""
    assert panel.runs.lines[0].name == "finetune-001"
    assert panel.form.choice() == TrainingChoice()
    assert person.step("Inspect").run.currentData() == "finetune-001"
    assert inspect.message.text() == ""


def test_scans_that_are_being_added_stay_in_their_project(person, tmp_path):
    make_project(tmp_path / "second", count=12, labelled=0)
    scans = person.step("Scans")
    before = set(person.project.names)
    person.drop(scans, [tmp_path / "second" / "scans"])
    person.until(lambda: len(person.project.names) > len(before))
    first = person.project
    person.click(scans.bar.new)
    assert person.project is not first
    person.idle()
    assert person.project.names == ()
    assert not person.session.current
    assert person.problems == []
