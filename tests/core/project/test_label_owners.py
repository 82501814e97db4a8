"""Label maps and single slices are not added as scans; label maps are assigned to their scan."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg.core.common.events import Message
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.scans.labels import save_labels

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
OTHER = np.diag([-2.0, -2.0, 4.0, 1.0])
SHAPE = (12, 10, 6)


def write(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def grey(path, seed=0, shape=SHAPE, affine=AFFINE):
    values = np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
    return write(path, values, affine)


def binary(path, size=4, affine=AFFINE, shape=SHAPE):
    """Write a block of ones."""
    values = np.zeros(shape, np.uint8)
    values[2 : 2 + size, 2:7] = 1
    return write(path, values, affine)


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "project") as project:
        yield project


def problems(found):
    return {path.name: sentence for path, sentence in found.problems}


def owners(found):
    return {path.name: scan for path, scan in found.labels}


def test_labels_listed_before_their_scan_are_reported_with_its_name(project, tmp_path):
    labels = binary(tmp_path / "x" / "knee_01_labels.nii.gz")
    scan = grey(tmp_path / "x" / "knee_01.nii.gz")
    found = project.add_scans([labels, scan])
    assert found.added == ("knee_01",)
    assert owners(found) == {labels.name: "knee_01"}
    (sentence,) = problems(found).values()
    assert str(labels) in sentence
    assert "knee_01." in sentence
    assert not project.has_labels("knee_01")
    # The labels can be imported for this scan.
    assert project.import_labels("knee_01", labels)


def test_labels_in_a_folder_next_to_the_images_are_assigned(project, tmp_path):
    for seed in range(3):
        grey(tmp_path / "imagesTr" / f"liver_{seed}_0000.nii.gz", seed)
        binary(tmp_path / "labelsTr" / f"liver_{seed}.nii.gz", 2 + seed)
    found = project.add_scans([tmp_path / "labelsTr", tmp_path / "imagesTr"])
    assert found.added == ("liver_0_0000", "liver_1_0000", "liver_2_0000")
    assert owners(found) == {f"liver_{i}.nii.gz": f"liver_{i}_0000" for i in range(3)}


def test_labels_in_a_folder_per_patient_are_assigned(project, tmp_path):
    for seed, patient in enumerate(("p1", "p2")):
        grey(tmp_path / patient / "ct.nii.gz", seed)
        binary(tmp_path / patient / "seg.nii.gz", 2 + seed)
        binary(tmp_path / patient / "liver.nii.gz", 5 + seed)
    found = project.add_scans([tmp_path / "p1", tmp_path / "p2"])
    assert found.added == ("ct", "ct_2")
    whose = {str(path.relative_to(tmp_path)): scan for path, scan in found.labels}
    assert whose == {
        "p1/seg.nii.gz": "ct", "p1/liver.nii.gz": "ct",
        "p2/seg.nii.gz": "ct_2", "p2/liver.nii.gz": "ct_2",
    }  # fmt: skip


def test_labels_are_not_assigned_if_the_scan_is_ambiguous(project, tmp_path):
    grey(tmp_path / "knee_1.nii.gz", 1)
    other_grid = binary(tmp_path / "a" / "knee_1_seg.nii.gz", affine=OTHER)
    other_knee = binary(tmp_path / "a" / "knee_1_2_seg.nii.gz", 3)
    nobody = binary(tmp_path / "a" / "hip_mask.nii.gz", 5)
    found = project.add_scans([tmp_path / "knee_1.nii.gz", tmp_path / "a"])
    assert found.added == ("knee_1",)
    assert owners(found) == dict.fromkeys((other_grid.name, other_knee.name, nobody.name))
    assert "knee_1" not in problems(found)[nobody.name]


def test_names_common_to_all_patients_do_not_assign_labels_across_folders(project, tmp_path):
    grey(tmp_path / "p1" / "ct.nii.gz")
    binary(tmp_path / "p2" / "ct_seg.nii.gz")
    binary(tmp_path / "p2" / "labels.nii.gz", 3)
    grey(tmp_path / "images" / "liver_07.nii.gz", 7)
    binary(tmp_path / "export" / "of" / "liver_07_seg.nii.gz", 5)
    found = project.add_scans([tmp_path / folder for folder in ("p1", "p2", "images", "export/of")])
    assert found.added == ("ct", "liver_07")
    assert owners(found) == {
        "ct_seg.nii.gz": None,
        "labels.nii.gz": None,
        "liver_07_seg.nii.gz": "liver_07",
    }


def test_labels_without_a_hint_in_the_name_are_recognised_by_the_grid(project, tmp_path):
    scan = grey(tmp_path / "x" / "t2.nii.gz")
    same_folder = binary(tmp_path / "x" / "t2_centerline.nii.gz")
    other_name = binary(tmp_path / "y" / "nidus.nii.gz", 3)
    # The scan is in the same folder, but not in the project.
    found = project.add_scans(same_folder)
    assert not found.added
    assert owners(found) == {same_folder.name: None}
    found = project.add_scans([other_name, scan])
    assert found.added == ("t2",)
    assert owners(found) == {other_name.name: None}


def test_values_or_name_alone_do_not_identify_labels(project, tmp_path):
    folder = tmp_path / "x"
    balls = [binary(folder / f"ball{end}.nii.gz", 2 + i) for i, end in enumerate(("", "_b", "_c"))]
    named = grey(tmp_path / "labels" / "knee_seg_mask.nii.gz", 3, affine=OTHER)
    events = list(project.iter_add_scans([*balls, named]))
    found = events[-1].result
    assert sorted(found.added) == ["ball", "ball_b", "ball_c", "knee_seg_mask"]
    assert not found.problems
    notes = [event.text for event in events if isinstance(event, Message)]
    assert sum("looks like a label map" in note for note in notes) == 3


def test_a_single_slice_along_any_axis_is_left_out(project, tmp_path):
    for axis in range(3):
        shape = tuple(1 if i == axis else n for i, n in enumerate(SHAPE))
        grey(tmp_path / "x" / f"slice_{axis}.nii.gz", axis, shape)
    grey(tmp_path / "x" / "two.nii.gz", 5, (12, 10, 2))
    flat = binary(tmp_path / "y" / "flat.nii.gz", shape=(12, 10, 1))
    found = project.add_scans([tmp_path / "x", flat])
    assert found.added == ("two",)
    assert len(found.problems) == 4
    assert all("has only one slice" in sentence for sentence in problems(found).values())
    assert not found.labels


def test_labels_and_single_slices_are_added_on_request(project, tmp_path):
    grey(tmp_path / "x" / "knee.nii.gz")
    binary(tmp_path / "x" / "knee_seg.nii.gz")
    grey(tmp_path / "x" / "slice.nii.gz", 2, (12, 10, 1))
    found = project.add_scans(tmp_path / "x", anyway=True)
    assert found.added == ("knee", "knee_seg", "slice")
    assert not found.problems


def test_dicom_labels_are_assigned_to_the_series_that_they_refer_to(project, data_dir, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(data_dir / "dicom/mr_ge_papaya_20", tree / "mr")
    (name,) = project.add_scans(tree).added
    labels = project.labels(name).data
    labels[3, 20:40, 20:50] = 1
    seg = save_labels(labels, tree / "seg.dcm", like=project.load(name))
    shutil.copy(data_dir / "dicom/rt_utils/tests/mock_data/rt.dcm", tree / "rt.dcm")
    found = project.add_scans(tree)
    assert not found.added
    assert owners(found) == {seg.name: name, "rt.dcm": None}


def test_a_binary_dicom_ct_is_added_as_a_scan(project, data_dir):
    """The modality in the header decides, although the voxels are binary."""
    found = project.add_scans(data_dir / "dicom/qiicr_dcmqi/data/segmentations/23x38x3/image")
    assert len(found.added) == 1
    one = project.add_scans(data_dir / "dicom/highdicom/data/test_files/ct_image.dcm")
    assert not one.added
    assert "has only one slice" in one.problems[0][1]


def test_real_scans_are_added_and_real_labels_are_not(project, data_dir):
    images, labels = ("images", "labels")
    wanted = [
        *sorted((data_dir / "msd_hippocampus" / labels).iterdir())[:25],
        *sorted((data_dir / "msd_hippocampus" / images).iterdir())[:25],
        data_dir / "totalsegmentator_ct_mr/tests/reference_files/example_ct_sm.nii.gz",
        data_dir / "totalsegmentator_ct_mr/tests/reference_files/example_seg_fast",
        data_dir / "tptbox_vertebra/TPTBox/tests/sample_ct",
        data_dir / "nifti_nrrd_mha/sct_testing_mr/t2",
    ]
    found = project.add_scans(wanted)
    names = [path.name for path in wanted[25:50]]
    assert [f"{name}.nii.gz" for name in found.added[:25]] == names
    assert found.added[25:] == (
        "example_ct_sm",
        "sub-ct_label-22_ct",
        "t2",
        "t2_contrast_1_mean_ref",
        "t2_fake_lesion",
    )
    whose = owners(found)
    assert all(whose[name] == name.removesuffix(".nii.gz") for name in names)
    assert whose["kidney_left.nii.gz"] is None
    assert whose["t2_seg-manual.nii.gz"] == "t2"
    assert whose["t2_fake_lesion_sc_seg.nii.gz"] == "t2_fake_lesion"
    assert whose["sub-ct_seg-vert_label-22_msk.nii.gz"] == "sub-ct_label-22_ct"
