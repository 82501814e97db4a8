"""The next step in each state of a project, without a window."""

import os
import shutil
import time

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.events import Done, Message, Status
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.gui.model import next_step as words
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.train.training_choice import TrainingChoice, finetune_settings
from patience import LIMIT

DONE = (3, 5)


def pump_until(session, condition, seconds=LIMIT):
    end = time.monotonic() + seconds
    while not condition():
        session.pump()
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project of three patients, two of them labelled, with a pretraining and a training."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "scans").mkdir()
    with core.Project.create(folder / "project") as project:
        for seed in range(3):
            scan, truth = make_patient(seed, "MR", (10, 48, 48), (16.0, 7.0, 7.0))
            source = np.ascontiguousarray(scan.geometry.to_source(scan.data))
            path = folder / "scans" / f"{scan.name}.nii.gz"
            nib.save(nib.Nifti1Image(source, scan.geometry.affine), path)
            project.add_scans(path)
            if seed < 2:
                project.save_labels(scan.name, np.where(truth.data <= 2, truth.data, 0))
                project.mark_done(scan.name, DONE)
        core.pretrain(
            project.scans("train"),
            core.ContextRestoration(patch_size=4),
            out=project.new_run_folder("pretrain"),
            settings=core.PretrainSettings(
                network=core.Network.preset("tiny"),
                training=core.Training(steps=2, batch_size=2),
                validation_share=0,
            ),
        )
        split = project.split_validation()
        choice = TrainingChoice(steps=2, batch_size=2, network="tiny", unlabelled=True)
        core.finetune(
            split.training,
            validation=split.validation,
            unlabelled=project.unlabelled_scans(),
            out=project.new_run_folder("finetune"),
            settings=finetune_settings(project, choice),
            device="cpu",
        )
    return folder


@pytest.fixture
def session(trained, tmp_path):
    """A session with an unchanged copy of the project."""
    shutil.copytree(trained, tmp_path / "all")
    found = Session()
    assert found.open(tmp_path / "all" / "project")
    pump_until(found, lambda: not found.jobs)
    yield found
    for job in list(found.jobs):
        job.stop()
    pump_until(found, lambda: not found.jobs)
    found.close()


def delete_runs(session, *kinds):
    """Delete the runs of some kinds."""
    for folder in (session.project.folder / "runs").iterdir():
        if folder.name.startswith(kinds):
            shutil.rmtree(folder)
    session.look_for_runs()
    pump_until(session, lambda: not session.jobs)


def unmark(session, *names):
    for name in names:
        session.mark_done(name, DONE, done=False)


def set_status(session, run, status):
    """Change the status in the record of a finished run."""
    record = session.project.folder / "runs" / run / "run.json"
    text = record.read_text()
    assert '"finished"' in text
    record.write_text(text.replace('"status": "finished"', f'"status": "{status}"'))
    session.look_for_runs()
    pump_until(session, lambda: not session.jobs)


def test_from_nothing_to_the_first_training(tmp_path, trained):
    session = Session()
    assert session.next_step() == words.PROJECT
    assert not any(session.summary().values())
    assert session.create(tmp_path / "new")
    assert session.next_step() == words.SCANS
    session.add([trained / "scans"])
    assert session.next_step() == words.ADDING
    pump_until(session, lambda: not session.jobs)
    assert session.next_step() == words.PRETRAIN
    first, second, _ = session.project.names
    session.project.save_labels(first, np.zeros((10, 48, 48), np.uint8))
    session.mark_done(first, [1])
    assert session.next_step() == words.STRUCTURE
    session.project.add_class("liver")
    assert session.next_step() == words.SECOND
    session.mark_done(second, [2, 4])
    assert session.next_step() == words.TRAIN.format(slices="3 slices", patients="2 patients")
    session.close()
    assert session.next_step() == words.PROJECT


def test_after_pretraining_a_slice_must_be_labelled(session):
    delete_runs(session, "finetune")
    unmark(session, *session.project.names[:2])
    assert session.next_step() == words.LABEL
    assert session.summary()["pretrained"] == 1


def test_done_slices_of_held_out_patients_do_not_count(session):
    delete_runs(session, "finetune")
    first, second, _ = session.project.names
    session.set_role(first, "test")
    assert session.next_step() == words.SECOND
    session.set_role(second, "test")
    assert session.next_step() == words.LABEL_TRAIN
    assert session.summary()["done"] == 0
    session.set_role(session.project.names[2], "test")
    assert session.next_step() == words.HELD_OUT


def test_scans_with_problems_are_mentioned(session):
    names = session.project.names
    session.scan_problems = {names[2]: f"{names[2]} is missing."}
    assert session.next_step() == words.PREDICT + words.UNUSABLE.format(count="1 scan")
    session.scan_problems = dict.fromkeys(names, "missing")
    assert session.next_step() == words.UNREADABLE


def test_after_a_training_the_predictions_are_inspected(session):
    # The training used the scan without labels too, as it does by default.
    assert session.next_step() == words.PREDICT
    set_status(session, "finetune-001", "stopped")
    assert session.next_step() == words.STOPPED.format(name="finetune-001")
    session.predictions.make(["finetune-001"], session.project.names[:1])
    pump_until(session, lambda: not session.jobs)
    assert session.next_step() == words.INSPECT


def test_newly_done_slices_require_a_training(session):
    name = session.project.names[0]
    session.mark_done(name, [7])
    assert session.next_step() == words.OTHER_SLICES
    session.mark_done(name, [7], done=False)
    assert session.next_step() == words.PREDICT
    session.set_role(name, "test")
    assert session.next_step() == words.OTHER_SLICES


def test_newly_saved_labels_require_a_training(session):
    project = session.project
    name = project.names[0]
    labels = project.labels(name).data.copy()
    labels[3, :4] = 1
    path = project.save_labels(name, labels)
    later = path.stat().st_mtime + 60  # Run records store whole seconds.
    os.utime(path, (later, later))
    assert session.next_step() == words.OTHER_LABELS


def test_done_slices_of_unusable_scans_do_not_count(session):
    name = session.project.names[0]
    session.mark_done(name, [7])
    session.scan_problems = {name: f"{name} is missing."}
    assert session.next_step().startswith(words.PREDICT)


def test_an_interrupted_run_is_to_be_resumed(session):
    set_status(session, "finetune-001", "running")  # Its process was killed.
    assert session.next_step() == words.INTERRUPTED.format(name="finetune-001", step=4)
    assert session.summary()["finetuned"] == 0
    delete_runs(session, "finetune")
    unmark(session, *session.project.names[:2])
    set_status(session, "pretrain-001", "running")
    assert session.next_step() == words.INTERRUPTED.format(name="pretrain-001", step=2)


@pytest.mark.parametrize(
    ("kind", "step"), [("pretrain", 2), ("finetune", 4)], ids=["pretrain", "finetune"]
)
def test_next_step_during_a_training(session, kind, step):
    def events(stop, pause):
        yield Message("Begun.")
        while not stop.is_set:
            yield Status("paused" if pause.is_set else "running", 0)
            time.sleep(0.002)
        yield Done(None, stopped=True)

    job = session.run(kind, kind, events)
    assert "is running" in session.next_step()
    job.pause()
    pump_until(session, lambda: job.status == "paused")
    assert f"press Resume in step {step}" in session.next_step()
    job.resume()
    pump_until(session, lambda: job.status == "running")
    assert "label" in session.next_step()
    job.stop()
    assert "stops after this step" in session.next_step()
    pump_until(session, lambda: not session.jobs)
    assert session.next_step() == words.PREDICT
