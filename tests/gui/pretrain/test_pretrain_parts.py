"""Parts of the pretraining panel, without a window."""

import json
import re
import sys
import threading
import time
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Step
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.runs.time_left import TimeLeft, duration, time_range
from napari_sslseg.core.samples.build import default_preprocessing, sample_size
from napari_sslseg.core.settings.networks import NETWORKS, named_network
from napari_sslseg.core.settings.pretext.context_patches import ContextRestoration
from napari_sslseg.core.settings.pretext.registry import TASKS, make_task
from napari_sslseg.core.settings.training import default_training
from napari_sslseg.gui.model import jobs
from napari_sslseg.gui.model.latest_request import LatestRequestWorker
from napari_sslseg.gui.model.run_lines import expected_step_seconds, run_lines
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.pretrain.methods import pretrain_methods
from napari_sslseg.gui.pretrain.plan import PretrainPlan
from napari_sslseg.gui.pretrain.preview_maker import PreviewMaker, PreviewRequest, pixel_size
from napari_sslseg.gui.pretrain.tiles import limits, outline, tiles, to_bytes
from napari_sslseg.gui.pretrain.training_data import (
    TrainingData,
    describe_pixels,
    training_data_of,
    training_sample_size,
)
from napari_sslseg.gui.text import format_number
from napari_sslseg.gui.widgets.curve_points import Curve
from patience import LIMIT
from small_scans import write_small_scans

FOUND = TrainingData(2, 2, 48, ("MR",), "axial")


def wait_for(condition, seconds=LIMIT, pump=None):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        if pump is not None:
            pump()
        time.sleep(0.005)


# Worker that answers the latest request


def test_only_the_current_and_the_latest_request_are_processed():
    go, done = threading.Event(), []

    def work(number):
        go.wait(LIMIT)
        done.append(number)
        return number * 2

    latest = LatestRequestWorker(work)
    for number in range(50):
        latest.ask(number)
        if number == 0:
            wait_for(lambda: not latest._waiting)
    assert latest.busy
    assert latest.take() is None
    go.set()
    wait_for(lambda: len(done) == 2)
    wait_for(lambda: latest._answers)
    assert done == [0, 49]
    wait_for(
        lambda: (latest.take() or latest).__class__ is not LatestRequestWorker or not latest.busy
    )
    latest.ask(7)
    wait_for(lambda: latest._answers)
    assert latest.take().result == 14
    assert not latest.busy


def test_a_failed_request_gives_a_problem_and_the_next_one_works():
    def work(number):
        if number:
            raise {1: ConfigError("No."), 2: RuntimeError("odd")}[number]
        return "fine"

    latest, said = LatestRequestWorker(work), []
    for number in (1, 2, 0):
        latest.ask(number)
        wait_for(lambda: latest._answers)
        said.append(latest.take())
    assert said[0].problem.sentence == "No."
    assert isinstance(said[0].error, ConfigError)
    assert "RuntimeError" in said[1].problem.sentence
    assert said[2].result == "fine"


# Speed


def step(number, total=100, **costs):
    return Step(number, total, 1.0, 1e-3, 10.0, **costs)


def test_no_remaining_time_is_given_before_the_speed_is_known():
    now = [0.0]
    left = TimeLeft(lambda: now[0])
    assert left.remaining is None
    for number in range(1, 4):
        now[0] += 0.1
        left.update(step(number))
    assert left.remaining is None  # Too few seconds.
    for number in range(4, 21):
        now[0] += 0.1
        left.update(step(number))
    assert left.remaining == pytest.approx(8)
    now[0] += 1000  # A pause does not count.
    left.reset()
    assert left.remaining is None
    for number in range(21, 41):
        now[0] += 0.2
        left.update(step(number))
    assert left.remaining == pytest.approx(12)


