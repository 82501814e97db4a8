"""The record of slices whose labels contain an accepted prediction."""

import json
import os

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.errors import ProjectError, StorageError
from napari_sslseg.core.project import folder as project_folder
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.scans.labels import save_labels

RUN, OTHER = "finetune-001", "finetune-002"


@pytest.fixture
def project(tmp_path):
    """A project with one scan of six axial slices, all labelled."""
    values = np.random.default_rng(0).integers(0, 900, (12, 10, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    with Project.create(tmp_path / "project") as project:
        project.add_scans(tmp_path / "scan.nii.gz")
        project.save_labels("scan", np.ones(project.entry("scan").shape, np.uint8))
        yield project


def record(project):
    return json.loads((project.folder / "project.json").read_text())


def test_accepted_slices_and_runs_are_saved_immediately(project):
    assert project.accepted("scan") == {}
    project.note_accepted("scan", [3, 1], RUN)
    project.note_accepted("scan", 2, RUN)
    project.note_accepted("scan", 3, OTHER)
    assert record(project)["scans"][0]["accepted"] == [
        {"plane": "axial", "run": RUN, "slices": "1-3"},
        {"plane": "axial", "run": OTHER, "slices": "3"},
    ]
    project.mark_done("scan", [1, 3])
    project.unmark("scan", 1)
    project.set_subject("scan", "ann")
    project.close()
    with Project.open(project.folder) as again:
        assert again.accepted("scan") == {RUN: (1, 2, 3), OTHER: (3,)}
        again.forget_accepted("scan", 3)
        assert again.accepted("scan") == {RUN: (1, 2)}
        again.forget_accepted("scan", [1, 2, 5])
        assert again.accepted("scan") == {}
        assert record(again)["scans"][0]["accepted"] == []


def test_invalid_slices_scans_and_runs_are_refused(project):
    for act in (
        lambda number: project.note_accepted("scan", number, RUN),
        lambda number: project.forget_accepted("scan", number),
    ):
        for bad in (-1, 6):
            with pytest.raises(ProjectError, match="numbered 0 to 5"):
                act(bad)
    with pytest.raises(ProjectError, match="no scan named nobody"):
        project.note_accepted("nobody", 1, RUN)
    with pytest.raises(ProjectError, match="run"):
        project.note_accepted("scan", 1, "")
    project.note_accepted("scan", 1, "\x1b[2J" * 300)
    project.close()
    Project.open(project.folder).close()


def test_a_project_without_the_record_opens(project):
    project.close()
    path = project.folder / "project.json"
    old = record(project)
    del old["scans"][0]["accepted"]
    path.write_text(json.dumps(old))
    with Project.open(project.folder) as again:
        assert again.accepted("scan") == {}
        again.note_accepted("scan", 1, RUN)
        assert again.accepted("scan") == {RUN: (1,)}


def test_accepted_slices_of_another_plane_count_for_all_slices(project):
    project.note_accepted("scan", [2, 4], RUN)
    project.set_plane("sagittal")
    assert project.accepted("scan") == {RUN: tuple(range(12))}
    project.note_accepted("scan", 11, OTHER)
    project.forget_accepted("scan", range(12))
    assert project.accepted("scan") == {RUN: tuple(range(12))}
    project.set_plane("axial")
    assert project.accepted("scan") == {RUN: (2, 4)}


def test_an_import_forgets_only_slices_that_it_changes(project, tmp_path):
    project.note_accepted("scan", [1, 2, 3], RUN)
    project.note_accepted("scan", 2, OTHER)
    labels = project.labels("scan").data
    labels[2, 0, 0] = 0
    path = save_labels(labels, tmp_path / "corrected.nrrd", like=project.load("scan"))
    project.import_labels("scan", path)
    assert project.accepted("scan") == {RUN: (1, 3)}
    # Over an unreadable file, the import may restore the same labels, so the record stays.
    own = project.labels_path("scan")
    own.write_bytes(own.read_bytes()[:50])
    project.import_labels("scan", path)
    assert project.accepted("scan") == {RUN: (1, 3)}
    path = save_labels(labels * 2, tmp_path / "other.nrrd", like=project.load("scan"))
    project.import_labels("scan", path)
    assert project.accepted("scan") == {}


def test_a_failed_import_does_not_change_the_record(project, tmp_path, monkeypatch):
    from napari_sslseg.core.project import labels as project_labels

    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    project.note_accepted("scan", [1, 2], RUN)
    path = save_labels(
        project.labels("scan").data * 2, tmp_path / "other.nrrd", like=project.load("scan")
    )
    monkeypatch.setattr(project_labels, "save_labels", fail)
    with pytest.raises(StorageError, match="full"):
        project.import_labels("scan", path)
    assert project.accepted("scan") == {RUN: (1, 2)}


@pytest.mark.parametrize("done", ["with labels", "none"])
@pytest.mark.parametrize("failing", [1, 2])
def test_an_import_without_space_for_the_record_changes_nothing(
    project, tmp_path, monkeypatch, failing, done
):
    """The record cannot be written before or after the label file is replaced."""
    project.mark_done("scan", [1, 2])
    project.note_accepted("scan", [1, 2], RUN)
    own, name = project.labels_path("scan"), "scan"
    before = own.read_bytes()
    labels = project.labels(name).data * 2
    labels[2] = 0
    project.add_class("other", 2)
    path = save_labels(labels, tmp_path / "other.nrrd", like=project.load(name))
    calls = []

    def write(target, text):
        calls.append(target)
        if len(calls) == failing:
            raise StorageError("the disk is full")
        write_text(target, text)

    monkeypatch.setattr(project_folder, "write_text", write)
    with pytest.raises(StorageError, match="full"):
        project.import_labels(name, path, done)
    assert own.read_bytes() == before
    assert project.done(name) == (1, 2)
    assert project.accepted(name) == {RUN: (1, 2)}
    assert not project.labels_changed(name)
    monkeypatch.undo()
    project.import_labels(name, path, done)
    assert (project.labels(name).data == labels).all()
    assert 2 not in project.done(name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_import_leaves_no_slice_done_that_is_not_finished(project, tmp_path, monkeypatch):
    project.mark_done("scan", [1, 2])
    labels = project.labels("scan").data * 2
    labels[2] = 0
    project.add_class("other", 2)
    path = save_labels(labels, tmp_path / "other.nrrd", like=project.load("scan"))
    calls = []

    def write(target, text):
        calls.append(target)
        if len(calls) == 2:  # The label file is replaced.
            os._exit(9)
        write_text(target, text)

    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr(project_folder, "write_text", write)
            project.import_labels("scan", path)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    project.close()
    with Project.open(project.folder) as again:
        assert (again.labels("scan").data == labels).all()
        assert again.done("scan") == (1,)
