"""The label-efficiency benchmark from the command line, on phantoms."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from efficiency.rows import read_rows
from napari_sslseg.core.demo.phantom.patient import PHANTOM_CLASSES, make_patient
from napari_sslseg.core.results.evaluate import evaluate
from napari_sslseg.core.scans.formats.nifti import write_nifti
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.labels import save_labels
from paths import ROOT

BENCHMARK = ROOT / "benchmarks" / "label_efficiency.py"
ARMS = ("scratch", "mae/encoder", "self-training", "monai-loop")


@pytest.fixture
def phantoms(tmp_path):
    """Four patients, a second data set without labels, and the file of splits."""
    names = []
    for seed in range(4):
        scan, truth = make_patient(seed, "MR", (12, 48, 48), (16.0, 7.5, 7.5))
        names.append(f"patient_{seed}")
        for data in ("phantoms", "broken"):
            images = tmp_path / data / "images"
            images.mkdir(parents=True, exist_ok=True)
            source = scan.geometry.to_source(scan.data)
            path = images / f"{names[-1]}.nii.gz"
            write_nifti(source, scan.geometry, None, path)
        save_labels(truth.data, tmp_path / "phantoms/labels" / path.name, like=scan)
    (tmp_path / "broken/labels").mkdir()
    about = {
        "preprocessing": {"size": [48, 48]},
        "classes": list(PHANTOM_CLASSES),
        "training": names[:2],
        "validation": names[2:3],
        "test": names[3:],
    }
    (tmp_path / "splits.json").write_text(json.dumps({"broken": about, "phantoms": about}))
    return tmp_path


def bench(folder, command, *options):
    common = ["--data", folder, "--out", folder / "out", "--splits", folder / "splits.json"]
    common += ["--results", folder / "rows.jsonl", "--network", "tiny"]
    common += ["--steps", "2", "--pretrain-steps", "2"]
    words = [sys.executable, BENCHMARK, command, *common, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, env=environment, check=False
    )


def test_cells_run_once_and_a_failed_one_does_not_stop_the_others(phantoms):
    asked = ("--part", "test", "--labelled", "1", "--draws", "1", "--jobs", "1")
    first = bench(phantoms, "run", *asked, "--datasets", "phantoms", "--arms", *ARMS)
    assert first.returncode == 0, first.stderr
    rows = read_rows(phantoms / "rows.jsonl")
    assert [row["arm"] for row in rows] == list(ARMS[:1] + ARMS[2:3] + ARMS[1:2] + ARMS[3:])
    for row in rows:
        (subject,) = row["scores"]
        assert subject == "patient_3"
        assert 0 <= row["scores"][subject]["mean_dice"] <= 1
        assert set(row["scores"][subject]["dice"]) == set(map(str, PHANTOM_CLASSES))
        assert (row["seconds"]["pretraining"] > 0) == (row["arm"] == "mae/encoder")
    assert not list((phantoms / "out/work").iterdir())
    assert len(list((phantoms / "out/pretrained").glob("*.json"))) == 1

    second = bench(phantoms, "run", *asked, "--arms", "scratch")
    assert second.returncode == 1
    assert rows[0]["hash"] in second.stdout
    assert "1 cells failed" in second.stdout
    assert "broken, scratch" in second.stdout
    assert "DataError" in second.stderr
    assert read_rows(phantoms / "rows.jsonl") == rows

    shown = bench(phantoms, "table", "--part", "test")
    assert shown.stdout.count("| phantoms | 1 | ") == len(ARMS)


@pytest.mark.slow
def test_arms_that_differ_only_in_the_prediction_share_a_fine_tuning(phantoms):
    asked = ("--labelled", "1", "--draws", "1", "--jobs", "2", "--datasets", "phantoms")
    asked += ("--slices", "3")
    for part in ("validation", "test"):
        done = bench(phantoms, "run", *asked, "--part", part, "--arms", "scratch", "scratch+tta")
        assert done.returncode == 0, done.stderr
    (kept,) = (phantoms / "out/finetuned").glob("*.json")
    (run,) = (phantoms / "out/finetuned").glob("*/run.json")
    assert json.loads(run.read_text())["slices"]["training"] == 3
    rows = read_rows(phantoms / "rows.jsonl")
    assert sorted((row["part"], row["arm"]) for row in rows) == [
        (part, arm) for part in ("test", "validation") for arm in ("scratch", "scratch+tta")
    ]
    assert {row["seconds"]["finetuning"] for row in rows} == {
        round(json.loads(kept.read_text())["seconds"], 2)
    }
    parts = {(row["part"], row["arm"]): row["scores"] for row in rows}
    for part in ("validation", "test"):
        assert parts[part, "scratch"] != parts[part, "scratch+tta"]


def test_a_closed_pipe_is_not_an_error():
    """As with ``label_efficiency.py arms | head``."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, BENCHMARK, "arms"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(find_spec("nnunetv2") is None, reason="needs nnunetv2 (extra bench)")
def test_nnunet_trains_on_one_subject_and_labels_the_scans_of_others(phantoms):
    asked = ("--part", "test", "--labelled", "1", "--draws", "1", "--jobs", "1")
    result = bench(phantoms, "run", *asked, "--datasets", "phantoms", "--arms", "nnunet")
    assert result.returncode == 0, result.stderr
    # The output of nnU-Net is suppressed.
    assert re.fullmatch(r"\[1/1\] phantoms, nnunet, .*: Dice [\d.]+, .*\n", result.stdout)
    (row,) = read_rows(phantoms / "rows.jsonl")
    assert row["arm"] == "nnunet"
    assert len(row["subjects"]) == 1
    (score,) = row["scores"].values()
    assert set(score["dice"]) == set(map(str, PHANTOM_CLASSES))
    # Its folders are removed with that of the cell.
    assert not list((phantoms / "out/work").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nnunetv2") is None, reason="needs nnunetv2 (extra bench)")
def test_nnunet_predicts_the_classes_on_the_grid_of_the_scan(tmp_path):
    from efficiency.peers_nnunet import fit_nnunet

    scan, truth = make_patient(0, "MR", (12, 48, 40), (16.0, 7.5, 7.5))
    # Two large structures of different intensity, so that few steps suffice; the classes are
    # neither consecutive nor all values of the labels.
    labels = np.zeros_like(truth.data)
    labels[:, 4:30, 2:18], labels[2:, 12:44, 22:38], labels[:2, 12:44, 22:38] = 2, 5, 3
    values = np.random.default_rng(0).normal(size=labels.shape) + 20.0 * labels
    values[labels == 3] = 0
    scan = dataclasses.replace(scan, data=values.astype(np.float32))
    label = fit_nnunet(
        [LabelledScan(scan, dataclasses.replace(truth, data=labels))],
        (2, 5), steps=100, most_per_batch=2, seed=0, threads=1, device="cpu", folder=tmp_path,
    )  # fmt: skip
    found = label(scan)
    assert not [name for name in os.environ if name.startswith("nnUNet")]
    assert set(np.unique(found)) == {0, 2, 5}
    assert evaluate(found, labels, classes=(2, 5)).mean_dice > 0.7
