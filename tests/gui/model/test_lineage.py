"""Recognising scans that runs used, also if they were renamed or replaced."""

import time

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.events import Step
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.runs.lineage import find_data_use, patient_key
from napari_sslseg.gui.inspect.score_rows import score_sheet
from napari_sslseg.gui.model.run_descriptions import scan_uses
from napari_sslseg.gui.model.run_lines import run_lines
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.train.training_choice import TrainingChoice, finetune_settings
from patience import LIMIT

RUN = "finetune-001"
DONE = (3, 5)


def wait(session, seconds=LIMIT):
    end = time.monotonic() + seconds
    while session.jobs:
        session.pump()
        assert time.monotonic() < end
        time.sleep(0.01)


def write_scan(path, seed):
    scan, truth = make_patient(seed, "MR", (10, 48, 48), (16.0, 7.0, 7.0))
    source = np.ascontiguousarray(scan.geometry.to_source(scan.data))
    nib.save(nib.Nifti1Image(source, scan.geometry.affine), path)
    return np.where(truth.data <= 2, truth.data, 0).astype(np.uint8)


def make(folder, count=4):
    """A project of four scans; two slices of each are done."""
    folder.mkdir()
    with Project.create(folder / "project") as project:
        for seed in range(count):
            truth = write_scan(folder / f"p{seed}.nii.gz", seed)
            project.add_scans(folder / f"p{seed}.nii.gz")
            project.save_labels(f"p{seed}", truth)
            project.mark_done(f"p{seed}", DONE)
    return folder / "project"


def finetune(project, names, init="scratch"):
    chosen = [item for item in project.labelled_scans() if item.name in names]
    settings = finetune_settings(
        project,
        TrainingChoice(
            start="" if init == "scratch" else init.name, steps=2, batch_size=2, network="tiny"
        ),
    )
    out = project.new_run_folder("finetune")
    return core.finetune(chosen, init=init, out=out, settings=settings, device="cpu")


def pretrain(project, names):
    scans = [scan for scan in project.scans() if scan.name in names]
    settings = core.PretrainSettings(
        network=core.Network.preset("tiny"),
        training=core.Training(steps=2, batch_size=2),
        validation_share=0,
    )
    out = project.new_run_folder("pretrain")
    core.pretrain(scans, core.MaskedPatches(), out=out, settings=settings, device="cpu")
    return out


@pytest.fixture
def session(tmp_path):
    session = Session()
    session.problems = []
    session.problem.connect(lambda problem: session.problems.append(problem.sentence))
    assert session.open(make(tmp_path / "one"))
    wait(session)
    yield session
    wait(session)
    session.close()


def test_patients_of_the_pretraining_are_recognised(session):
    project = session.project
    before = pretrain(project, ("p0", "p1", "p2"))
    run = finetune(project, ("p0", "p1"), before)
    seen = find_data_use(run)
    assert seen.complete
    assert patient_key("p2") in seen.unlabelled
    assert patient_key("p2") not in seen.training
    assert scan_uses(project, run) == {
        "p0": "training", "p1": "training", "p2": "without labels", "p3": "unseen",
    }  # fmt: skip
    session.predictions.make([RUN], project.names)
    wait(session)
    rows = score_sheet(session.predictions, RUN).rows
    assert [row.scan for row in rows[:1]] == ["p3"]
    assert "(4 slices of 2 patients" in score_sheet(session.predictions, RUN).verdict
    assert "1 scan of these without labels" in score_sheet(session.predictions, RUN).verdict
    # If the pretraining is missing, its patients are unknown, so no scan counts as unseen.
    before.rename(before.with_name("elsewhere"))
    assert scan_uses(project, run)["p3"] == "without labels"


def test_a_scan_is_recognised_by_its_values(session, tmp_path):
    project = session.project
    run = finetune(project, ("p0", "p1"))
    place = tmp_path / "one"
    project.remove_scan("p0")
    (place / "p0.nii.gz").rename(place / "other.nii.gz")
    project.add_scans(place / "other.nii.gz")
    assert project.entry("other").subject != "p0"
    assert scan_uses(project, run)["other"] == "training"
    # Another scan of a patient used for training is not unseen either.
    write_scan(place / "p1 later.nii.gz", 9)
    project.add_scans(place / "p1 later.nii.gz")
    (later,) = set(project.names) - {"other", "p1", "p2", "p3"}
    project.set_subject(later, "p1")
    assert scan_uses(project, run)[later] == "same patient"


def test_a_prediction_is_not_reused_for_another_scan_of_the_same_name(session, tmp_path):
    project, predictions = session.project, session.predictions
    finetune(project, ("p0", "p1"))
    predictions.make([RUN], ["p3"])
    wait(session)
    first = predictions.get(RUN, "p3")
    assert predictions.is_up_to_date(RUN, "p3")
    project.remove_scan("p3")
    assert predictions.get(RUN, "p3") is None
    write_scan(tmp_path / "one" / "p3.nii.gz", 11)
    project.add_scans(tmp_path / "one" / "p3.nii.gz")
    assert predictions.get(RUN, "p3") is None
    assert not predictions.is_up_to_date(RUN, "p3")
    predictions.make([RUN], ["p3"])
    wait(session)
    assert predictions.get(RUN, "p3") is not first


