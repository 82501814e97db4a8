"""Label files of a project with several threads, or on a full disk."""

import threading

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import SslsegError, StorageError
from napari_sslseg.core.project import classes as project_classes, labels as project_labels
from napari_sslseg.core.project.project import Project

SHAPE = (6, 10, 12)
SECONDS = 10.0


@pytest.fixture
def project(tmp_path):
    """A project of one labelled scan with two done slices, and another label file to import."""
    nib.save(nib.Nifti1Image(np.arange(720, dtype=np.int16).reshape(12, 10, 6), np.eye(4)),
             tmp_path / "ann.nii.gz")  # fmt: skip
    with Project.create(tmp_path / "project") as project:
        project.add_scans(tmp_path / "ann.nii.gz")
        project.save_labels("ann", np.full(SHAPE, 2, np.uint8))
        (tmp_path / "other.nii.gz").write_bytes(project.labels_path("ann").read_bytes())
        project.save_labels("ann", np.ones(SHAPE, np.uint8))
        project.mark_done("ann", [1, 2])
        yield project


@pytest.fixture
def other(tmp_path):
    return tmp_path / "other.nii.gz"


class Gate:
    """Block saving until it is opened; then the real function continues."""

    def __init__(self, monkeypatch, module):
        self.reached, self.open = threading.Event(), threading.Event()
        real = module.save_labels

        def save(*values, **named):
            self.reached.set()
            assert self.open.wait(SECONDS)
            return real(*values, **named)

        monkeypatch.setattr(module, "save_labels", save)


def background(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_an_import_changes_nothing_if_the_old_labels_cannot_be_kept(project, other):
    (project.folder / "labels" / "aside").write_text("no folder")
    with pytest.raises(StorageError):
        project.import_labels("ann", other, "all")
    assert project.done("ann") == (1, 2)
    assert (project.labels("ann").data == 1).all()


def test_an_import_changes_nothing_if_the_labels_cannot_be_written(project, other, monkeypatch):
    before = project.labels_path("ann").read_bytes()

    def full(*values, **named):
        # The marks are those of the labels that are still there.
        assert project.labels_path("ann").read_bytes() == before
        raise StorageError("The disk is full.")

    with monkeypatch.context() as disk:
        disk.setattr(project_labels, "save_labels", full)
        with pytest.raises(StorageError):
            project.import_labels("ann", other, "none")
    assert project.done("ann") == (1, 2)
    assert (project.labels("ann").data == 1).all()


def test_an_import_marks_no_slices_if_the_plane_changes_meanwhile(project, other, monkeypatch):
    gate = Gate(monkeypatch, project_labels)
    thread = background(lambda: project.import_labels("ann", other, "all"))
    assert gate.reached.wait(SECONDS)
    project.set_plane("coronal", unmark=True)
    gate.open.set()
    thread.join(SECONDS)
    assert project.done("ann") == ()
    assert (project.labels("ann").data == 2).all()


def test_a_project_is_closed_only_after_an_import(project, other, monkeypatch):
    gate = Gate(monkeypatch, project_labels)
    thread = background(lambda: project.import_labels("ann", other, "all"))
    assert gate.reached.wait(SECONDS)
    closing = background(project.close)
    closing.join(0.1)
    assert closing.is_alive()
    gate.open.set()
    closing.join(SECONDS)
    thread.join(SECONDS)
    with Project.open(project.folder) as again:
        assert again.done("ann") == tuple(range(6))
        assert (again.labels("ann").data == 2).all()


def test_labels_saved_while_a_class_is_erased_are_kept(project, monkeypatch):
    gate = Gate(monkeypatch, project_classes)
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3] = 2
    erasing = background(lambda: project.remove_class(1, erase=True))
    assert gate.reached.wait(SECONDS)
    saving = background(lambda: project.save_labels("ann", drawn))
    saving.join(0.1)
    gate.open.set()
    erasing.join(SECONDS)
    saving.join(SECONDS)
    np.testing.assert_array_equal(project.labels("ann").data, drawn)


def test_labels_do_not_replace_their_own_scan(tmp_path, monkeypatch):
    values = np.arange(720, dtype=np.int16).reshape(12, 10, 6)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "ann.nii.gz")
    before = (tmp_path / "ann.nii.gz").read_bytes()
    (tmp_path / "link.nii.gz").symlink_to("ann.nii.gz")
    monkeypatch.chdir(tmp_path)
    scan = core.load_volume("ann.nii.gz")
    for name in ("ann.nii.gz", tmp_path / "ann.nii.gz", "link.nii.gz"):
        with pytest.raises(StorageError, match="is the scan"):
            core.save_labels(np.ones(SHAPE, np.uint8), name, like=scan)
    assert (tmp_path / "ann.nii.gz").read_bytes() == before
    core.save_labels(np.ones(SHAPE, np.uint8), "labels.nii.gz", like=scan)


NO_LABELS = {
    "complex": np.full(SHAPE, 1 + 1j),
    "objects": np.full(SHAPE, None),
    "whole objects": np.full(SHAPE, 1, object),
    "text": np.full(SHAPE, "1"),
    "times": np.full(SHAPE, 1, "m8[s]"),
    "NaN": np.full(SHAPE, np.nan),
    "infinite": np.full(SHAPE, np.inf),
    "halves": np.full(SHAPE, 0.5),
}


@pytest.mark.parametrize("values", NO_LABELS.values(), ids=NO_LABELS)
def test_an_array_that_holds_no_whole_numbers_is_refused(project, tmp_path, values):
    with pytest.raises(SslsegError):
        project.save_labels("ann", values)
    assert (project.labels("ann").data == 1).all()
    scan = core.load_volume(tmp_path / "ann.nii.gz")
    with pytest.raises(SslsegError):
        core.save_labels(values, tmp_path / "no.nii.gz", like=scan)
    assert not (tmp_path / "no.nii.gz").exists()
    with pytest.raises(SslsegError):
        core.evaluate(values, np.ones(SHAPE, np.uint8))
