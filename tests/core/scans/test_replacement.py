"""Labels never replace a scan, nor a file that appears while they are written."""

import threading
from contextlib import nullcontext

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from command_line import refused, run
from dicom_files import write_series
from napari_sslseg import core
from napari_sslseg.core.common.atomic import atomic_path
from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.results.predict_files import iter_predict
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.volume import load_volume

SHAPE = (16, 16, 4)


def save_scan(path, seed, dtype=np.int16):
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(seed).normal(300, 90, SHAPE).astype(dtype)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


def labels_of(scan, value=1):
    labels = np.zeros(scan.data.shape, np.uint8)
    labels[1] = value
    return labels


def test_a_slice_of_a_dicom_series_is_never_replaced(tmp_path):
    for number in range(2):
        write_series(tmp_path / f"scans/{number}")
    (own,) = core.list_series(tmp_path / "scans/0")
    (other,) = core.list_series(tmp_path / "scans/1")
    scan = load_volume(own)
    for file in (own.files[0], other.files[2]):
        before = file.read_bytes()
        with pytest.raises(StorageError, match="is a scan"):
            save_labels(labels_of(scan), file, like=scan)
        assert file.read_bytes() == before
    for value in (1, 2):  # A segmentation is replaced.
        with pytest.raises(StorageError, match="exists") if value == 2 else nullcontext():
            save_labels(labels_of(scan, value), tmp_path / "seg.dcm", like=scan)
        path = save_labels(labels_of(scan, value), tmp_path / "seg.dcm", like=scan, overwrite=True)
    assert load_labels(path, like=scan).data.max() == 2


def test_an_export_never_replaces_a_scan(tmp_path):
    image = save_scan(tmp_path / "images/p0.nii.gz", 0)
    other = save_scan(tmp_path / "images/p1.nii.gz", 1)
    values = np.full(SHAPE, np.nan, np.float32)
    with_nan = tmp_path / "images/nan.nii.gz"
    nib.save(nib.Nifti1Image(values, np.eye(4)), with_nan)
    scan = load_volume(image)
    labels = save_labels(labels_of(scan), tmp_path / "p0.nrrd", like=scan, classes={1: "liver"})
    command = ("export", labels, "--like", image, "--overwrite", "--out")
    complex_values = tmp_path / "images/complex.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.complex64), np.eye(4)), complex_values)
    misnamed = tmp_path / "images/scan.mha"
    misnamed.write_bytes(other.read_bytes())
    text = tmp_path / "images/text.nii.gz"
    text.write_text("mine")
    for file in (other, with_nan, complex_values, misnamed, text):
        before = file.read_bytes()
        assert refused(run(*command, file), file.name)
        assert file.read_bytes() == before
    assert not (tmp_path / "images/classes.json").exists()
    assert run(*command, labels).returncode == 0


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha"])
def test_labels_that_look_like_noise_are_replaced_and_such_a_scan_is_not(tmp_path, suffix):
    """A network that has learnt little predicts noise; a DWI with a high b-value has few values."""
    image = save_scan(tmp_path / "images/p0.nii.gz", 0)
    scan = load_volume(image)
    noise = np.random.default_rng(0).integers(0, 24, SHAPE).astype(np.int16)
    labels = np.ascontiguousarray(scan.geometry.to_display(noise))
    classes = {1: "liver"} if suffix == ".seg.nrrd" else None
    poor = save_labels(labels, tmp_path / f"poor{suffix}", like=scan, classes=classes)
    dwi = tmp_path / f"images/dwi{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise.T), dwi)
    # A scan that was saved with the header of labels.
    marked = tmp_path / "images/marked.nii.gz"
    header = nib.load(save_labels(labels, tmp_path / "labels.nii.gz", like=scan)).header
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(scan.geometry.to_source(scan.data) - 400, np.eye(4), header), marked)
    command = ("export", poor, "--like", image, "--overwrite", "--out")
    for file in (dwi, marked):
        before = file.read_bytes()
        assert refused(run(*command, file), "is a scan", file.name)
        assert file.read_bytes() == before
    assert run(*command, poor).returncode == 0
    np.testing.assert_array_equal(load_labels(poor, like=scan).data, labels)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_the_mark_of_labels_does_not_bother_other_programs(tmp_path, suffix):
    scan = load_volume(save_scan(tmp_path / "p0.nii.gz", 0))
    path = save_labels(labels_of(scan, 3), tmp_path / f"labels{suffix}", like=scan)
    source = scan.geometry.to_source(labels_of(scan, 3))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).T, source)
    if suffix == ".nii.gz":
        found = nib.load(path)
        np.testing.assert_array_equal(np.asarray(found.dataobj), source)
        assert found.header.get_intent()[0] == "label"
        assert found.header["qform_code"] == nib.load(tmp_path / "p0.nii.gz").header["qform_code"]
    # Also after another program has copied it, which may drop the mark.
    copied = tmp_path / f"copied{suffix}"
    SimpleITK.WriteImage(SimpleITK.ReadImage(path), copied)
    np.testing.assert_array_equal(load_labels(copied, like=scan).data, labels_of(scan, 3))


