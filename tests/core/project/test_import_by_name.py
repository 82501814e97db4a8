"""Imported labels get the classes of the project by the names in the file."""

import numpy as np
import pytest

from named_labels import write_slicer
from napari_sslseg.core.common.errors import ClassesError
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.scans.labels import read_segment_names, save_labels
from napari_sslseg.core.scans.matching.pair_scans import pair_scans

SHAPE = ((10, 24, 24), (20.0, 15.0, 15.0))
CASES = "field_cases/01-names-ignored-classes-mixed"


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two scans, and label arrays in which the voxels of 1, 2 and 3 are rows 2, 3 and 4."""
    folder = tmp_path_factory.mktemp("scans")
    found = {}
    for number, name in enumerate(("a", "b")):
        scan, _ = make_patient(number, "MR", *SHAPE)
        save_labels(np.maximum(scan.data, 0), folder / f"{name}.nii.gz", like=scan)
        found[name] = scan
    return folder, found


@pytest.fixture
def project(scans, tmp_path):
    with Project.create(tmp_path / "project") as opened:
        opened.add_scans(scans[0])
        yield opened


@pytest.fixture
def write(scans, tmp_path):
    """Write a label file in which row 2 has the first value, row 3 the second, and so on."""

    def write_file(scan, names, kinds=None):
        volume = scans[1][scan]
        labels = np.zeros(volume.data.shape, np.int32)
        for row, value in enumerate(names, 2):
            labels[4, row] = value
        path = tmp_path / f"{scan}-{len(list(tmp_path.iterdir()))}.nrrd"
        if all(name is None for name in names.values()):
            return save_labels(labels, path, like=volume)
        return write_slicer(path, labels, volume, names, kinds)

    return write_file


def rows(project, scan):
    """Names of the classes in rows 2 to 4."""
    labels = project.labels(scan).data
    names = project.class_names
    return [names.get(int(labels[4, row, 0])) for row in (2, 3, 4)]


def test_the_name_decides_whatever_the_value(project, write):
    project.import_labels("a", write("a", {1: "liver", 2: "spleen", 3: "kidney"}))
    project.import_labels("b", write("b", {1: "Spleen", 2: "KIDNEY ", 7: "liver"}))
    assert project.class_names == {1: "liver", 2: "spleen", 3: "kidney"}
    assert rows(project, "a") == ["liver", "spleen", "kidney"]
    assert rows(project, "b") == ["spleen", "kidney", "liver"]


def test_a_new_name_gets_a_free_value(project, write):
    project.add_class("liver", 1)
    found = project.label_classes("a", path := write("a", {1: "tumour", 2: "liver"}))
    assert [(item.name, item.value, item.how) for item in found] == [
        ("tumour", 2, "new"),
        ("liver", 1, "name"),
    ]
    project.import_labels("a", path)
    assert project.class_names == {1: "liver", 2: "tumour"}
    assert rows(project, "a")[:2] == ["tumour", "liver"]


def test_the_code_of_a_common_structure_is_known(project, write):
    project.add_class("Spleen", 1)
    path = write("a", {5: "Milz"}, {5: "SCT^78961009^Spleen"})
    project.import_labels("a", path)
    assert project.class_names == {1: "Spleen"}
    assert rows(project, "a")[0] == "Spleen"


@pytest.mark.parametrize(
    "names",
    [{1: "liver", 2: "Liver "}, {1: "liver", 2: ""}, {1035: None}],
    ids=["twice", "one nameless", "too large"],
)
def test_what_is_not_clear_is_refused_and_nothing_changes(project, write, names):
    project.add_class("liver", 1)
    path = write("a", names)
    with pytest.raises(ClassesError) as caught:
        project.import_labels("a", path)
    assert str(max(names)) in caught.value.table
    assert not project.has_labels("a")
    assert project.class_names == {1: "liver"}


def test_a_class_that_nobody_named_may_be_any_structure(project, write):
    project.import_labels("a", write("a", {1: None, 2: None}))
    assert project.class_names == {1: "class 1", 2: "class 2"}
    path = write("b", {1: "spleen", 2: "liver"})
    with pytest.raises(ClassesError, match="class 1"):
        project.import_labels("b", path)
    project.import_labels("b", path, class_map={"spleen": 2, "liver": 1})
    assert rows(project, "b")[:2] == ["class 2", "class 1"]


def test_values_of_files_without_names_are_the_classes(project, write):
    project.add_class("liver", 4)
    project.import_labels("a", write("a", {4: None, 6: None}))
    assert project.class_names == {4: "liver", 6: "class 6"}


def test_large_values_get_classes_by_a_map(project, write, tmp_path):
    table = tmp_path / "map.csv"
    table.write_text("value;class\n1035;insula\n2035;insula\n17;-\n")
    path = write("a", {1035: None, 2035: None, 17: None})
    project.import_labels("a", path, class_map=table)
    assert project.class_names == {1: "insula"}
    assert rows(project, "a") == ["insula", "insula", None]


def test_large_values_with_names_get_free_values(project, write):
    project.import_labels("a", write("a", {1035: "insula", 17: "hippocampus"}))
    assert project.class_names == {1: "insula", 17: "hippocampus"}


def test_a_map_may_join_and_leave_out(project, write):
    project.add_class("kidneys", 2)
    path = write("a", {1: "left kidney", 2: "right kidney", 3: "BODY"})
    said = {"left kidney": "Kidneys", "right kidney": 2, "body": None}
    project.import_labels("a", path, class_map=said)
    assert project.class_names == {2: "kidneys"}
    assert rows(project, "a") == ["kidneys", "kidneys", None]


def test_labels_that_were_put_aside_come_back_with_their_values(project, scans, write):
    project.add_class("liver", 3)
    project.import_labels("a", write("a", {3: None}))
    aside = project.remove_scan("a")
    (aside.parent / "classes.json").write_text('{"3": "spleen"}')
    project.add_scans(scans[0] / "a.nii.gz")
    project.import_labels(project.names[-1], aside)
    assert project.class_names == {3: "liver"}


def test_a_run_gets_the_names_of_the_project(project, write):
    project.import_labels("a", write("a", {1: "liver"}))
    (item,) = project.labelled_scans()
    assert item.class_names == {1: "liver"}


@pytest.mark.parametrize(
    ("kind", "file", "names"),
    [
        ("rt", "RS.dcm", ["BODY", "Liver", "Spleen"]),
        ("seg", "seg.dcm", ["Liver", "Spleen", "Kidney"]),
    ],
)
def test_organs_of_real_dicom_files_are_one_class(data_dir, tmp_path, kind, file, names):
    folder = data_dir / CASES / kind
    means = []
    with Project.create(tmp_path / "project") as project:
        for number in (0, 1):
            (name,) = project.add_scans(folder / f"p{number}/CT").added
            project.import_labels(name, folder / f"p{number}/{file}")
            scan, labels = project.load(name), project.labels(name)
            means.append(
                {
                    value: scan.data[labels.data == value].mean()
                    for value in project.class_names
                    if (labels.data == value).any()
                }
            )
        assert list(project.class_names.values()) == names
    assert len(set(means[0]) & set(means[1])) >= 2
    for value in set(means[0]) & set(means[1]):
        assert abs(means[0][value] - means[1][value]) < 6


def test_label_files_of_a_project_have_its_names_outside_of_it(project, scans, tmp_path):
    project.add_class("liver", 3)
    labels = np.zeros(scans[1]["a"].data.shape, np.uint8)
    labels[4, 2] = 3
    path = project.save_labels("a", labels)
    assert read_segment_names(path) == {3: "liver"}
    (pair,) = pair_scans(scans[0], path.parent, every_image=False)
    assert pair.class_names == {3: "liver"}
    project.rename_class(3, "spleen")
    assert read_segment_names(path) == {3: "spleen"}
    # A file of this name of another program says nothing.
    other = tmp_path / "other/labels/a.nii.gz"
    other.parent.mkdir(parents=True)
    save_labels(labels, other, like=scans[1]["a"])
    for text in ('{"classes": [{"value": 3, "name": "x"}]}', "not JSON"):
        (tmp_path / "other/project.json").write_text(text)
        assert read_segment_names(other) == {}