def test_later_steps_that_take_longer_are_foreseen_and_measured():
    """Steps take 0.1 s, and from step 41 on 0.15 s, although twice as long is expected."""
    now = [0.0]
    left = TimeLeft(lambda: now[0])

    def train(numbers, seconds, cost):
        for number in numbers:
            now[0] += seconds
            rest = max(0, 40 - number) + 2 * (100 - max(number, 40))
            left.update(step(number, cost=cost, cost_left=rest))

    train(range(1, 21), 0.1, 1.0)
    assert left.remaining == pytest.approx(20 * 0.1 + 60 * 0.2)
    train(range(21, 41), 0.1, 1.0)
    train(range(41, 43), 0.15, 2.0)
    assert left.remaining == pytest.approx(58 * 0.2)  # Not measured yet.
    train(range(43, 61), 0.15, 2.0)
    assert left.remaining == pytest.approx(40 * 0.15)


def test_durations_are_written_in_words():
    said = [duration(s) for s in (3, 60, 200, 3500, 5400, 40_000)]
    assert said == [
        "less than a minute", "about 1 min", "about 3 min", "about 58 min", "about 1 h 30 min",
        "about 11 h",
    ]  # fmt: skip
    assert time_range(20, 50) == "less than a minute"
    assert time_range(180, 400) == "3 to 7 min"
    assert time_range(8000, 15000) == "2 to 4 h"


# Curves


def test_a_long_curve_keeps_its_last_points_and_extremes():
    curve = Curve()
    for step in range(30_000):
        curve.add(step, 100.0 if step == 25_000 else np.sin(step / 500))
    x, y = curve.points(1000)
    assert len(curve) == 10_000
    assert len(x) <= 1010
    assert x[0] == 20_000
    assert x[-1] == 29_999
    assert y.max() == 100
    assert (np.diff(x) > 0).all()


def test_a_logarithmic_curve_omits_values_that_are_not_positive():
    curve = Curve()
    for step, value in enumerate((3.0, 0.0, -1.0, np.nan, np.inf, 2.0)):
        curve.add(step, value)
    assert curve.points()[0].tolist() == [0, 1, 2, 5]
    assert curve.points(positive=True)[1].tolist() == [3, 2]
    assert [format_number(v) for v in (0.01234, 8046.2, 3.5)] == ["0.0123", "8,046", "3.5"]


# Pictures


def preview_of(**changes):
    rng = np.random.default_rng(0)
    original = rng.normal(size=(1, 3, 40, 30)).astype(np.float32)
    mask = np.zeros((1, 1, 40, 30), bool)
    mask[..., 10:20, 5:25] = True
    captions = {n: n for n in ("original", "corrupted", "mask", "restored", "error")}
    given = {
        "original": original, "corrupted": np.where(mask, 0, original), "mask": mask,
        "restored": original + 5, "error": np.full_like(original, 5), "captions": captions,
    }  # fmt: skip
    return PretextPreview(**given | changes)


def test_original_corrupted_and_restored_have_the_same_grey_scale():
    shown = {tile.name: tile for tile in tiles(preview_of(), (3.0, 1.5))}
    preview = preview_of()
    low, high = limits(preview.original[0, 0])
    for name in ("original", "corrupted", "restored"):
        values = to_bytes(getattr(preview, name)[0, 0], low, high)
        np.testing.assert_array_equal(shown[name].pixels[..., 0], values)
        assert shown[name].aspect == 2
        assert shown[name].bar is None
    assert (shown["restored"].pixels > 200).mean() > 0.9  # 5 more than the original is white.


def test_the_error_has_its_own_colour_map_and_scale():
    error = next(tile for tile in tiles(preview_of()) if tile.name == "error")
    assert error.limits == ("0", "5")
    assert error.bar.shape == (256, 3)
    # The brightness of the colours increases monotonically.
    light = error.bar @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light) > -1.5).all()
    assert error.pixels.reshape(-1, 3).tolist()[0] == error.bar[-1].tolist()


