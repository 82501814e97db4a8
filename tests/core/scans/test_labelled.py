import json

import numpy as np
import pytest

from napari_sslseg.core import evaluate, evaluate_folders
from napari_sslseg.core.common.errors import DataError, GeometryError, ScanWarning
from napari_sslseg.core.scans.classes.scan_classes import class_indices, find_classes
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.labels import save_labels
from napari_sslseg.core.scans.matching.pair_scans import pair_scans
from napari_sslseg.core.scans.slices.annotated import (
    add_annotated,
    check_annotated,
    read_annotated,
)
from napari_sslseg.core.scans.volume import Volume


def volume(data, name="a"):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    geometry = Geometry(affine, data.shape)
    return Volume(geometry.to_display(data), geometry, name=name, subject=name)


@pytest.fixture
def folders(tmp_path):
    """Three scans with labels 0 and 3, written to files."""
    for name in ("a", "b", "c"):
        data = np.zeros((8, 8, 4), np.uint8)
        data[2:5, 2:5, 1:3] = 3
        scan = volume(data, name)
        save_labels(scan.data * 20, tmp_path / "images" / f"{name}.nii.gz", like=scan)
        save_labels(scan.data, tmp_path / "labels" / f"{name}.nii.gz", like=scan)
    return tmp_path


def test_scans_and_labels_are_paired_by_name(folders):
    pairs = pair_scans(folders / "images", folders / "labels")
    assert [pair.name for pair in pairs] == ["a", "b", "c"]
    scan, labels = pairs[1].load()
    assert (labels.data > 0).sum() == 18
    assert scan.name == "b"


def test_a_scan_without_labels_is_named(folders):
    (folders / "labels" / "b.nii.gz").unlink()
    with pytest.raises(DataError, match=r"b\.nii\.gz has no labels"):
        pair_scans(folders / "images", folders / "labels")
    pairs = pair_scans(folders / "images", folders / "labels", every_image=False)
    assert [pair.name for pair in pairs] == ["a", "c"]


def test_labels_without_a_scan_are_named(folders):
    (folders / "images" / "c.nii.gz").unlink()
    with pytest.raises(DataError, match=r"c\.nii\.gz have no scan"):
        pair_scans(folders / "images", folders / "labels")


def test_a_list_of_annotated_slices_selects_the_scans(folders):
    path = folders / "annotated.json"
    path.write_text(json.dumps({"b": [1, 2]}))
    pairs = pair_scans(folders / "images", folders / "labels", read_annotated(path))
    assert [(pair.name, pair.annotated) for pair in pairs] == [("b", (1, 2))]


def test_a_list_of_slices_along_another_plane_is_refused(tmp_path):
    path = tmp_path / "annotated.json"
    path.write_text(json.dumps({"a": [7]}))
    check_annotated(path)
    add_annotated(path, {"b": (1, 2)}, "coronal")
    with pytest.raises(DataError, match=r"b in .* coronal .*axial"):
        read_annotated(path)
    add_annotated(path, {"a": [0], "c": []}, "coronal")
    assert read_annotated(path, "coronal") == {"a": (0,), "b": (1, 2), "c": ()}
    path.write_text(json.dumps({"a": {"plane": "oblique", "slices": [1]}}))
    with pytest.raises(DataError):
        check_annotated(path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1, 2]",
        '{"a": [1], "a": [2]}',
        '{"a": 3}',
        '{"a": ["x"]}',
        '{"a": [1.5]}',
        '{"a": [true]}',
    ],
)
def test_a_malformed_list_is_refused(tmp_path, text):
    path = tmp_path / "annotated.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"annotated\.json") as caught:
        read_annotated(path)
    assert "\n" not in str(caught.value)


