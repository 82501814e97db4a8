"""Unknown voxels and partly labelled classes in a project."""

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import ClassesError, ProjectError, ScanWarning

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
SHAPE = (16, 16, 6)


@pytest.fixture
def project(tmp_path):
    for seed, name in enumerate(("a", "b")):
        values = np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)
        (tmp_path / "scans").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "scans" / f"{name}.nii.gz")
    with core.Project.create(tmp_path / "project") as project:
        project.add_scans(tmp_path / "scans")
        yield project


def file_of(tmp_path, *values):
    """A label file with one value on each of the first slices of the display grid."""
    labels = np.zeros(SHAPE, np.uint8)
    for number, value in enumerate(values):
        labels[2:6, 2:6, -1 - number] = value
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "labels.nii.gz")
    return tmp_path / "labels.nii.gz"


def test_255_is_kept_through_import_save_and_reopening(project, tmp_path):
    with pytest.warns(ScanWarning, match="255 .* unknown"):
        done = project.import_labels("a", file_of(tmp_path, 1, 255, 2))
    assert done == (0, 2)  # Nothing is named on slice 1.
    assert project.class_names == {1: "class 1", 2: "class 2"}
    labels = project.labels("a").data
    assert (labels == 255).sum() == 16
    labels[4, 0, 0] = 255
    project.save_labels("a", labels)
    project.close()
    with core.Project.open(project.folder) as again:
        assert (again.labels("a").data == 255).sum() == 17
        assert len(again.classes) == 2
        (item,) = again.labelled_scans()
        assert item.ignore == 255


@pytest.mark.parametrize("values", [(255,), (85, 170, 255)])
def test_masks_and_grey_coded_classes_are_asked_for(project, tmp_path, values):
    path = file_of(tmp_path, *values)
    with pytest.raises(ClassesError, match="255"):
        project.import_labels("a", path)
    assert not project.has_labels("a")
    project.import_labels("a", path, class_map={value: n for n, value in enumerate(values, 1)})
    assert sorted(project.class_names) == list(range(1, len(values) + 1))


def test_a_class_map_decides_about_255(project, tmp_path):
    project.import_labels("a", file_of(tmp_path, 1, 255), class_map={1: "liver", 255: "cyst"})
    assert set(project.class_names.values()) == {"liver", "cyst"}
    assert not (project.labels("a").data == 255).any()


def test_another_value_can_be_named_as_unknown(project, tmp_path):
    project.import_labels("a", file_of(tmp_path, 1, 3, 2), ignore=3)
    assert set(np.unique(project.labels("a").data)) == {0, 1, 2, 255}
    assert set(project.class_names) == {1, 2}


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_a_slice_that_loses_its_last_label_with_a_class_is_no_longer_done(project, plane):
    project.set_plane(plane)
    for name in ("liver", "spleen"):
        project.add_class(name)
    labels = np.zeros_like(project.labels("a").data)
    slices = np.moveaxis(labels, 0 if plane == "axial" else 2, 0)
    slices[1:4, 3, 3] = 1
    slices[2, 4, 4], slices[3, 4, 4] = 2, 255
    project.save_labels("a", labels)
    project.mark_done("a", [0, 1, 2, 3])  # The first has no structure.
    project.save_labels("b", np.where(labels == 1, 2, labels))
    project.mark_done("b", [1])
    assert project.remove_class(1, erase=True) == ("a",)
    assert project.done("a") == (0, 2, 3)
    assert project.done("b") == (1,)
    project.close()
    with core.Project.open(project.folder) as again:
        assert again.done("a") == (0, 2, 3)


def test_labelled_classes_are_a_property_of_a_scan(project):
    project.add_class("liver")
    project.add_class("spleen")
    project.set_labelled_classes("a", [1])
    for name in ("a", "b"):
        labels = project.labels(name).data
        labels[2, 3:6, 3:6] = 1
        project.save_labels(name, labels)
        project.mark_done(name, [2, 3])
    assert project.labelled_classes("a") == (1,)
    assert {item.name: item.labelled_classes for item in project.labelled_scans()} == {
        "a": (1,),
        "b": None,
    }
    for wrong in ([], [3], [0]):
        with pytest.raises(ProjectError):
            project.set_labelled_classes("a", wrong)
    with pytest.raises(ProjectError, match="no other class"):
        project.remove_class(1, erase=True)
    assert (project.labels("a").data == 1).any()
    project.set_labelled_classes("a", [1, 2])
    project.remove_class(2)
    assert project.labelled_classes("a") == (1,)
    project.close()
    with core.Project.open(project.folder) as again:
        assert again.labelled_classes("a") == (1,)
        again.set_labelled_classes("a", None)
        assert again.labelled_classes("a") is None


@pytest.mark.usefixtures("one_thread")
def test_a_training_of_a_project_leaves_out_what_is_unknown(project, tmp_path):
    project.add_class("liver")
    project.add_class("spleen")
    for name in ("a", "b"):
        labels = project.labels(name).data
        labels[2, 3:6, 3:6], labels[2, :, :3], labels[3] = 1, 255, 255
        if name == "b":
            labels[2, 10:13, 10:13] = 2
        project.save_labels(name, labels)
        project.mark_done(name, [1, 2, 3])
    project.set_labelled_classes("a", [1])
    settings = core.FinetuneSettings(
        network=core.Network.preset("tiny"), training=core.Training(steps=2, batch_size=2)
    )
    run = core.finetune(
        project.labelled_scans(), out=tmp_path / "run", settings=settings, device="cpu", threads=1
    )
    assert run.record["classes"] == [1, 2]
    # Nothing is known on slice 3.
    assert [entry["annotated"] for entry in run.record["data"]] == ["1-2", "1-2"]
