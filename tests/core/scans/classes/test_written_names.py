"""Names of classes go with the labels that are written: in the file, or in a list beside it."""

import json
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from command_line import run
from named_labels import write_slicer
from napari_sslseg.core import pair_scans
from napari_sslseg.core.common.errors import ConfigError, ScanWarning, StorageError
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.classes.class_codes import SegmentClass
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.write_class_list import check_class_list
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import load_labels, read_segment_names, save_labels
from napari_sslseg.core.scans.volume import Volume, load_volume

SMALL = ((10, 24, 24), (20.0, 15.0, 15.0))


@pytest.fixture(scope="module")
def patient():
    return make_patient(0, "MR", *SMALL)


def box(scan, **values):
    """Labels with a slice for each value, such as z3=1."""
    labels = np.zeros(scan.data.shape, np.uint8)
    for place, value in values.items():
        labels[int(place[1:])] = value
    return labels


def names_beside(path):
    return json.loads((path.parent / "classes.json").read_text("utf-8"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd", ".seg.nrrd"])
def test_saved_labels_keep_their_names(patient, tmp_path, suffix):
    scan, _ = patient
    names = {1: "left kidney", 3: "Gefäß"}
    path = save_labels(box(scan, z2=1), tmp_path / f"p{suffix}", like=scan, classes=names)
    assert read_segment_names(path) == names
    assert (tmp_path / "classes.json").exists() == ("nrrd" not in suffix)
    np.testing.assert_array_equal(load_labels(path, like=scan).data, box(scan, z2=1))


def test_a_segmentation_has_the_fields_of_slicer(patient, tmp_path):
    scan, _ = patient
    classes = {2: SegmentClass("left kidney", color=(255, 0, 51)), 7: "thing"}
    labels = box(scan, z2=2, z3=7, z4=9, z5=255)
    path = save_labels(labels, tmp_path / "p.seg.nrrd", like=scan, classes=classes)
    image = SimpleITK.ReadImage(str(path))
    size = " ".join(f"0 {side - 1}" for side in image.GetSize())
    found = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if "Segment0_" in key}
    tags = found.pop("Segment0_Tags")
    assert found == {
        "Segment0_ID": "Segment_1", "Segment0_Name": "left kidney", "Segment0_LabelValue": "2",
        "Segment0_Layer": "0", "Segment0_Extent": size, "Segment0_Color": "1 0 0.2",
    }  # fmt: skip
    assert tags.startswith("TerminologyEntry:")
    assert "~SCT^64033007^Kidney~SCT^7771000^Left~" in tags
    (kidney, thing, nameless) = read_segments(path)
    assert (kidney.value, kidney.code) == (2, "SCT:64033007/SCT:7771000")
    assert (thing.value, thing.name) == (7, "thing")
    # 3D Slicer shows voxels of segments only; 255 marks unknown voxels.
    assert (nameless.value, nameless.name) == (9, "class 9")


@pytest.mark.parametrize(
    ("before", "names", "words"),
    [
        ({1: "spleen"}, {1: "liver"}, ("spleen", "liver", "value 1")),
        ({1: "liver"}, {2: "Liver"}, ("Liver", "value 1")),
        ({1: "spleen", 4: "liver"}, {1: "Spleen"}, ("liver", "value 4")),  # 4 occurs
    ],
)
def test_names_of_a_folder_are_never_mixed(patient, tmp_path, before, names, words):
    scan, _ = patient
    first = save_labels(box(scan, z2=1), tmp_path / "a.nii.gz", like=scan, classes=before)
    with pytest.raises(StorageError) as caught:
        save_labels(box(scan, z2=1, z3=4), tmp_path / "b.nii.gz", like=scan, classes=names)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "b.nii.gz").exists()
    assert read_segment_names(first) == before


