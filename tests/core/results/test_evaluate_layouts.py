"""The truth may lie in every folder that a training takes, and finds its predictions there."""

import json
import shutil
import warnings
from functools import partial

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from command_line import refused, run
from dicom_files import write_series
from named_labels import write_structures
from napari_sslseg import core
from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.scans.sources import with_masks

SHAPE = (16, 16, 4)
ROWS = {"liver": 2, "spleen": 8}


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0])), path)


def scan(path, seed=0):
    write(path, np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16))


def labels(path, *, moved=0, **values):
    """Write structures in rows of their own, with the given values."""
    data = np.zeros(SHAPE, np.uint8)
    for name, value in values.items():
        data[ROWS[name] + moved : ROWS[name] + moved + 4, 2:8] = value
    write(path, data)


def predictions(folder, names, classes=("liver", "spleen"), **options):
    for name in names:
        labels(folder / f"{name}.nii.gz", liver=1, spleen=2, **options)
    listed = {str(value): name for value, name in enumerate(classes, 1)}
    (folder / "classes.json").write_text(json.dumps(listed))
    return folder


def scored(*arguments):
    """Scores of the command line: Dice of each class by scan, and its notes."""
    done = run("evaluate", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {
        volume["name"]: {found["class_names"][c]: s["dice"] for c, s in volume["classes"].items()}
        for volume in found["volumes"]
    }, done.stderr


def organs(folder, patients, *, with_scans=True):
    for seed, (patient, present) in enumerate(patients.items()):
        if with_scans:
            scan(folder / patient / "ct.nii.gz", seed)
        for organ in present:
            labels(folder / patient / "segmentations" / f"{organ}.nii.gz", **{organ: 1})
    return folder


BOTH = {"liver": 1.0, "spleen": 1.0}


@pytest.mark.parametrize("with_scans", [True, False])
def test_one_file_per_organ(tmp_path, with_scans):
    patients = dict.fromkeys(("s0000", "s0001", "s0002"), ("liver", "spleen"))
    truth = organs(tmp_path / "truth", patients, with_scans=with_scans)
    found, _ = scored(predictions(tmp_path / "p", ("s0000_ct", "s0001_ct")), truth)
    assert found == {"s0000_ct": BOTH, "s0001_ct": BOTH}
    result = core.evaluate_folders(tmp_path / "p", truth)
    assert len(result.unpredicted) == 1
    assert "s0002" in result.unpredicted[0]


def test_predictions_of_one_file_per_organ(tmp_path):
    patients = dict.fromkeys(("s0000", "s0001"), ("liver", "spleen"))
    truth = organs(tmp_path / "truth", patients)
    only_labels = organs(tmp_path / "p", patients, with_scans=False)
    found, _ = scored(only_labels, truth)
    assert found == {"s0000_ct": BOTH, "s0001_ct": BOTH}
    found, _ = scored(only_labels, only_labels)
    assert found == {"s0000": BOTH, "s0001": BOTH}


def test_an_organ_without_a_file_is_not_scored_as_absent(tmp_path):
    truth = organs(tmp_path / "truth", {"s0": ("liver", "spleen"), "s1": ("liver",)})
    folder = predictions(tmp_path / "p", ("s0_ct", "s1_ct"))
    found, notes = scored(folder, truth)
    assert found == {"s0_ct": BOTH, "s1_ct": {"liver": 1.0, "spleen": None}}
    assert "spleen in 1 of 2 scans (s1_ct)" in notes
    said = tmp_path / "labelled.json"
    said.write_text(json.dumps({"s1_ct": ["liver", "spleen"]}))
    found, notes = scored(folder, truth, "--labelled-classes", said)
    assert found["s1_ct"] == {"liver": 1.0, "spleen": 0.0}
    assert "spleen in" not in notes


def test_classes_that_only_some_truths_have_are_said(tmp_path):
    for name, values in {"a": {"liver": 1, "spleen": 2}, "b": {"liver": 1}}.items():
        labels(tmp_path / "t" / f"{name}.nii.gz", **values)
        labels(tmp_path / "p" / f"{name}.nii.gz", liver=1, spleen=2)
    with pytest.warns(ScanWarning, match=r"class 2 in 1 of 2 scans \(b\)"):
        found = core.evaluate_folders(tmp_path / "p", tmp_path / "t")
    assert found.volumes[1].classes[2].dice == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        found = core.evaluate_folders(tmp_path / "p", tmp_path / "t", labelled_classes={"b": [1]})
    assert found.volumes[1].classes[2].dice is None


def test_scans_beside_their_labels_are_no_truth(tmp_path):
    for seed, name in enumerate(("p0", "p1")):
        scan(tmp_path / "data" / f"{name}.nii.gz", seed)
        labels(tmp_path / "data" / f"{name}_seg.nii.gz", liver=1, spleen=2)
    done = run(
        "evaluate", predictions(tmp_path / "p", ("p0", "p1"), ()), tmp_path / "data", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["classes"]) == {"1", "2"}
    assert json.loads(done.stdout)["mean_dice"] == 1


@pytest.mark.parametrize("names", [(), ("liver", "spleen")])
def test_scans_given_as_truth_are_refused(tmp_path, names):
    for seed, name in enumerate(("p0", "p1")):
        values = np.random.default_rng(seed).integers(0, 200, SHAPE).astype(np.uint8)
        write(tmp_path / "images" / f"{name}.nii.gz", values)
    folder = predictions(tmp_path / "p", ("p0", "p1"), names)
    if not names:
        (folder / "classes.json").unlink()
    done = run("evaluate", folder, tmp_path / "images")
    assert refused(done, "p0", "as a scan does")
    line = ("finetune", "--images", tmp_path / "images", "--labels", tmp_path / "copy")
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    done = run(*line, "--steps", 1, "--network", "tiny", "--out", tmp_path / "run")
    assert refused(done, "p0", "as a scan does")


def test_bids_with_several_sequences(tmp_path):
    root = tmp_path / "bids"
    for number in ("01", "02"):
        for end in ("T1w", "T2w"):
            scan(root / f"sub-{number}/anat/sub-{number}_{end}.nii.gz")
        labels(
            root / f"derivatives/labels/sub-{number}/anat/sub-{number}_dseg.nii.gz",
            liver=1,
            spleen=2,
        )
    folder = predictions(tmp_path / "p", ("sub-01_T1w", "sub-02_T1w"), ())
    for truth, more in ((root, ()), (root / "derivatives", ()), (root, ("--images", root))):
        done = run("evaluate", folder, truth, *more, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["mean_dice"] == 1
        assert {v["subject"] for v in found["volumes"]} == {"sub-01", "sub-02"}
        assert not found["unpredicted"]
    # Predictions of both sequences: one of them is chosen.
    predictions(folder, ("sub-01_T2w", "sub-02_T2w"), (), moved=1)
    (folder / "classes.json").unlink()
    assert refused(run("evaluate", folder, root), "--sequence")
    done = run("evaluate", folder, root, "--sequence", "t2w", "--json")
    assert json.loads(done.stdout)["mean_dice"] == 0.75


class TestDicom:
    """Patients in folders of their own, with a series and a structure set or segmentation."""

    @pytest.fixture(scope="class")
    def data(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("dicom")
        for number in range(2):
            write_patient(folder / "data" / f"case{number}", number)
        return folder / "data"

    @pytest.fixture(scope="class")
    def predicted(self, data):
        """Predictions with the names of their series, as NIfTI."""
        folder = data.parent / "p"
        for pair in core.pair_scans(data, data):
            volume, truth = pair.load()
            core.save_labels(truth.data, folder / f"{pair.name}.nii.gz", like=volume)
        (folder / "classes.json").write_text('{"1": "liver", "2": "spleen"}')
        return folder

    @pytest.mark.parametrize("where", ["beside", "alone", "with images"])
    def test_truth_of_patients_in_folders(self, data, predicted, where, tmp_path):
        more = ()
        truth = data
        if where != "beside":
            truth = tmp_path / "labels"
            for path in data.glob("*/RS"):
                (truth / path.parent.name).mkdir(parents=True)
                (truth / path.parent.name / "RS.dcm").write_bytes(path.read_bytes())
        if where == "with images":
            more = ("--images", data)
        found, _ = scored(predicted, truth, *more)
        assert list(found.values()) == [BOTH, BOTH]
        assert sorted(found) == sorted(item.name for item in core.list_series(data) if item.is_scan)

    def test_one_structure_set(self, data, predicted):
        series, *_ = (s for s in core.list_series(data / "case1") if s.is_scan)
        found, _ = scored(predicted / f"{series.name}.nii.gz", data / "case1" / "RS")
        assert list(found.values()) == [BOTH]
        # The patient of the other one is clear by the references.
        with pytest.warns(ScanWarning, match="1 of 2 predictions have no truth"):
            scores = core.evaluate_folders(predicted, data / "case1" / "RS")
        assert [volume.name for volume in scores.volumes] == [series.name]

    def test_one_structure_set_for_a_training(self, data):
        for images in (data / "case1" / "CT", data / "case1"):
            (pair,) = core.pair_scans(images, data / "case1" / "RS")
            assert sorted(pair.class_names.values()) == ["liver", "spleen"]
            assert pair.load()[1].data.any()

    def test_references_decide_between_series_of_a_patient(self, tmp_path):
        write_patient(tmp_path / "case0", 0)
        write_series(tmp_path / "case0" / "CT2", edit=partial(person, 0))
        (pair,) = core.pair_scans(tmp_path, tmp_path)
        assert pair.scan.files[0].parent.name == "CT"


def person(number, dataset, _=0):
    dataset.PatientID, dataset.PatientName = f"MRN-{number}", f"Patient^{number}"


def write_patient(folder, number):
    """Write a CT and a structure set that refers to it, without a suffix."""
    values = np.random.default_rng(number).integers(0, 900, (6, 32, 32)).astype(np.int16)
    files = write_series(folder / "CT", values, edit=partial(person, number))
    image = pydicom.dcmread(files[0])
    middle = np.array([float(v) for v in image.ImagePositionPatient])
    regions = []
    for number_, (name, row) in enumerate({"liver": 4, "spleen": 16}.items(), 1):
        corners = np.array([(2, row), (12, row), (12, row + 8), (2, row + 8)], float)
        points = np.zeros((4, 3))
        points[:, 0] = middle[0] + corners[:, 0] * 0.6
        points[:, 1] = middle[1] + corners[:, 1] * 0.8
        points[:, 2] = middle[2]
        regions.append((number_, name, [points]))
    path = write_structures(folder / "RS", regions)
    dataset = pydicom.dcmread(path)
    person(number, dataset)
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.save_as(path, enforce_file_format=True)


def test_masks_of_a_pretraining_lie_in_the_same_layouts(tmp_path):
    folder = organs(tmp_path / "data", dict.fromkeys(("s0", "s1"), ("liver", "spleen")))
    scans = with_masks(core.list_series(folder), folder)
    assert [sorted(scan.class_names.values()) for scan in scans] == [["liver", "spleen"]] * 2
    # One mask may be that of all sequences of a patient.
    for end in ("T1w", "T2w"):
        scan(tmp_path / "b" / f"sub-01_{end}.nii.gz")
    labels(tmp_path / "masks" / "sub-01_mask.nii.gz", liver=1)
    scans = with_masks(core.list_series(tmp_path / "b"), tmp_path / "masks")
    assert [scan.labels.name for scan in scans] == ["sub-01_mask.nii.gz"] * 2


@pytest.mark.parametrize("task", ["polycl", "siamese"])
def test_an_unknown_value_of_masks_is_no_organ(tmp_path, task):
    for number in range(2):
        scan(tmp_path / "images" / f"p{number}.nii.gz", number)
        labels(tmp_path / "masks" / f"p{number}.nii.gz", liver=1, spleen=255)
    more = ("--selection", "organ", "--network", "tiny")
    if task == "siamese":
        more = ("--crop", "16,16,16", "--size", "16,32,32", "--network", "dense3d")
    line = ("pretrain", tmp_path / "images", "--masks", tmp_path / "masks", "--task", task, *more)
    line += ("--out", tmp_path / "run", "--steps", 1, "--device", "cpu")
    assert refused(run(*line), "255", "--organ 1")
