"""Labels of another patient that fit into the scan are not taken for cropped labels."""

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg.core import (
    FinetuneSettings,
    LabelledScan,
    Network,
    Project,
    Training,
    evaluate,
    evaluate_folders,
    finetune,
    load_labels,
    pair_scans,
)
from napari_sslseg.core.common.errors import GeometryError, ScanWarning
from napari_sslseg.core.scans.matching.other_patient import relation_of_names
from napari_sslseg.core.scans.volume import load_volume

# As in public data sets: all scans have the same header but for their size.
AFFINE = np.array([[1.0, 0, 0, 1], [0, 1.0, 0, 1], [0, 0, 1.0, 1], [0, 0, 0, 1]])
SHAPE = (12, 14, 10)
SMALLER = (11, 12, 9)


def place(path, shape, affine=AFFINE, *, labels=True):
    path.parent.mkdir(exist_ok=True)
    values = np.zeros(shape, np.uint8 if labels else np.int16)
    values[3:6, 3:6, 3:6] = 1 if labels else 100
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def inside(start=2):
    affine = AFFINE.copy()
    affine[:3, 3] += start
    return affine


@pytest.fixture
def scan(tmp_path):
    return place(tmp_path / "images" / "case_001.nii.gz", SHAPE, labels=False)


@pytest.mark.parametrize("shape", [SMALLER, (13, 15, 11)], ids=["smaller", "larger"])
@pytest.mark.parametrize("name", ["case_003.nii.gz", "p7_seg.nii.gz"])
def test_another_patient_at_the_same_place_is_refused(tmp_path, scan, shape, name):
    labels = place(tmp_path / "labels" / name, shape)
    for like in (load_volume(scan, modality="MR"), LabelledScan(scan, labels).grid):
        with pytest.raises(GeometryError, match="another patient"):
            load_labels(labels, like=like)
    with pytest.raises(GeometryError, match="give them its name"):
        LabelledScan(scan, labels).load("MR")


def test_another_patient_is_refused_in_scores(tmp_path):
    prediction = place(tmp_path / "predictions" / "case_001.nii.gz", SHAPE)
    truth = place(tmp_path / "truth" / "case_003.nii.gz", SMALLER)
    with pytest.raises(GeometryError, match="another patient"):
        evaluate(prediction, truth)


@pytest.mark.parametrize(
    ("name", "affine", "doubtful"),
    [
        ("case_001_seg.nii.gz", inside(), False),
        ("liver.nii.gz", inside(), False),
        ("case_003.nii.gz", inside(), True),
        ("case_001.nii.gz", AFFINE, True),
        ("liver.nii.gz", AFFINE, True),
    ],
)
def test_labels_of_a_part_are_taken_and_doubts_said(tmp_path, scan, name, affine, doubtful):
    labels = place(tmp_path / "labels" / name, (8, 8, 7), affine)
    with pytest.warns(ScanWarning, match="only a part") as caught:
        found = load_labels(labels, like=load_volume(scan, modality="MR"))
    assert found.data.sum() == 27
    assert any("same patient" in str(one.message) for one in caught) == doubtful


def test_given_files_of_other_numbers_are_said_although_they_fit(tmp_path, scan):
    labels = place(tmp_path / "labels" / "case_003.nii.gz", SHAPE)
    with pytest.warns(ScanWarning, match="another one"):
        pair_scans(scan, labels)
    own = place(tmp_path / "labels" / "case_001.nii.gz", SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        pair_scans(scan, own)
        evaluate_folders(own, own)
    with pytest.warns(ScanWarning, match="another one"):
        evaluate_folders(own, labels)


def test_a_project_says_it_too(tmp_path, scan):
    fitting = place(tmp_path / "labels" / "case_003.nii.gz", SHAPE)
    smaller = place(tmp_path / "labels" / "case_004.nii.gz", SMALLER)
    with Project.create(tmp_path / "project") as project:
        project.add_scans([scan], modality="MR")
        (name,) = project.names
        with pytest.raises(GeometryError, match="another patient"):
            project.import_labels(name, smaller)
        with pytest.warns(ScanWarning, match="another one"):
            project.import_labels(name, fitting)


@pytest.mark.filterwarnings("ignore::napari_sslseg.core.ScanWarning")
@pytest.mark.parametrize(
    ("name", "shape", "affine", "doubtful"),
    [
        ("case_003.nii.gz", SHAPE, AFFINE, True),
        ("case_001.nii.gz", SMALLER, AFFINE, True),
        ("p7.nii.gz", (8, 8, 7), inside(), True),
        ("case_001.nii.gz", SHAPE, AFFINE, False),
        ("case_001.nii.gz", (8, 8, 7), inside(), False),
    ],
)
def test_the_run_records_doubts_about_the_patient(tmp_path, scan, name, shape, affine, doubtful):
    labels = place(tmp_path / "labels" / name, shape, affine)
    settings = FinetuneSettings(
        network=Network.preset("tiny"), training=Training(steps=1, batch_size=2)
    )
    run = finetune([LabelledScan(scan, labels)], out=tmp_path / "run", settings=settings)
    said = "another patient" in (run.folder / "events.jsonl").read_text()
    assert said == doubtful


@pytest.mark.parametrize(
    ("labels", "scan", "relation"),
    [
        ("case_001.nii.gz", "case_001", "same"),
        ("case_001_liver.nii.gz", "case_001_0000", "same"),
        ("labelsTr/BraTS_007_seg.nii.gz", "BraTS_007_t1", "same"),
        ("s0001/segmentations/liver.nii.gz", "ct", "unknown"),
        ("p3/segmentations/rater2.nii.gz", "p3", "same"),
        ("label0012.nii.gz", "img0012", "same"),
        ("label0013.nii.gz", "img0012", "other"),
        ("part.nii.gz", "scan", "unknown"),
        ("case_002-seg.nrrd", "case_001", "other number"),
    ],
)
def test_what_names_say(labels, scan, relation):
    assert relation_of_names(Path("/data") / labels, scan, None, scan) == relation


def test_the_folder_of_the_patient_speaks_for_the_pair():
    scan = Path("/data/images/s0001/ct.nii.gz")
    for labels in ("s0001/segmentations/roi_2.nii.gz", "s0001/roi_2.nii.gz"):
        assert relation_of_names(Path("/data/other") / labels, "ct", scan, "s0001") == "same"