def test_names_are_added_to_the_list_of_a_folder(patient, tmp_path):
    scan, _ = patient
    a = save_labels(box(scan, z2=1), tmp_path / "a.nii.gz", like=scan, classes={1: "left kidney"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        both = {1: "Left_Kidney", 2: "spleen"}
        b = save_labels(box(scan, z2=2), tmp_path / "b.mha", like=scan, classes=both)
    assert read_segment_names(a) == read_segment_names(b) == {1: "left kidney", 2: "spleen"}
    # The only file of a list may be replaced under other names.
    alone = tmp_path / "alone/a.nii.gz"
    for names in ({1: "liver"}, {1: "spleen"}):
        save_labels(box(scan, z2=1), alone, like=scan, classes=names, overwrite=True)
    assert names_beside(alone) == {"1": "spleen"}


def test_a_list_around_the_folder_is_kept(patient, tmp_path):
    """The list that nnU-Net has around labelsTr is for its files, and new ones agree with it."""
    scan, _ = patient
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "spleen": 1}}')
    folder = tmp_path / "labelsTr"
    save_labels(box(scan, z2=1), folder / "a.nii.gz", like=scan)
    save_labels(box(scan, z2=1), folder / "b.nii.gz", like=scan, classes={1: "spleen"})
    assert not (folder / "classes.json").exists()
    with pytest.raises(StorageError, match="spleen"):
        save_labels(box(scan, z2=1), folder / "c.nii.gz", like=scan, classes={1: "liver"})
    save_labels(box(scan, z2=2), folder / "c.nii.gz", like=scan, classes={2: "liver"})
    assert read_segment_names(folder / "a.nii.gz") == {1: "spleen", 2: "liver"}


def test_files_that_get_names_from_a_new_list_are_named(patient, tmp_path):
    scan, _ = patient
    save_labels(box(scan, z2=1), tmp_path / "a.nii.gz", like=scan)
    with pytest.warns(ScanWarning, match=r"a\.nii\.gz"):
        save_labels(box(scan, z2=1), tmp_path / "b.nii.gz", like=scan, classes={1: "liver"})
    # A scan beside labels is none of them, and a file that names its structures needs no list.
    save_labels(box(scan, z2=1), tmp_path / "o/p0.nii.gz", like=scan)
    write_slicer(tmp_path / "o/p1_seg.nrrd", box(scan, z2=1), scan, {1: "spleen"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        path = tmp_path / "o/p0_seg.nii.gz"
        save_labels(box(scan, z2=1), path, like=scan, classes={1: "liver"})
    assert read_segment_names(tmp_path / "o/p1_seg.nrrd") == {1: "spleen"}


def test_labels_written_at_the_same_time_keep_their_names(patient, tmp_path):
    scan, _ = patient
    values = range(1, 13)

    def save(value):
        path, names = tmp_path / f"{value}.nii", {value: f"organ {value}"}
        return save_labels(box(scan, z2=value), path, like=scan, classes=names)

    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(save, values))
    for path in paths:
        assert read_segment_names(path) == {value: f"organ {value}" for value in values}
    assert {path.name for path in tmp_path.iterdir()} == {
        *(path.name for path in paths), "classes.json",
    }  # fmt: skip


def test_a_file_that_two_write_at_once_has_the_names_of_its_labels(patient, tmp_path):
    small, path = patient[0], tmp_path / "p.nii.gz"
    large = Volume(np.zeros((60, 400, 400), np.int16), Geometry(np.eye(4), (400, 400, 60)), "MR")
    noise = np.random.default_rng(0).integers(0, 3, large.data.shape)  # Slow to compress.
    save_labels(box(small, z2=1), path, like=small, classes={1: "liver"})
    with ThreadPoolExecutor(1) as pool:
        names = {1: "kidney", 2: "spleen"}
        slow = pool.submit(save_labels, noise, path, like=large, classes=names, overwrite=True)
        while "kidney" not in names_beside(path).values():
            time.sleep(0.01)
        save_labels(box(small, z2=1), path, like=small, classes={1: "liver"}, overwrite=True)
        slow.result()
    values = np.unique(load_volume(path).data)[1:]
    assert {str(value) for value in values} <= set(names_beside(path))


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".seg.nrrd"])
def test_labels_that_are_converted_one_by_one_are_not_mixed(tmp_path, suffix):
    """The spleen is 1 in the labels of one patient, the liver in those of the other."""
    truths = {}
    for number, names in enumerate(({1: "Spleen"}, {1: "liver", 2: "spleen "})):
        scan, _ = make_patient(number, "MR", *SMALL)
        image = save_labels(np.maximum(scan.data, 0), tmp_path / f"images/p{number}.nii", like=scan)
        labels = box(scan, z2=1, z5=2) if number else box(scan, z3=1)
        truths[f"p{number}"] = labels
        source = write_slicer(tmp_path / f"in/p{number}.seg.nrrd", labels, scan, names)
        done = run("export", source, "--like", image, "--out",
                   tmp_path / f"labels/p{number}{suffix}")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "stores no names" not in done.stderr
        if number and "nrrd" not in suffix:
            assert "liver" in done.stderr
            assert "instead of 1" in done.stderr
    for item in pair_scans(tmp_path / "images", tmp_path / "labels"):
        organs = {name: value for value, name in item.class_names.items()}
        found, truth = item.load_labels().data, truths[item.name]
        spleen = 2 if item.name == "p1" else 1
        np.testing.assert_array_equal(found == organs["Spleen"], truth == spleen)
        if item.name == "p1":
            np.testing.assert_array_equal(found == organs["liver"], truth == 1)


