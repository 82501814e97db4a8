"""Predictions of a session without a window: cache, scores, export and report."""

import html
import json
import re
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sslseg import core
from napari_sslseg.core.common.errors import DataError, StorageError
from napari_sslseg.core.common.events import Message, PauseFlag, Preview, Progress, Step, StopFlag
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.project.record import with_changes
from napari_sslseg.core.results.predict import iter_predict_scan, load_segmenter
from napari_sslseg.gui.inspect.export_job import export, targets
from napari_sslseg.gui.inspect.report_job import report
from napari_sslseg.gui.inspect.score_rows import score_sheet
from napari_sslseg.gui.model.jobs import Job
from napari_sslseg.gui.model.run_descriptions import USE_WORDS, scan_uses, usable_runs
from napari_sslseg.gui.model.run_lines import run_lines
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.train import training_choice
from napari_sslseg.gui.train.training_choice import TrainingChoice, finetune_settings, refusal
from napari_sslseg.gui.viewer.live_prediction import LivePrediction
from napari_sslseg.gui.viewer.prediction_layers import PredictionLayers
from napari_sslseg.gui.viewer.scene import Scene
from patience import LIMIT
from scene_project import SHAPE, write_project

RUN = "finetune-001"


def wait(session, seconds=LIMIT):
    end = time.monotonic() + seconds
    while session.jobs:
        session.pump()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project of four scans with a short training; two slices of three are done."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "scans").mkdir()
    with core.Project.create(folder / "project") as project:
        for seed in range(4):
            scan, truth = make_patient(seed, "MR", (10, 48, 48), (16.0, 7.0, 7.0))
            source = np.ascontiguousarray(scan.geometry.to_source(scan.data))
            path = folder / "scans" / f"{scan.name}.nii.gz"
            nib.save(nib.Nifti1Image(source, scan.geometry.affine), path)
            project.add_scans(path)
            if seed < 3:
                project.save_labels(scan.name, np.where(truth.data <= 2, truth.data, 0))
                project.mark_done(scan.name, [3, 5])
        split = project.split_validation()
        choice = TrainingChoice(steps=3, batch_size=2, network="tiny")
        core.finetune(
            split.training,
            validation=split.validation,
            out=project.new_run_folder("finetune"),
            settings=finetune_settings(project, choice),
            device="cpu",
        )
    return folder / "project"


@pytest.fixture
def session(made, tmp_path):
    """A session with a copy of the project; the scans stay in their place."""
    folder = shutil.copytree(made, tmp_path / "project")
    session = Session()
    session.problems = []
    session.problem.connect(lambda problem: session.problems.append(problem.sentence))
    assert session.open(folder)
    yield session
    wait(session)
    session.close()


def test_memory_is_limited_and_scores_are_kept(session):
    predictions, names = session.predictions, session.project.names
    predictions.most_bytes = 2 * 10 * 48 * 48 * 3
    predictions.make([RUN], names)
    wait(session)
    assert session.problems == []
    kept = [name for name in names if predictions.get(RUN, name) is not None]
    assert kept == list(names[-2:])
    assert [row.scan for row in score_sheet(predictions, RUN).rows] != []
    assert all(predictions.scores(RUN, name) is not None for name in names)
    uses = scan_uses(session.project, core.Run.open(session.project.folder / "runs" / RUN))
    assert sorted(uses.values()) == ["training", "training", "unseen", "validation"]
    assert uses[names[3]] == "unseen"
    rows = [row for row in score_sheet(predictions, RUN).rows if row.slices]
    assert rows[0].use == "validation"
    assert rows[-1].use == "training"
    assert not any(row.stale for row in rows)
    assert "not used for training" in score_sheet(predictions, RUN).verdict
    # Changed labels make scores stale; cached predictions are scored again.
    labels = session.project.labels(names[2]).data
    labels[3] = 0
    session.project.save_labels(names[2], labels)
    assert any(row.stale for row in score_sheet(predictions, RUN).rows if row.scan == names[2])
    predictions.make([RUN], [names[2]])
    wait(session)
    assert not any(row.stale for row in score_sheet(predictions, RUN).rows)
    assert predictions.make([RUN], [names[2]]) is None


