"""Labels of another phase or visit of a patient are not those of a scan."""

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import DataError


def write(folder, *names):
    folder.mkdir()
    for name in names:
        data = np.zeros((20, 22, 6), np.uint8)
        data[5:9, 5:9] = 1 if folder.name == "labels" else 7
        image = data if folder.name == "labels" else data + np.arange(6, dtype=np.float32)
        nib.save(nib.Nifti1Image(image, np.diag([1.0, 1.0, 4.0, 1.0])), folder / f"{name}.nii.gz")
    return folder


@pytest.mark.parametrize(
    ("scan", "labels"),
    [
        ("SC-HF-I-01_ED", "SC-HF-I-01_ES"),
        ("p1_baseline", "p1_followup"),
        ("p1_visit1", "p1_visit2_seg"),
        ("p1_pre", "p1_post"),
        ("p1_20200101", "p1_20210307"),
    ],
)
def test_labels_of_another_moment_do_not_fit(tmp_path, scan, labels):
    images, masks = write(tmp_path / "images", scan), write(tmp_path / "labels", labels)
    with pytest.raises(DataError, match=scan):
        core.pair_scans(images, masks)


@pytest.mark.parametrize(
    ("scan", "labels"),
    [("p1_ED", "p1_ED_seg"), ("p1_visit1", "p1"), ("p1_t1", "p1_seg"), ("p1_venous", "p1_portal")],
)
def test_labels_of_the_same_moment_or_of_none_fit(tmp_path, scan, labels):
    images, masks = write(tmp_path / "images", scan), write(tmp_path / "labels", labels)
    (pair,) = core.pair_scans(images, masks)
    assert pair.name == scan


def test_cropped_slices_are_said(tmp_path):
    scan = write(tmp_path / "images", "p1") / "p1.nii.gz"
    with pytest.warns(core.ScanWarning, match=r"1 of 1 scan are larger than 16 × 16"):
        core.SliceStore.build([scan], core.Preprocessing(size=(16, 16)))