def test_labels_without_names_beside_a_list_are_noted(patient, tmp_path):
    scan, _ = patient
    image = save_labels(np.maximum(scan.data, 0), tmp_path / "p0.nii", like=scan)
    source = save_labels(box(scan, z2=1), tmp_path / "in/p0.nii.gz", like=scan)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/classes.json").write_text('{"1": "liver", "2": "spleen"}')
    done = run("export", source, "--like", image, "--out", tmp_path / "out/p0.nii.gz")
    assert done.returncode == 0, done.stderr
    assert "no names" in done.stderr
    assert "1 liver" in done.stderr
    assert "spleen" not in done.stderr


def labels_in_folders(patient, folder, names=None):
    """A data set as the demonstration makes it: images/, labels/ and a list of both around them."""
    scan, _ = patient
    path = save_labels(box(scan, z2=1), folder / "labels/p0.nii.gz", like=scan)
    if names:
        (folder / "classes.json").write_text(json.dumps(names))
    return path


@pytest.mark.parametrize("exists", [False, True])
def test_the_names_of_labels_in_a_folder_below_are_kept(patient, tmp_path, exists):
    scan, _ = patient
    before = labels_in_folders(patient, tmp_path, {"1": "liver"})
    path = tmp_path / "result.nii.gz"
    if exists:
        save_labels(box(scan, z3=1), path, like=scan)
    with pytest.raises(StorageError, match="liver"):
        save_labels(box(scan, z2=1), path, like=scan, classes={1: "spleen"}, overwrite=True)
    assert read_segment_names(before) == {1: "liver"}
    # The list of nnU-Net is for such folders, too; and a folder with an own list needs no other.
    (tmp_path / "classes.json").rename(tmp_path / "labels/classes.json")
    save_labels(box(scan, z2=1), path, like=scan, classes={1: "spleen"}, overwrite=True)
    (tmp_path / "labels/classes.json").unlink()
    (tmp_path / "classes.json").unlink()
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1}}')
    with pytest.raises(StorageError, match="liver"):
        save_labels(box(scan, z2=1), path, like=scan, classes={1: "spleen"}, overwrite=True)
    assert read_segment_names(before) == {1: "liver"}