def test_predicted_scans_are_listed_with_their_volumes(session):
    predictions, names = session.predictions, session.project.names
    predictions.make([RUN], names)
    wait(session)
    rows = score_sheet(predictions, RUN).rows
    assert {row.scan for row in rows} == set(names)
    # Voxels of 16 × 7 × 7 mm are 0.784 ml.
    for name in (names[0], names[3]):
        labels = predictions.get(RUN, name).labels
        for value, structure in session.project.class_names.items():
            expected = np.count_nonzero(labels == value) * 0.784
            found = [row.ml for row in rows if (row.scan, row.structure) == (name, structure)]
            assert sum(found) == pytest.approx(expected)
    without = [row for row in rows if row.scan == names[3]]
    assert without == rows[-len(without) :]
    assert all(row.dice is None and not row.slices and row.use == "unseen" for row in without)
    uncertainty = predictions.scores(RUN, names[3]).mean_uncertainty
    assert {row.worst for row in without} == {int(np.argmax(uncertainty))}


def test_a_broken_scan_does_not_stop_the_other_predictions(session):
    names, problems = session.project.names, []
    session.problem.connect(lambda problem: problems.append(problem.sentence))
    path = Path(session.project.entry(names[0]).absolute)
    aside = path.rename(path.with_suffix(".aside"))
    try:
        session.predictions.make([RUN], names)
        wait(session)
    finally:
        aside.rename(path)
    assert session.predictions.get(RUN, names[0]) is None
    assert session.predictions.get(RUN, names[1]) is not None
    assert f"{len(names) - 1} of {len(names)} scans" in problems[0]
    assert "missing" in problems[0]


def test_a_prediction_is_stopped_between_scans(session):
    job = session.predictions.make([RUN], session.project.names)
    ends = []
    job.ended.connect(ends.append)
    job.stop()
    wait(session)
    assert ends[0].stopped


def test_run_lines_show_how_runs_ended(session):
    project = session.project
    assert [run.name for run in usable_runs(project.runs(), "finetune")] == [RUN]
    assert usable_runs(project.runs(), "pretrain") == []
    (line,) = run_lines(project.runs(), "finetune")
    assert not line.resumable
    assert f"{RUN}, finished" in line.text
    record = project.folder / "runs" / RUN / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"stopped"', 1))
    (line,) = run_lines(project.runs(), "finetune")
    assert line.resumable
    assert ", stopped, " in line.text
    (line,) = run_lines(project.runs(), "finetune", active=RUN)
    assert not line.resumable


def test_a_run_that_numbers_structures_differently_is_refused(session):
    """Such as one that was copied from another project."""
    project = session.project
    record = project.record
    names = {1: "spleen", 2: "liver"}
    classes = tuple(with_changes(item, name=names[item.value]) for item in record.classes)
    project.change(lambda _: with_changes(record, classes=classes))
    path = project.folder / "runs" / RUN / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_names": {"1": "liver"}}))
    problems = []
    session.problem.connect(lambda problem: problems.append(problem.sentence))
    session.predictions.make([RUN], project.names[:1])
    wait(session)
    assert session.predictions.get(RUN, project.names[0]) is None
    assert "liver as the value 1" in problems[0]
    project.change(lambda _: record)


def test_a_training_that_cannot_start_is_refused_with_a_reason(session, tmp_path, monkeypatch):
    assert "project" in refusal(Session(), TrainingChoice())
    assert refusal(session, TrainingChoice()) is None
    monkeypatch.setattr(training_choice, "LEAST_FREE", 2**62)
    assert "free some space" in refusal(session, TrainingChoice())
    monkeypatch.undo()
    assert "does not exist" in refusal(session, TrainingChoice(start="pretrain-009"))
    project = session.project
    record = project.record
    scans = (with_changes(record.scans[0], modality="CT"), *record.scans[1:])
    project.change(lambda _: with_changes(record, scans=scans))
    assert "MR and CT" in refusal(session, TrainingChoice())
    project.change(lambda _: record)
    for name in project.names:
        project.set_role(name, "test")
    assert "held out" in refusal(session, TrainingChoice())
    for name in project.names:
        project.unmark(name, [3, 5])
    assert "No slice is done" in refusal(session, TrainingChoice())
    empty = Session()
    assert empty.create(tmp_path / "empty")
    assert "no scan" in refusal(empty, TrainingChoice())
    empty.close()


def test_a_full_disk_is_reported_and_no_training_starts(session, monkeypatch):
    def full(*_):
        raise StorageError("Could not make a folder: No space left on device; free some space.")

    wait(session)
    monkeypatch.setattr(core.Project, "new_run_folder", full)
    settings = finetune_settings(session.project, TrainingChoice())
    assert session.finetune("scratch", settings) is None
    assert session.jobs == []
    assert "No space left" in session.problems[0]