def test_the_mask_is_tinted_and_outlined():
    mask = preview_of().mask[0, 0]
    edge = outline(mask)
    assert edge.sum() == 2 * 20 + 2 * 8
    shown = next(tile for tile in tiles(preview_of()) if tile.name == "mask").pixels
    assert (shown[edge] == (230, 159, 0)).all()
    grey = shown[~mask]
    assert (grey == grey[:, :1]).all()


def test_views_and_a_matrix_of_similarities_are_shown():
    matrix = np.eye(4, dtype=np.float32)
    captions = {"original": "a", "corrupted": "b", "partner": "c"}
    shown = tiles(preview_of(
        captions=captions, partner=preview_of().original, restored=None, error=None, matrix=matrix,
        matrix_title="How\nalike",
    ))  # fmt: skip
    assert [tile.name for tile in shown] == ["original", "partner", "corrupted", "matrix"]
    assert shown[-1].limits == ("−1", "1")
    assert shown[-1].hint == "How alike"
    np.testing.assert_array_equal(shown[-1].pixels[0, 0], shown[-1].bar[255])


# Pretraining methods


def test_every_offered_method_can_be_previewed_and_started():
    volume, _ = core.make_patient(0, "MR", shape=(8, 64, 80))
    maker = PreviewMaker()
    for method in pretrain_methods():
        plan = PretrainPlan(method, network=None if method.preset else "tiny")
        assert plan.problem(FOUND) is None, method
        prepared = plan.prepared("MR", "axial")
        request = PreviewRequest(
            volume,
            3,
            plan.task_name(),
            plan.task_options("axial"),
            prepared,
            plan.network_settings(),
        )
        made = maker(request)
        names = [tile.name for tile in made]
        assert names[:1] == ["original"] or plan.task_name() == "polycl"
        if not method.preset:
            assert plan.task((64, 80)).kind == method.key
            assert plan.settings("MR", "axial").training.steps == 1000


def test_methods_that_need_masks_or_an_earlier_run_are_not_offered():
    keys = {method.key for method in pretrain_methods()}
    assert not keys & {"siamese", "polycl", "local-contrast", "polycl-o", "polycl-m"}
    assert not any("dhere" in key for key in keys)
    assert {"context-restoration", "umapathy-2022-contrastive", "polycl-s"} <= keys
    first = pretrain_methods()[0]
    assert (first.key, first.label) == (
        "context-restoration", "Restore swapped patches (recommended)",
    )  # fmt: skip
    assert all(method.about.endswith(".") for method in pretrain_methods())


def test_problems_of_a_plan_are_reported_before_the_start():
    by_key = {method.key: method for method in pretrain_methods()}
    mae, contrast = by_key["mae"], by_key["global-contrast"]
    assert "step 1" in PretrainPlan(mae).problem(TrainingData())
    assert "one modality" in PretrainPlan(mae).problem(replace(FOUND, modalities=("CT", "MR")))
    assert "axial" in PretrainPlan(mae, network="dense3d").problem(replace(FOUND, plane="coronal"))
    assert PretrainPlan(mae, network="dense3d").problem(FOUND) is None
    assert "global-contrast" in PretrainPlan(contrast, network="dense3d").problem(FOUND)
    polycl = PretrainPlan(by_key["polycl-s"], steps=None, network=None)
    assert "patients" in polycl.problem(replace(FOUND, subjects=1))


def test_steps_network_and_plane_apply_to_all_stages_of_a_preset():
    method = next(m for m in pretrain_methods() if m.key == "umapathy-2022-contrastive")
    preset = PretrainPlan(method, steps=7, network="tiny", training={"batch_size": 4}).preset(
        "coronal"
    )
    assert [stage.settings.training.steps for stage in preset.stages] == [7, 7]
    assert {stage.settings.training.batch_size for stage in preset.stages} == {4}
    assert preset.network.widths == (8, 16, 32)
    assert preset.mr.plane == "coronal"
    assert PretrainPlan(method, steps=None, network=None).preset("axial").network.kind == "umapathy"