def test_labels_for_a_folder_leave_no_list_of_classes(tmp_path):
    image = save_scan(tmp_path / "images/p0.nii.gz", 0)
    scan = load_volume(image)
    (tmp_path / "out/p0.nii.gz").mkdir(parents=True)
    with pytest.raises(StorageError, match="is a folder"):
        save_labels(labels_of(scan), tmp_path / "out/p0.nii.gz", like=scan, classes={1: "liver"})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p0.nii.gz"]
    image.unlink()  # The scan is in memory.
    for _ in range(2):
        save_labels(labels_of(scan), tmp_path / "p0.nii.gz", like=scan, overwrite=True)


def test_a_prediction_never_replaces_a_scan(tmp_path):
    image = save_scan(tmp_path / "images/p0.nii.gz", 0)
    other = save_scan(tmp_path / "more/p0.nii.gz", 1)
    (tmp_path / "run").mkdir()
    finetuned = Run(tmp_path / "run", {"kind": "finetune"})
    before = other.read_bytes()
    with pytest.raises(StorageError, match="is a scan"):
        list(iter_predict(finetuned, [image], out=other.parent, overwrite=True))
    assert [file.read_bytes() for file in other.parent.iterdir()] == [before]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.txt"

    def write():
        with atomic_path(path, overwrite=False) as temporary:
            temporary.write_text("mine")
            path.write_text("other")

    with pytest.raises(StorageError, match="appeared"):
        write()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["other"]


def test_of_labels_that_are_saved_at_the_same_time_one_is_refused(tmp_path):
    scan = load_volume(save_scan(tmp_path / "p0.nii.gz", 0))
    path, outcomes = tmp_path / "out/labels.nii.gz", []
    start = threading.Barrier(4)

    def save(value):
        start.wait(10)
        try:
            named = {"classes": {value: f"organ {value}"}, "overwrite": False}
            save_labels(labels_of(scan, value), path, like=scan, **named)
            outcomes.append(value)
        except StorageError:
            outcomes.append(None)

    threads = [threading.Thread(target=save, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    (written,) = (value for value in outcomes if value)
    assert len(outcomes) == 4
    assert load_labels(path).data.max() == written


def test_drawn_labels_are_only_replaced_if_the_user_says_so(tmp_path):
    scan = load_volume(save_scan(tmp_path / "p0.nii.gz", 0))
    path = core.save_labels(labels_of(scan, 1), tmp_path / "out/p0.nii.gz", like=scan)
    with pytest.raises(StorageError, match="overwrite=True"):
        core.save_labels(labels_of(scan, 2), path, like=scan)
    assert load_labels(path).data.max() == 1
    core.save_labels(labels_of(scan, 2), path, like=scan, overwrite=True)
    assert load_labels(path).data.max() == 2


@pytest.mark.parametrize("name", ["scan.nii.gz", "images/scan.nii.gz", "labels/s.nii.gz", "a.txt"])
def test_phantoms_are_not_written_among_files_of_the_user(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(StorageError, match="empty folder"):
        core.write_dataset(tmp_path, 1)
    assert [file.name for file in tmp_path.rglob("*.*")] == [(tmp_path / name).name]


def test_phantoms_are_added_to_phantoms(tmp_path):
    core.write_dataset(tmp_path, 1)
    (tmp_path / "runs").mkdir()
    assert len(core.write_dataset(tmp_path, 2)) == 2