def test_a_live_prediction_fills_only_its_slice(session):
    from napari_sslseg.core.common.example_pictures import SlicePrediction

    viewer = ViewerModel()
    scene = Scene(session, viewer)
    live = LivePrediction(session, scene)
    session.select(session.project.names[0])
    wait(session)
    assert session.watch.wanted[0] is session.volume
    before = scene.labels.data.copy()
    training = Job("finetune", "", lambda stop, pause: iter(()))

    def show(index, value, scan=session.current):
        labels, doubt = np.full((48, 48), value), np.zeros((48, 48), np.float32)
        picture = SlicePrediction(scan, "axial", index, labels, doubt)
        session.job_events.emit(training, [Preview(1, picture)])

    show(4, 1)
    layer = live.layer
    assert viewer.layers.index(layer) < viewer.layers.index(scene.labels)
    show(6, 2)
    assert live.layer is layer
    assert (layer.data[6] == 2).all()
    assert np.count_nonzero(layer.data) == 48 * 48
    show(2, 1, "another scan")
    show(99, 1)
    assert np.count_nonzero(layer.data) == 48 * 48
    # The user may remove the layer; the next preview adds it again.
    viewer.layers.remove(layer)
    show(3, 1)
    assert live.layer is not layer
    np.testing.assert_array_equal(scene.labels.data, before)
    session.jobs_changed.emit()  # No training is running.
    assert live.layer is None


def test_noise_at_the_begin_of_a_training_is_not_drawn(session):
    from napari_sslseg.core.common.example_pictures import SlicePrediction

    scene = Scene(session, ViewerModel())
    live = LivePrediction(session, scene)
    session.select(session.project.names[0])
    wait(session)
    noisy, certain = (np.full((48, 48), value, np.float32) for value in (0.8, 0.2))
    speckle = np.indices((48, 48)).sum(0) % 2

    def show(training, step, doubt, labels=speckle, total=100):
        picture = SlicePrediction(session.current, "axial", 4, labels, doubt)
        events = [Step(step, total, 1.0, 1e-3, 10.0), Preview(step, picture)]
        session.job_events.emit(training, events)
        return live.layer is not None and bool(live.layer.data.any())

    first, second = (Job("finetune", "", lambda stop, pause: iter(())) for _ in range(2))
    assert not show(first, 1, noisy)
    assert live.waiting
    assert not show(first, 2, certain, 0 * speckle)  # Nothing was found.
    assert not show(first, 3, noisy)
    assert show(first, 5, certain)
    assert not live.waiting
    assert show(first, 6, noisy)  # Such as on another slice.
    session.jobs_changed.emit()  # It has ended.
    assert not show(second, 2, noisy)
    assert show(second, 30, noisy)  # This network stays uncertain.
    assert show(second, 31, noisy)
    session.jobs_changed.emit()
    # A quarter of a very short training is not enough.
    assert not show(first, 5, noisy, total=12)
    assert not show(first, 12, noisy, total=12)
    assert show(second, 12, certain, total=12)


def test_structures_that_the_project_removed_are_not_scored_or_drawn(session, tmp_path):
    predictions, project = session.predictions, session.project
    scene = Scene(session, ViewerModel())
    name = project.names[0]
    session.select(name)
    wait(session)
    layers = PredictionLayers(session, scene)
    layers.first = RUN
    predictions.make([RUN], project.names[:3])
    wait(session)
    assert (predictions.get(RUN, name).labels == 2).any()
    kept, removed = project.class_names.values()
    assert removed in score_sheet(predictions, RUN).verdict.split("(")[0]
    project.remove_class(2, erase=True)
    session.classes_changed.emit()
    for again in (False, True):  # Predicted before and after it was removed.
        if again:
            predictions.clear()
            predictions.make([RUN], project.names[:3])
            wait(session)
        sheet = score_sheet(predictions, RUN)
        assert {row.structure for row in sheet.rows} == {kept}
        assert {row.scan for row in sheet.rows} == set(project.names[:3])
        assert removed not in sheet.verdict.split("(")[0]
        assert f"still predicts {removed}" in sheet.verdict
    assert set(predictions.scores(RUN, name).scores.volume.classes) == {1}
    (layer,) = scene.of_role("prediction")
    drawn = layer.colormap.map(np.array([1, 2]))
    assert drawn[0][3] > 0
    assert drawn[1][3] == 0