def test_labels_that_are_changed_back_have_not_changed(session):
    project, predictions = session.project, session.predictions
    finetune(project, ("p0", "p1"))
    predictions.make([RUN], ["p0"])
    wait(session)
    labels = project.labels("p0").data
    project.save_labels("p0", np.where(labels == 1, 2, labels))
    assert not predictions.is_up_to_date(RUN, "p0")
    project.save_labels("p0", labels)
    assert predictions.is_up_to_date(RUN, "p0")
    done = project.done("p0")
    project.unmark("p0", done[0])
    assert not predictions.is_up_to_date(RUN, "p0")
    project.mark_done("p0", done[0])
    assert predictions.is_up_to_date(RUN, "p0")


def test_predictions_of_a_closed_project_are_dropped(session, tmp_path):
    finetune(session.project, ("p0", "p1"))
    other = make(tmp_path / "two")
    with Project.open(other) as project:
        finetune(project, ("p0", "p1"))
    session.predictions.make([RUN], session.project.names)
    assert session.open(other)
    wait(session)
    assert session.project.folder == other
    assert all(session.predictions.get(RUN, name) is None for name in session.project.names)
    assert session.predictions.make([RUN], ["p0"]) is not None


def test_a_run_with_a_patient_who_is_held_out_now_is_not_resumed(session):
    project = session.project
    steps = []

    def stop_at_first_step(job, events):
        new = [event for event in events if isinstance(event, Step)]
        steps.extend(new)
        if new:
            job.stop()

    session.job_events.connect(stop_at_first_step)
    settings = finetune_settings(project, TrainingChoice(steps=500, batch_size=2, network="tiny"))
    session.finetune("scratch", settings, validation_share=0, device="cpu")
    wait(session)
    session.set_role("p1", "test")
    session.resume(RUN)
    wait(session)
    assert len(session.problems) == 1
    assert "finetune-001" in session.problems[0]
    assert "p1" in session.problems[0]
    session.set_role("p1", "train")
    count = len(steps)
    session.resume(RUN)
    wait(session)
    assert len(steps) > count
    assert len(session.problems) == 1


@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_a_missing_scan_prevents_resuming_only_the_runs_that_used_it(session, tmp_path, kind):
    project = session.project
    for name in ("p2", "p3"):
        project.unmark(name, DONE)
    steps, files = [], tmp_path / "one"

    def stop_at_first_step(job, events):
        new = [event for event in events if isinstance(event, Step)]
        steps.extend(new)
        if new:
            job.stop()

    session.job_events.connect(stop_at_first_step)
    (files / "p2.nii.gz").rename(files / "elsewhere")
    if kind == "finetune":
        choice = TrainingChoice(steps=500, batch_size=2, network="tiny", unlabelled=False)
        settings = finetune_settings(project, choice)
        session.finetune("scratch", settings, validation_share=0, device="cpu")
    else:
        settings = core.PretrainSettings(
            network=core.Network.preset("tiny"),
            training=core.Training(steps=500, batch_size=2),
            validation_share=0,
        )
        session.pretrain(core.MaskedPatches(), settings, device="cpu")
    wait(session)
    count = len(steps)
    assert count
    session.resume(f"{kind}-001")
    wait(session)
    assert session.problems == []
    assert len(steps) > count
    (files / "p2.nii.gz").hardlink_to(files / "elsewhere")
    (files / "p1.nii.gz").unlink()
    session.resume(f"{kind}-001")
    wait(session)
    (problem,) = session.problems
    assert f"{kind}-001" in problem
    assert "p1" in problem
    assert "missing" in problem


def test_the_kind_of_a_run_comes_from_its_record(session):
    """The name of its folder means nothing: users rename folders and copy them."""
    project = session.project
    started = []

    def stop_at_first_step(job, events):
        started.append((job.kind, job.folder.name))
        if any(isinstance(event, Step) for event in events):
            job.stop()

    session.job_events.connect(stop_at_first_step)
    settings = finetune_settings(project, TrainingChoice(steps=500, batch_size=2, network="tiny"))
    session.finetune("scratch", settings, validation_share=0, device="cpu")
    wait(session)
    runs = project.folder / "runs"
    for name in ("liver, first try", "pretrain-liver"):
        (runs / RUN).rename(runs / name)
        session.look_for_runs()
        wait(session)
        assert run_lines(session.runs, "pretrain") == []
        (line,) = run_lines(session.runs, "finetune")
        assert (line.name, line.resumable) == (name, True)
        started.clear()
        session.resume(name)
        wait(session)
        assert session.problems == []
        assert set(started) == {("finetune", name)}
        (runs / name).rename(runs / RUN)


def test_the_verdict_names_done_scans_that_can_still_be_predicted(session):
    finetune(session.project, ("p0", "p1"))
    session.project.unmark("p3", session.project.done("p3"))
    session.predictions.make([RUN], ["p0"])
    wait(session)
    assert "predict p2, not used for training" in score_sheet(session.predictions, RUN).verdict
    session.predictions.make([RUN], ["p2"])
    wait(session)
    assert "Mean Dice on patients" in score_sheet(session.predictions, RUN).verdict


def test_a_record_is_read_once_for_the_score_sheet(session, monkeypatch):
    from napari_sslseg.gui.inspect import score_rows

    read = []

    def spy(project, run):
        read.append(run.folder.name)
        return scan_uses(project, run)

    finetune(session.project, ("p0", "p1"))
    monkeypatch.setattr(score_rows, "scan_uses", spy)
    assert score_sheet(session.predictions, RUN, RUN).rows == []
    assert read == []  # Nothing is scored yet.
    session.predictions.make([RUN], ["p3"])
    wait(session)
    sheet = score_sheet(session.predictions, RUN)
    assert sheet.rows
    assert "not used for training" in sheet.verdict
    assert read == [RUN]