def test_labels_that_are_exported_beside_folders_get_their_values(patient, tmp_path):
    scan, _ = patient
    before = labels_in_folders(patient, tmp_path / "set", {"1": "liver"})
    image = save_labels(np.maximum(scan.data, 0), tmp_path / "p0.nii", like=scan)
    source = write_slicer(tmp_path / "in/p0.seg.nrrd", box(scan, z3=1), scan, {1: "spleen"})
    out = tmp_path / "set/result.nii.gz"
    save_labels(box(scan, z3=1), out, like=scan)
    done = run("export", source, "--like", image, "--out", out, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "instead of 1" in done.stderr
    assert read_segment_names(before)[1] == "liver"
    (spleen,) = (value for value, name in read_segment_names(out).items() if name == "spleen")
    np.testing.assert_array_equal(load_labels(out, like=scan).data, box(scan, z3=spleen))


def test_a_list_of_several_files_is_not_replaced_since_some_may_stay(patient, tmp_path):
    scan, _ = patient
    paths = [tmp_path / f"p{number}.nii.gz" for number in range(2)]
    for path in paths:
        save_labels(box(scan, z3=1), path, like=scan, classes={1: "liver"})
    with pytest.raises(StorageError, match="liver"):
        check_class_list(tmp_path, {1: "spleen"}, paths, overwrite=True)
    assert read_segment_names(paths[1]) == {1: "liver"}
    # The only file may get other names.
    paths[1].unlink()
    check_class_list(tmp_path, {1: "spleen"}, paths[:1], overwrite=True)


def test_a_path_with_dots_has_the_list_of_the_folder_around(patient, tmp_path, monkeypatch):
    scan, _ = patient
    before = labels_in_folders(patient, tmp_path, {"1": "liver"})
    (tmp_path / "labels/sub").mkdir()
    monkeypatch.chdir(tmp_path / "labels/sub")
    assert read_segment_names(Path("..") / before.name) == {1: "liver"}
    with pytest.raises(StorageError, match="liver"):
        save_labels(box(scan, z2=1), Path("../r.nii.gz"), like=scan, classes={1: "spleen"})
    assert not (tmp_path / "labels/classes.json").exists()


def test_labels_in_a_folder_below_that_get_names_are_named(patient, tmp_path):
    scan, _ = patient
    labels_in_folders(patient, tmp_path)
    for name in ("result.nii.gz", "p0_seg.nii.gz"):
        with pytest.warns(ScanWarning, match=r"labels.p0\.nii\.gz"):
            save_labels(box(scan, z2=1), tmp_path / name, like=scan, classes={1: "liver"})
        (tmp_path / "classes.json").unlink()
        (tmp_path / name).unlink()


@pytest.mark.parametrize("names", [{10**9: "big"}, {1: "one", 10**9: "big", 2**31 - 1: "largest"}])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_the_largest_values_keep_their_names(patient, tmp_path, suffix, names):
    scan, _ = patient
    labels = np.zeros(scan.data.shape, np.int32)
    for place, value in enumerate(names):
        labels[place] = value
    path = save_labels(labels, tmp_path / f"p{suffix}", like=scan, classes=names)
    assert read_segment_names(path) == names
    np.testing.assert_array_equal(load_labels(path, like=scan).data, labels)


def test_names_that_differ_only_in_case_are_refused_before_anything_is_written(patient, tmp_path):
    scan, _ = patient
    names = {1: "Liver", 2: "liver"}
    with pytest.raises(ConfigError, match="Liver and liver"):
        save_labels(box(scan, z2=1), tmp_path / "p.nii.gz", like=scan, classes=names)
    assert not list(tmp_path.iterdir())


def test_names_that_nobody_gave_are_said(patient, tmp_path):
    scan, _ = patient
    save_labels(box(scan, z2=1), tmp_path / "p.nii.gz", like=scan, classes={1: "liver"})
    with pytest.warns(ScanWarning, match="1 liver"):
        save_labels(box(scan, z3=1), tmp_path / "q.nii.gz", like=scan)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        save_labels(box(scan, z3=1), tmp_path / "r.nii.gz", like=scan, classes={})
        save_labels(box(scan, z3=5), tmp_path / "s.nii.gz", like=scan)
        save_labels(box(scan, z3=1), tmp_path / "t.nrrd", like=scan)