@pytest.mark.parametrize("ready", [True, False], ids=["predicted before", "predicted for it"])
def test_structures_that_the_project_removed_are_not_exported(session, tmp_path, ready):
    predictions, project = session.predictions, session.project
    names = project.names[:2]
    predictions.make([RUN], names)
    wait(session)
    shown = {name: predictions.get(RUN, name).labels for name in names}
    assert (shown[names[0]] == 2).any()
    kept, removed = project.class_names.values()
    project.remove_class(2, erase=True)
    if not ready:
        predictions.clear()
    files = targets(project, RUN, names, tmp_path / "out", ".nii.gz")
    job = session.run("export", "", export(session, RUN, files))
    heard = []
    job.new_events.connect(lambda events: heard.extend(e for e in events if is_message(e)))
    wait(session)
    assert session.problems == []
    for name, path in files.items():
        written = core.load_labels(path, like=project.load(name)).data
        np.testing.assert_array_equal(written, np.where(shown[name] == 1, 1, 0))
    assert core.read_segment_names(files[names[0]]) == {1: kept}
    assert sum(f"{RUN} still predicts {removed}" in event.text for event in heard) == 1


def is_message(event):
    return isinstance(event, Message)


def test_the_progress_of_a_prediction_counts_slices(session):
    job = session.predictions.make([RUN], session.project.names[:2])
    heard = []
    job.new_events.connect(lambda events: heard.extend(e for e in events if is_progress(e)))
    wait(session)
    assert {event.total for event in heard} == {20}
    counts = [event.done for event in heard]
    assert counts == sorted(counts)
    assert heard[-1].done == 20
    # A large scan is predicted in parts, after each of which it can be stopped.
    segmenter = load_segmenter(session.project.folder / "runs" / RUN)
    volume = session.project.load(session.project.names[0])
    parts = [*iter_predict_scan(segmenter, volume, batch_size=4)]
    assert [e.done / e.total for e in parts if is_progress(e)] == [0.4, 0.8, 1.0]
    np.testing.assert_array_equal(parts[-1].result.labels, core.predict(segmenter, volume).labels)


def is_progress(event):
    return isinstance(event, Progress)


def test_exports_never_replace_a_scan(session, tmp_path):
    project, name = session.project, session.project.names[0]
    scan = nib.load(project.entry(name).absolute)
    clash = tmp_path / "new" / f"{name}_labels.nii.gz"
    clash.parent.mkdir()
    nib.save(nib.Nifti1Image(scan.get_fdata() + 1, scan.affine), clash)
    project.add_scans(clash)
    before = clash.read_bytes()
    files = targets(project, "", [*project.names[1:3], name], clash.parent, ".nii.gz")
    session.run("export", "", export(session, "", files))
    wait(session)
    assert f"{clash} is a scan" in session.problems[0]
    assert clash.read_bytes() == before
    assert list(clash.parent.iterdir()) == [clash]  # The other scans are not written either.
    with pytest.raises(DataError, match="no labels to export"):
        targets(project, "", [project.names[3]], tmp_path, ".nii.gz")


def test_an_export_never_removes_names_that_another_process_wrote(session, tmp_path):
    project, name = session.project, session.project.names[0]
    files = targets(project, "", [name], tmp_path / "out", ".nii.gz")
    events = export(session, "", files)(StopFlag(), PauseFlag())
    next(events)
    grid = project.labels(name)
    other = core.save_labels(
        grid.data, tmp_path / "out/other.nii.gz", like=grid, classes={1: "prostate", 2: "bladder"}
    )
    with pytest.raises(StorageError, match="prostate"):
        list(events)
    assert core.read_segment_names(other) == {1: "prostate", 2: "bladder"}
    assert {path.name for path in other.parent.iterdir()} == {other.name, "classes.json"}
    # Before any work, if the folder had them before.
    with pytest.raises(StorageError, match="prostate"):
        next(export(session, "", files)(StopFlag(), PauseFlag()))


