"""Classes are matched by name on the command line, or the table that is needed is printed."""

import json

import numpy as np
import pytest

from command_line import run
from named_labels import write_slicer
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.labels import load_labels, save_labels

SMALL = ((12, 48, 48), (16.0, 7.5, 7.5))
QUICK = ("--steps", 2, "--batch-size", 2, "--network", "tiny", "--device", "cpu", "--size", "48")
NAMES = {1: "liver", 2: "spleen"}


def only_two(labels, swap=False):
    """The two first organs, with their values exchanged if asked for."""
    table = np.zeros(256, np.uint8)
    table[[1, 2]] = (2, 1) if swap else (1, 2)
    return table[labels.data]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three patients; the labels of the second have the values exchanged, names tell."""
    folder = tmp_path_factory.mktemp("named")
    for number in range(3):
        scan, labels = make_patient(number, "MR", *SMALL)
        save_labels(np.maximum(scan.data, 0), folder / f"images/p{number}.nii.gz", like=scan)
        swap = number == 1
        names = {1: "Spleen ", 2: "LIVER"} if swap else NAMES
        write_slicer(folder / f"labels/p{number}.nrrd", only_two(labels, swap), scan, names)
        save_labels(only_two(labels, swap), folder / f"bare/p{number}.nii.gz", like=scan)
        save_labels(only_two(labels), folder / f"right/p{number}.nii.gz", like=scan)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "ft"
    done = run("finetune", "--images", data / "images", "--labels", data / "labels", "--out", out,
               *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 liver, 2 spleen" in done.stderr
    return out


def table_of(done):
    """The table that an error prints; checks the error."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    head = "file,value,name,class\n"
    assert head in done.stderr
    return done.stderr[done.stderr.index(head) :]


def test_a_run_records_its_classes(trained):
    opened = Run.open(trained)
    assert opened.class_names == NAMES
    assert opened.record["classes"] == [1, 2]
    values = {entry["name"]: entry["values"] for entry in opened.record["data"]}
    assert values["p0"] == {"1": 1, "2": 2}
    assert values["p1"] == {"1": 2, "2": 1}


def test_a_finished_run_is_resumed_with_its_classes(data, trained):
    command = ("finetune", "--images", data / "images", "--labels", data / "labels",
               "--out", trained, "--resume", "--device", "cpu")  # fmt: skip
    done = run(*command)
    assert done.returncode == 0, done.stderr
    done = run(*command, "--class-map", data / "map.csv")
    assert done.returncode == 2
    assert "class_map" in done.stderr or "class-map" in done.stderr


def test_predictions_have_the_names_of_the_run(data, trained, tmp_path):
    done = run("predict", trained, data / "images", "--out", tmp_path / "p", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "p/classes.json").read_text()) == {"1": "liver", "2": "spleen"}
    done = run("evaluate", tmp_path / "p", data / "labels", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["class_names"] == {"1": "liver", "2": "spleen"}
    (tmp_path / "p/classes.json").write_text('{"1": "spleen"}')
    done = run("predict", trained, data / "images/p0.nii.gz", "--out", tmp_path / "p",
               "--device", "cpu", "--overwrite")  # fmt: skip
    assert done.returncode == 2
    assert "other names" in done.stderr


def test_a_dicom_segmentation_gets_the_names_of_the_run(data_dir, tmp_path):
    """From real DICOM SEG files, the second of which has no spleen."""
    scans = data_dir / "field_cases/01-names-ignored-classes-mixed/seg"
    done = run("finetune", "--images", scans, "--labels", scans, "--out", tmp_path / "ft", *QUICK)
    assert done.returncode == 0, done.stderr
    done = run("predict", tmp_path / "ft", scans, "--out", tmp_path / "p", "--format", "dcm",
               "--device", "cpu")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "p").glob("*.dcm"):
        names = {segment.name: segment.code for segment in read_segments(path)}
        assert names == {
            "Liver": "SCT:10200004", "Kidney": "SCT:64033007", "Spleen": "SCT:78961009",
        }  # fmt: skip


def test_evaluate_matches_truth_by_name(data, tmp_path):
    for path in (data / "right").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "classes.json").write_text('\ufeff{"1": "Liver", "2": "spleen"}', encoding="utf-8")
    done = run("evaluate", tmp_path, data / "labels", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["mean_dice"] == 1
    assert [volume["mean_dice"] for volume in found["volumes"]] == [1, 1, 1]
    # Values alone would compare the liver of p1 with its spleen.
    done = run("evaluate", tmp_path / "p1.nii.gz", data / "labels/p1.nrrd")
    assert done.returncode == 0, done.stderr
    assert "1 Liver" in done.stdout
    assert "1.000" in done.stdout


def test_evaluate_without_names_on_one_side_asks_for_a_table(data, tmp_path):
    table = table_of(run("evaluate", data / "bare/p1.nii.gz", data / "labels/p1.nrrd"))
    assert table.splitlines()[1:] == [",1,,", ",2,,"]
    path = tmp_path / "map.csv"
    path.write_text(table.replace(",1,,", ",1,,spleen").replace(",2,,", ",2,,liver"))
    done = run("evaluate", data / "bare/p1.nii.gz", data / "labels/p1.nrrd", "--json",
               "--class-map", path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mean_dice"] == 1


def test_training_refuses_labels_without_names_beside_named_ones(data, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    for name in ("labels/p0.nrrd", "labels/p2.nrrd", "bare/p1.nii.gz"):
        (labels / name.split("/")[1]).write_bytes((data / name).read_bytes())
    command = ("finetune", "--images", data / "images", "--labels", labels,
               "--out", tmp_path / "run", *QUICK)  # fmt: skip
    done = run(*command)
    table = table_of(done)
    assert "p1" in done.stderr
    assert not (tmp_path / "run").exists()
    path = tmp_path / "map.csv"
    path.write_text(table)
    done = run(*command, "--class-map", path)
    assert done.returncode == 2
    assert "no class" in done.stderr
    path.write_text(table.replace(",1,,", ",1,,spleen").replace(",2,,", ",2,,liver"))
    done = run(*command, "--class-map", path)
    assert done.returncode == 0, done.stderr
    values = {entry["name"]: entry["values"] for entry in Run.open(tmp_path / "run").record["data"]}
    assert values["p1"] == {"1": 2, "2": 1}


def test_export_writes_the_classes_of_a_map(data, tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"Spleen": 7, "liver": None}))
    done = run("export", data / "labels/p1.nrrd", "--like", data / "images/p1.nii.gz",
               "--out", tmp_path / "out.nii.gz", "--class-map", path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = load_labels(data / "labels/p1.nrrd"), load_labels(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(after.data, np.where(before.data == 1, 7, 0))


def test_masks_of_pretraining_are_matched_by_name(data, tmp_path):
    """The organ is the liver in each mask, although its values differ."""

    def pretrain(name, masks, organ):
        done = run("pretrain", data / "images", "--out", tmp_path / name, "--task", "polycl",
                   "--selection", "organ", "--masks", masks, "--organ", organ, *QUICK)  # fmt: skip
        return done

    done = pretrain("a", data / "labels", "Liver")
    assert done.returncode == 0, done.stderr
    assert pretrain("b", data / "right", "1").returncode == 0
    slices = [Run.open(tmp_path / name).record["task"]["organ_slices"] for name in "ab"]
    assert slices[0] == slices[1]
    done = pretrain("c", data / "labels", "kidney")
    assert done.returncode == 2
    assert "liver" in done.stderr