def test_the_preview_equals_that_of_the_training():
    """Preprocessing and corruption are the same in a store of the training and in the preview."""
    import torch

    from napari_sslseg.core.samples.slices import SliceStore

    volume, _ = core.make_patient(1, "CT", shape=(8, 64, 64))
    settings = default_preprocessing("CT", 2)
    store = SliceStore.build([volume], settings)
    task = make_task("context-restoration", store.size, n_masks=4).build(store.size, 0)
    drawn = task.sample(1, torch.Generator().manual_seed(0))
    expected = tiles(task.preview(store.batch(np.array([5])), drawn), pixel_size(volume, settings))
    shown = PreviewMaker()(PreviewRequest(volume, 5, preprocessing=settings))
    for one, other in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_the_preview_of_a_large_scan_shows_the_current_slice(monkeypatch):
    monkeypatch.setattr("napari_sslseg.gui.pretrain.preview_maker.MOST_VALUES", 1000)
    volume, _ = core.make_patient(1, "CT", shape=(64, 64, 64), spacing=(3.0, 5.6, 5.6))
    settings = default_preprocessing("CT", 2)  # standardised per slice, so cropping changes nothing
    maker, whole = PreviewMaker(), PreviewMaker()
    for index in (0, 30, 33, 63, 99):
        shown = maker(PreviewRequest(volume, index, preprocessing=settings))
        with monkeypatch.context() as patch:
            patch.setattr("napari_sslseg.gui.pretrain.preview_maker.MOST_VALUES", 10**9)
            expected = whole(PreviewRequest(volume, index, preprocessing=settings))
        np.testing.assert_array_equal(shown[1].pixels, expected[1].pixels)


# Patch size and batch size


def write_fine_scan(path):
    """Write slices of 512 x 512 pixels of 0.5 mm: 128 x 128 pixels at a spacing of 2 mm."""
    data = np.random.default_rng(0).integers(0, 200, (512, 512, 3)).astype(np.uint8)
    nib.save(nib.Nifti1Image(data, np.diag([0.5, 0.5, 3.0, 1.0])), path)


@pytest.mark.parametrize("spacing", ["keep", 2.0, "planned"])
@pytest.mark.parametrize("early", [False, True], ids=["spacing in the record", "early project"])
def test_the_patch_size_equals_that_of_the_command_line(tmp_path, spacing, early):
    write_fine_scan(tmp_path / "fine.nii.gz")
    settings = default_preprocessing("MR", 2).model_copy(update={"spacing": spacing})
    with Project.create(tmp_path / "project") as project:
        project.add_scans(tmp_path / "fine.nii.gz")
        if early:  # Projects of early versions contain no voxel sizes.
            project._folder.change_entry("fine", spacing=None)
        size = training_sample_size(project, settings)
        pixels = describe_pixels(project, settings)
    assert ("2 mm" in pixels) == (spacing == "planned")
    expected = sample_size([tmp_path / "fine.nii.gz"], settings)
    assert size == expected == ((512, 512) if spacing == "keep" else (128, 128))
    sides = {make_task("context-restoration", found).patch_size for found in (size, expected)}
    assert sides == ({32} if spacing == "keep" else {8})


def test_networks_of_volumes_have_the_batch_size_of_core():
    method = next(m for m in pretrain_methods() if m.key == "mae")
    for name in NETWORKS:
        plan, network = PretrainPlan(method, network=name), named_network(name)
        expected = default_training("pretrain", network.dimensions)
        assert plan.training_settings() == expected
        assert plan.settings("MR", "axial").training.batch_size == expected.batch_size
    assert PretrainPlan(method, network="dense3d").training_settings().batch_size == 2
    assert PretrainPlan(method, network="small").training_settings().batch_size == 16


def test_a_registered_task_is_offered(monkeypatch):
    class Toy(ContextRestoration):
        """Toy task."""

        title = "Toy title"
        about = "Toy task."

    monkeypatch.setitem(TASKS, "toy", Toy)
    (method,) = [m for m in pretrain_methods() if m.key == "toy"]
    assert (method.label, method.about) == ("Toy title", "Toy task.")