def test_a_scan_that_was_moved_with_its_project_is_not_replaced(tmp_path):
    write_project(tmp_path / "before", ("ann", "ann_labels"))
    folder = (tmp_path / "before").rename(tmp_path / "now")
    session, problems = Session(), []
    session.problem.connect(lambda problem: problems.append(problem.sentence))
    assert session.open(folder / "project")
    wait(session)
    session.project.save_labels("ann", np.ones(SHAPE, np.uint8))
    files = targets(session.project, "", ["ann"], folder, ".nii.gz")
    session.run("export", "", export(session, "", files))
    wait(session)
    assert f"{folder / 'ann_labels.nii.gz'} is a scan" in problems[0]
    session.close()


def test_a_report_is_one_page_without_links(session, tmp_path):
    project = session.project
    project.rename_class(1, "<script>")
    project.recolour_class(1, "#123456")
    for name in project.names[:2]:
        project.note_accepted(name, [3, 4], "finetune-009")
    page = tmp_path / "report.html"
    session.run("export", "", report(session, RUN, page))
    wait(session)
    assert session.problems == []
    text = page.read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "http" not in text
    assert text.count("data:image/png;base64") == 9
    assert "6 slices in 3 scans of 3 patients were scored" in text
    legend = r'style="background:#123456"></span>&lt;script&gt;</span>'
    assert re.search(legend, text)
    # The report contains the same texts as the window.
    session.predictions.make([RUN], project.names)
    wait(session)
    sheet = score_sheet(session.predictions, RUN)
    assert f"<p>{html.escape(sheet.verdict)}</p>" in text
    for row in (row for row in sheet.rows if row.slices):
        assert f"<td>{row.scan}</td><td>{html.escape(row.structure)}</td>" in text
        assert f'<td class="use">{USE_WORDS[row.use]}</td>' in text
        assert row.use in ("validation", "training")
        cells = rf"<td>{row.scan}</td>.*<td>{row.accepted.count} of {row.slices}</td></tr>"
        assert re.search(cells, text)
    assert {row.accepted.count for row in sheet.rows} == {0, 1}


def test_a_report_compares_two_runs(session, tmp_path):
    project = session.project
    folder = project.folder / "runs"
    shutil.copytree(folder / RUN, folder / "finetune-002")
    page = tmp_path / "report.html"
    session.run("export", "", report(session, RUN, page, "finetune-002"))
    wait(session)
    assert session.problems == []
    text = page.read_text()
    assert "<strong>Run A: finetune-001.</strong>" in text
    assert "<strong>Run B: finetune-002.</strong>" in text
    titles = re.findall(r"<th(?: [^>]*)?>(.*?)</th>", text)
    assert titles == [
        "Scan", "Structure", "Dice A", "Dice B", "HD95 A (mm)", "HD95 B (mm)",
        "Volume A (ml)", "Volume B (ml)", "Slices", "Used A", "Used B",
    ]  # fmt: skip
    session.predictions.make([RUN], project.names)
    wait(session)
    rows = re.findall(r"<tr><td>(.*)</td></tr>", text)
    shown = [re.split(r"</td><td[^>]*>", row) for row in rows]
    scored = [row for row in score_sheet(session.predictions, RUN).rows if row.slices]
    for row, cells in zip(scored, shown, strict=True):
        dice = "–" if row.dice is None else f"{row.dice:.3f}"
        assert cells[:4] == [row.scan, row.structure, dice, dice]
        assert cells[-2:] == [USE_WORDS[row.use]] * 2
    # Scan, labels, and the predictions of both runs.
    assert text.count("<figcaption>finetune-002</figcaption>") == 3
    assert text.count("data:image/png;base64") == 12


def test_an_exported_dicom_seg_contains_names_and_algorithm(data_dir, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    session = Session()
    session.create(tmp_path / "project")
    project = session.project
    project.add_scans(data_dir / "dicom/mr_ge_papaya_20")
    (name,) = project.names
    project.add_class("thalamus")
    labels = project.labels(name).data
    labels[4, 100:120, 100:120] = 1
    project.save_labels(name, labels)
    for remembered, kind in (
        ([], "MANUAL"), ([name], "SEMIAUTOMATIC"), (5, "MANUAL"), ([5, [1], name], "SEMIAUTOMATIC"),
    ):  # fmt: skip
        project.remember("accepted", remembered)
        files = targets(project, "", [name], tmp_path / "out", ".dcm")
        session.run("export", "", export(session, "", files))
        wait(session)
        (item,) = pydicom.dcmread(files[name]).SegmentSequence
        assert item.SegmentLabel == "thalamus"
        assert item.SegmentAlgorithmType == kind
    session.close()
