"""The label-efficiency benchmark from the command line, on phantoms."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from efficiency.rows import read_rows
from napari_sslseg.core.label_maps import save_labels
from napari_sslseg.core.nifti import write_nifti
from napari_sslseg.core.phantom import PHANTOM_CLASSES, make_patient

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "label_efficiency.py"
ARMS = ("scratch", "mae/encoder", "consistency", "monai-loop")


@pytest.fixture
def phantoms(tmp_path):
    """Four patients, a second data set whose labels are missing, and the file of splits."""
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


def test_cells_run_once_and_one_that_fails_stops_no_other(phantoms):
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
    assert "the test subjects have been looked at" in second.stdout
    assert "1 cells failed: broken, scratch" in second.stdout
    assert "DataError" in second.stderr
    assert read_rows(phantoms / "rows.jsonl") == rows

    shown = bench(phantoms, "table", "--part", "test")
    assert shown.stdout.count("| phantoms | 1 | ") == len(ARMS)


@pytest.mark.skipif(find_spec("nnunetv2") is None, reason="needs nnunetv2 (extra bench)")
def test_nnunet_trains_on_one_subject_and_labels_the_scans_of_others(phantoms):
    asked = ("--part", "test", "--labelled", "1", "--draws", "1", "--jobs", "1")
    result = bench(phantoms, "run", *asked, "--datasets", "phantoms", "--arms", "nnunet")
    assert result.returncode == 0, result.stderr
    # Nothing of what nnU-Net prints.
    assert re.fullmatch(r"\[1/1\] phantoms, nnunet, .*: Dice [\d.]+, .*\n", result.stdout)
    (row,) = read_rows(phantoms / "rows.jsonl")
    assert row["arm"] == "nnunet"
    assert len(row["subjects"]) == 1
    (score,) = row["scores"].values()
    assert set(score["dice"]) == set(map(str, PHANTOM_CLASSES))
    # Its folders are those of the cell, which go with it.
    assert not list((phantoms / "out/work").iterdir())