# Runs


@pytest.fixture
def session(tmp_path):
    scans = write_small_scans(tmp_path / "data", 2)
    session, problems = Session(), []
    session.problem.connect(problems.append)
    session.problems = problems
    assert session.create(tmp_path / "project")
    session.add([scans])
    wait_for(lambda: not session.jobs, pump=session.pump)
    yield session
    session.close()


def test_a_preset_of_two_stages_is_stopped_and_resumed(session, monkeypatch):
    monkeypatch.setattr(jobs, "PROGRESS_SECONDS", 0.0)  # Each step is reported immediately.
    method = next(m for m in pretrain_methods() if m.key == "umapathy-2022-contrastive")
    training = {"batch_size": 4, "checkpoint_seconds": 0.01, "checkpoint_share": 1.0}
    plan = PretrainPlan(method, steps=6, network="tiny", training=training)
    assert training_data_of(session.project).slices == 24
    size = training_sample_size(session.project, plan.prepared("MR", "axial"))
    assert size == (48, 48)
    steps = []

    def stop_at_second_step(job, events):
        steps.extend(e for e in events if isinstance(e, Step))
        if len(steps) == 2:
            job.stop()

    session.job_events.connect(stop_at_second_step)
    session.pretrain_preset(plan.preset("axial"), device="cpu")
    wait_for(lambda: not session.jobs, pump=session.pump)
    (line,) = run_lines(session.project.runs(), "pretrain")
    assert line.name == "pretrain-001"
    assert line.resumable
    assert "first stage" in line.text
    session.resume("pretrain-001")
    (line,) = run_lines(session.project.runs(), "pretrain", active="pretrain-001")
    assert "running" in line.text
    wait_for(lambda: not session.jobs, pump=session.pump)
    assert not session.problems
    (line,) = run_lines(session.project.runs(), "pretrain")
    assert (line.resumable, line.usable) == (False, True)
    assert line.text.startswith("pretrain-001, finished, 6 steps, loss ")
    network = plan.network_settings()
    assert expected_step_seconds(session.project, "global-contrast", network, 4) is None
    low, high = expected_step_seconds(session.project, "local-contrast", network, 4)
    assert 0 <= low <= high


def test_runs_are_described_with_status_steps_and_loss(session):
    def write(name, status, **sidecar):
        folder = session.project.folder / "runs" / name
        folder.mkdir(parents=True)
        record = {
            "format": 1, "kind": name.split("-")[0], "settings": {"training": {"steps": 1000}},
            "task": {"kind": "mae"}, "status": status,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(record))
        if sidecar:
            (folder / "last.json").write_text(json.dumps(sidecar))

    write("pretrain-001", "finished", step=1000, metrics={"loss": 0.01234})
    write("pretrain-002", "running", step=120, metrics={"loss": 0.5})
    write("pretrain-003", "stopped")
    write("finetune-001", "stopped")
    (session.project.folder / "runs/pretrain-004").mkdir()
    (session.project.folder / "runs/pretrain-004/run.json").write_text("{")
    lines = run_lines(session.project.runs(), "pretrain")
    assert [line.text for line in lines] == [
        "pretrain-001, finished, 1,000 steps, loss 0.0123",
        "pretrain-002, interrupted, step 120 of 1,000, loss 0.5",
        "pretrain-003, stopped, step 0 of 1,000",
        "pretrain-004, cannot be used",
    ]
    assert [line.resumable for line in lines] == [False, True, True, False]


def test_the_device_is_described_with_its_free_memory():
    from napari_sslseg.gui.pretrain.run_estimate import describe_device

    found = describe_device("cpu")
    assert found.devices[:2] == ("auto", "cpu")
    assert found.description.startswith("Runs on the CPU (")
    if sys.platform == "linux":
        free = float(re.search(r", ([\d.]+) GB of memory free\)", found.description)[1])
        assert 0 < free < 100_000
