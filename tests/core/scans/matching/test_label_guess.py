"""Label maps are distinguished from scans, on phantoms and real files."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.matching.label_guess import has_label_values, looks_like_labels
from napari_sslseg.core.scans.matching.label_names import count_matching_parts, has_label_name
from napari_sslseg.core.scans.volume import Volume, load_volume


def volume(data, name):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    geometry = Geometry(affine, data.shape[::-1])
    return Volume(data, geometry, name=name)


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_phantoms(modality):
    scan, labels = make_patient(0, modality)
    assert not looks_like_labels(scan)
    assert looks_like_labels(labels)


def test_an_eight_bit_scan_is_not_a_label_map():
    scan, _ = make_patient(0, "MR")
    few = np.clip(scan.data / scan.data.max() * 255, 0, 255).astype(np.uint8)
    assert len(np.unique(few)) <= 256
    assert not has_label_values(few)
    assert not has_label_values(few, named=True)


def test_whole_floats_are_labels_and_fractions_are_not():
    _, labels = make_patient(0, "MR")
    assert has_label_values(labels.data.astype(np.float32))
    soft = labels.data.astype(np.float32)
    soft[soft > 0] -= 0.25
    assert not has_label_values(soft)
    below = labels.data.astype(np.int16)
    below[0, 0, 0] = -1
    assert not has_label_values(below)


def test_marked_points_and_empty_maps_are_labels():
    points = np.zeros((5, 8, 8), np.uint8)
    assert has_label_values(points)
    points[1, 2, 3], points[3, 6, 6] = 4, 5
    assert has_label_values(points)


def test_a_name_decides_only_if_the_values_are_ambiguous():
    random = np.random.default_rng(0)
    grey = random.integers(1, 200, (6, 60, 60))
    # Two neighbours are equal if neither was changed: at a fraction of 0.806 squared.
    between = np.where(random.random(grey.shape) < 0.806, 5, grey).astype(np.uint8)
    assert not looks_like_labels(volume(between, "liver"))
    assert not looks_like_labels(volume(between, "gtx-liver"))
    for name in ("liver_seg", "liver-label", "mask", "sub-01_desc-manual_dseg", "ct_msk_2"):
        assert looks_like_labels(volume(between, name)), name
    assert not looks_like_labels(volume(grey.astype(np.uint8), "liver_seg"))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("a/x_labels.nii.gz", True),
        ("a/hnsegmentation.nii.gz", True),
        ("labelsTr/x.nii.gz", True),
        ("segmentations/x.nrrd", True),
        ("a/kidney_left.nii.gz", True),
        ("imagesTr/hippocampus_017.nii.gz", False),
        ("unlabelled/x.nii.gz", False),
        ("a/heart_2.nii.gz", False),
        ("seg/images/x.nii.gz", False),
    ],
)
def test_names_of_files_and_folders(path, named):
    assert has_label_name(Path("/data") / path) == named


@pytest.mark.parametrize(
    ("labels", "scan", "parts"),
    [
        ("hippocampus_017_labels", "hippocampus_017", 2),
        ("hippocampus_017", "hippocampus_017", 2),
        ("seg-hippocampus_017", "Hippocampus_017", 2),
        ("liver_3", "liver_3_0000", 2),
        ("t2_seg-manual", "t2", 1),
        ("knee_1_2_seg", "knee_1", 0),
        ("knee_12_seg", "knee_1", 0),
        ("labels", "knee_1", 0),
        ("mask_01_seg", "mask_01", 2),
    ],
)
def test_label_names_match_the_names_of_their_scans(labels, scan, parts):
    assert count_matching_parts(labels, scan) == parts


REAL_SCANS = (
    "msd_hippocampus/images",
    "sunnybrook_lv/images",
    "totalsegmentator_ct_mr/tests/reference_files/example_ct.nii.gz",
    "totalsegmentator_ct_mr/tests/reference_files/example_mr_sm.nii.gz",
    "tptbox_vertebra/TPTBox/tests/sample_ct/sub-ct_label-22_ct.nii.gz",
    "tptbox_vertebra/TPTBox/tests/sample_mri/sub-mri_label-6_T2w.nii.gz",
    "nifti_nrrd_mha/sct_testing_mr/t2/t2.nii.gz",
    "nifti_nrrd_mha/sct_testing_mr/t2s/t2s_uncropped.nii.gz",
    # Fractions of grey and white matter, not classes.
    "nifti_nrrd_mha/sct_testing_mr/mt/mt1_gmseg.nii.gz",
)
REAL_LABELS = (
    "msd_hippocampus/labels",
    "sunnybrook_lv/labels",
    "totalsegmentator_ct_mr/tests/reference_files/example_seg.nii.gz",
    "totalsegmentator_ct_mr/tests/reference_files/example_seg_fast",
    "tptbox_vertebra/TPTBox/tests/sample_ct/sub-ct_seg-vert_label-22_msk.nii.gz",
    "tptbox_vertebra/TPTBox/tests/sample_mri/sub-mri_seg-subreg_label-6_msk.nii.gz",
    "nifti_nrrd_mha/sct_testing_mr/t2/t2_seg-manual_labeled.nii.gz",
    "nifti_nrrd_mha/sct_testing_mr/t2/labels.nii.gz",
    "nifti_nrrd_mha/sct_testing_mr/t2s/MNI-Poly-AMU_level_crop.nii.gz",
    "nifti_nrrd_mha/innereye/Tests/ML/test_data/dicom_series_data/hnsegmentation.nii.gz",
)


@pytest.mark.parametrize(
    ("path", "labels"),
    [*((path, False) for path in REAL_SCANS), *((path, True) for path in REAL_LABELS)],
)
def test_real_files(data_dir, path, labels):
    with warnings.catch_warnings(action="ignore"):
        found = list_series(data_dir / path)[:40]
        wrong = [item.name for item in found if looks_like_labels(load_volume(item)) != labels]
    assert found
    assert not wrong
