"""Run folders and a project that the version before wrote open, resume and predict.

The folders were written by ``tests/data/version-before/make.py`` under that version. Resumed
weights are compared with an uninterrupted run of this version; the tolerance is for processors
whose float32 operations round differently.
"""

import importlib.util
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_sslseg import core
from paths import ROOT

BEFORE = ROOT / "tests" / "data" / "version-before"
SPEC = importlib.util.spec_from_file_location("make_version_before", BEFORE / "make.py")
make = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def before(tmp_path):
    """A copy of all folders that a test may change."""
    return shutil.copytree(BEFORE, tmp_path / "copy")


@pytest.fixture
def scans(before):
    return core.list_series([before / "scans"])


@pytest.fixture
def labelled(before):
    return core.pair_scans(before / "scans", before / "labels")


def assert_same_weights(one, two):
    ours, theirs = load_file(one), load_file(two)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


def test_runs_are_listed(before):
    summaries = {run.name: run for run in core.list_runs(before / "runs")}
    assert {"pretrain", "finetune", "two-stages-2"} <= summaries.keys()
    assert all(run.problem is None for run in summaries.values())
    assert summaries["pretrain"].status == "finished"
    assert summaries["finetune"].status == "stopped"
    assert summaries["finetune"].scans == 4


def test_finished_pretraining_starts_a_finetuning(before, labelled, tmp_path):
    pretraining = core.Run.open(before / "runs" / "pretrain")
    assert pretraining.task() == core.ContextRestoration(patch_size=8)
    assert len(pretraining.metrics()) == 12
    *_, done = make.iter_finetune(labelled, pretraining, tmp_path / "out")
    assert done.result.record["status"] == "finished"
    assert done.result.record["transfer"]["copied"]


def test_stopped_finetuning_resumes_and_predicts(before, labelled, tmp_path):
    run = core.finetune(labelled, out=before / "runs" / "finetune", resume=True, device="cpu")
    assert run.record["status"] == "finished"
    assert run.metrics()[-1]["step"] == 12
    *_, _ = make.iter_finetune(labelled, before / "runs" / "pretrain", tmp_path / "whole")
    for name in ("last", "best"):
        assert_same_weights(
            run.folder / f"{name}.safetensors", tmp_path / "whole" / f"{name}.safetensors"
        )
    scan = core.load_volume(labelled[0].scan)
    prediction = core.predict(run, scan, device="cpu")
    assert prediction.labels.shape == scan.data.shape
    assert prediction.classes == (7,)


@pytest.mark.parametrize("stage", [1, 2])
def test_two_stages_resume_from_either(before, scans, tmp_path, stage):
    out = before / "runs" / f"two-stages-{stage}"
    run = core.pretrain_preset(scans, out=out, resume=True, device="cpu")
    assert run.record["status"] == "finished"
    *_, _ = make.iter_two_stages(scans, tmp_path / "whole")
    for folder in ("first-stage", "."):
        assert_same_weights(
            out / folder / "last.safetensors", tmp_path / "whole" / folder / "last.safetensors"
        )


def test_project_opens_with_scans_labels_and_runs(before):
    with core.Project.open(before / "project") as project:
        names = [f"patient_{number}" for number in range(4)]
        assert list(project.names) == names
        assert not project.problems()
        assert project.scan_path(names[0]) == before / "scans" / "patient_0.nii.gz"
        assert [project.entry(name).role for name in names] == ["train"] * 3 + ["test"]
        assert project.class_names == {7: "lesion", 2: "organ"}
        assert project.classes[0].colour == "#123456"
        assert project.recall("network") == "tiny"
        assert project.plane == "axial"
        assert project.done(names[0]) == (1, 2, 3, 4)
        assert project.done(names[1]) == (2, 3, 4)
        assert project.done(names[3]) == ()
        assert project.accepted(names[2]) == {"finetune-001": (2, 3)}
        drawn = core.load_labels(before / "labels" / "patient_0.nii.gz").data
        assert np.array_equal(project.labels(names[0]).data, drawn)
        assert project.has_labels(names[2])
        assert not project.has_labels(names[3])
        assert {scan.name for scan in project.labelled_scans()} == set(names[:2])
        (summary,) = project.runs()
        assert (summary.name, summary.status) == ("finetune-001", "finished")
        prediction = core.predict(summary.folder, project.load(names[3]), device="cpu")
        assert prediction.classes == (7,)


def test_project_can_be_changed_and_opened_again(before):
    with core.Project.open(before / "project") as project:
        project.mark_done("patient_3", [0, 5])
        assert project.new_run_folder("finetune").name == "finetune-002"
    with core.Project.open(before / "project") as project:
        assert project.done("patient_3") == (0, 5)
        assert len(project.names) == 4