def test_a_list_with_an_unknown_scan_is_refused(folders):
    with pytest.raises(DataError, match="names zebra"):
        pair_scans(folders / "images", folders / "labels", {"zebra": (1,)})
    twice = {"b": (1,), "b.nii.gz": (2,)}
    with pytest.raises(DataError, match="names b twice"):
        pair_scans(folders / "images", folders / "labels", twice)
    with pytest.raises(DataError, match="names zebra"):
        evaluate_folders(folders / "labels", folders / "labels", annotated={"zebra": (1,)})


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("labeled", "mean labelled"),
        ("slices.json", "read_annotated"),
        ({"b": 3}, r"b .*\(3, 9\)"),
        ({"b": [3.5]}, r"b .*whole"),
        ((1, 2), "name of the scan"),
    ],
)
def test_annotated_slices_that_are_none_are_refused_at_once(folders, given, hint):
    for check in (pair_scans, evaluate_folders):
        source = "images" if check is pair_scans else "labels"
        with pytest.raises(DataError, match=hint):
            check(folders / source, folders / "labels", annotated=given)


@pytest.mark.parametrize("given", ["labeled", "slices.json", 3, [True], {"a": [1]}])
def test_the_annotated_slices_of_one_scan_are_numbers_or_a_word(given):
    labels = np.ones((4, 4, 4), np.uint8)
    with pytest.raises(DataError, match="annotated slices"):
        LabelledScan(volume(labels), volume(labels), annotated=given)
    with pytest.raises(DataError, match="annotated slices"):
        evaluate(labels, labels, annotated=given)
    item = LabelledScan(volume(labels), volume(labels), annotated=np.array([1, 3]))
    assert item.annotated == (1, 3)


@pytest.mark.parametrize("option", ["ignore", "background"])
def test_special_values_are_whole_numbers(folders, option):
    labels = np.ones((4, 4, 4), np.uint8)
    for value in ("255", 2.5, True):
        with pytest.raises(DataError, match=f"{option}=.*whole number"):
            evaluate(labels, labels, **{option: value})
        with pytest.raises(DataError, match=f"{option}=.*whole number"):
            pair_scans(folders / "images", folders / "labels", **{option: value})


def test_classes_that_occur_in_no_file_are_refused(folders):
    where = folders / "labels", folders / "labels"
    with pytest.raises(DataError, match=r"class 7 occurs in neither.* are 3"):
        evaluate_folders(*where, classes=(7,))
    with pytest.warns(ScanWarning, match="class 7 occurs in neither"):
        assert evaluate_folders(*where, classes=(3, 7)).classes[3].dice == 1


def test_a_slice_beyond_the_scan_is_refused():
    data = np.zeros((8, 8, 4), np.uint8)
    item = LabelledScan(volume(data), volume(data), annotated=(4,))
    with pytest.raises(DataError, match=r"Slice 4 of a.* 0 to 3"):
        item.annotated_mask(np.zeros((4, 8, 8)))


def test_labels_on_another_grid_are_refused(folders):
    data = np.zeros((8, 9, 4), np.uint8)
    save_labels(
        volume(data).data, folders / "labels" / "a.nii.gz", like=volume(data), overwrite=True
    )
    with pytest.raises(GeometryError, match="another grid"):
        pair_scans(folders / "images", folders / "labels")[0].load()


def test_classes_are_found_on_annotated_slices():
    data = np.zeros((4, 4, 4), np.uint8)
    data[:, :, 0], data[:, :, 3] = 5, 2
    scan = volume(data)
    # The display grid starts at the top: source slice 3 is display slice 0.
    assert find_classes([LabelledScan(scan, scan)], "axial") == (2, 5)
    assert find_classes([LabelledScan(scan, scan, annotated=(0, 1))], "axial") == (2,)
    with pytest.raises(DataError, match="only background"):
        find_classes([LabelledScan(scan, scan, annotated=(1,))], "axial")


def test_label_values_become_indices_in_the_order_of_the_classes():
    data = np.array([[0, 7], [2, 7]])
    np.testing.assert_array_equal(class_indices(data, (2, 7), "a"), [[0, 2], [1, 2]])
    np.testing.assert_array_equal(class_indices(data, (7, 2), "a"), [[0, 1], [2, 1]])


def test_an_unknown_label_value_is_named_with_its_scan():
    with pytest.raises(DataError, match=r"knee_3 .*\b7\b.* 1, 2"):
        class_indices(np.array([0, 1, 7]), (1, 2), "knee_3")
