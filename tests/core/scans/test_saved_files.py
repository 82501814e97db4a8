"""Saved labels reach the file that is meant, with its permissions, in whatever case it is named."""

import os
import stat
import sys

import nibabel as nib
import numpy as np
import pytest

from command_line import refused, run
from napari_sslseg.core.common.errors import SslsegError, StorageError
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.volume import load_volume

SHAPE = (16, 12, 4)
NAMES = ("a.NII.GZ", "b.Nii.Gz", "c.nii.GZ", "d.NiI", "e.MHA", "f.mHa", "g.Nrrd", "h.SEG.NRRD")


@pytest.fixture
def scan(tmp_path):
    values = np.random.default_rng(0).normal(300, 90, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([1, 1, 3, 1])), tmp_path / "p0.nii.gz")
    return load_volume(tmp_path / "p0.nii.gz")


def labels_of(scan, value=1):
    labels = np.zeros(scan.data.shape, np.uint8)
    labels[1] = value
    return labels


@pytest.mark.parametrize("name", NAMES)
def test_the_case_of_a_suffix_does_not_matter(scan, tmp_path, name):
    path = tmp_path / "out" / name
    names = {1: "liver", 2: "spleen"}
    for value in (1, 2):  # New, and replaced.
        save_labels(labels_of(scan, value), path, like=scan, classes=names, overwrite=value == 2)
        np.testing.assert_array_equal(load_labels(path, like=scan).data, labels_of(scan, value))
    beside = {"classes.json"} if "rrd" not in name.lower() else set()
    assert {file.name for file in path.parent.iterdir()} == {name} | beside


def test_an_export_in_upper_case_has_contents(scan, tmp_path):
    source = save_labels(labels_of(scan), tmp_path / "p0_seg.nii.gz", like=scan)
    done = run("export", source, "--like", scan.path, "--out", tmp_path / "SEG.MHA")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(load_labels(tmp_path / "SEG.MHA").data, labels_of(scan))


@pytest.mark.parametrize("name", [".nii.gz", ".MHA", ".nrrd"])
def test_a_suffix_is_no_name(scan, tmp_path, name):
    source = save_labels(labels_of(scan), tmp_path / "p0_seg.nii.gz", like=scan)
    before = set(tmp_path.iterdir())
    with pytest.raises(SslsegError, match="only a suffix"):
        save_labels(labels_of(scan), tmp_path / name, like=scan)
    assert refused(run("export", source, "--like", scan.path, "--out", tmp_path / name), name)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="names of 255 bytes, as on Linux")
def test_a_name_that_is_too_long_is_refused(scan, tmp_path):
    source = save_labels(labels_of(scan), tmp_path / "p0_seg.nii.gz", like=scan)
    out = tmp_path / f"{'ä' * 125}.nii.gz"
    for path in (out, tmp_path / "new" / out.name):
        with pytest.raises(SslsegError, match="too long"):
            save_labels(labels_of(scan), path, like=scan, classes={1: "liver"})
    assert refused(run("export", source, "--like", scan.path, "--out", out), "too long")
    assert not (tmp_path / "classes.json").exists()


def test_labels_without_voxels_are_refused(scan, tmp_path):
    with pytest.raises(SslsegError, match="no voxel"):
        save_labels(np.zeros((0, 3, 3), np.uint8), tmp_path / "a.nii.gz", like=scan)
    assert not (tmp_path / "a.nii.gz").exists()


@pytest.fixture
def project(scan, tmp_path):
    with Project.create(tmp_path / "project") as project:
        project.add_scans(scan.path)
        project.save_labels("p0", labels_of(scan))
        yield project


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_labels_behind_a_link_are_those_that_are_saved(project, scan, tmp_path):
    link, shared = project.labels_path("p0"), tmp_path / "shared/p0.nii.gz"
    shared.parent.mkdir()
    link.rename(shared)
    link.symlink_to(os.path.relpath(shared, link.parent))
    project.save_labels("p0", labels_of(scan, 2))
    assert link.is_symlink()
    assert load_labels(shared).data.max() == 2
    other = save_labels(labels_of(scan, 3), tmp_path / "other.nii.gz", like=scan)
    project.import_labels("p0", other)
    assert link.is_symlink()
    assert load_labels(shared).data.max() == 3
    assert [file.name for file in shared.parent.iterdir()] == ["p0.nii.gz"]
    # A disk that is not connected: nothing is saved elsewhere instead.
    shared.rename(tmp_path / "shared/away")
    with pytest.raises(StorageError, match="missing"):
        save_labels(labels_of(scan), link, like=scan)
    assert link.is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_the_list_of_classes_behind_a_link_is_the_one_that_grows(scan, tmp_path):
    shared = tmp_path / "shared.json"
    shared.write_text('{"1": "liver"}')
    (tmp_path / "out").mkdir()
    (tmp_path / "out/classes.json").symlink_to(shared)
    save_labels(labels_of(scan, 2), tmp_path / "out/a.nii.gz", like=scan, classes={2: "spleen"})
    assert "spleen" in shared.read_text()
    assert (tmp_path / "out/classes.json").is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_scan_behind_a_link_is_not_replaced(scan, tmp_path):
    other = tmp_path / "other.nii.gz"
    values = np.random.default_rng(1).normal(300, 90, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), other)
    before = other.read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/p1.nii.gz").symlink_to(other)
    with pytest.raises(StorageError, match="is a scan"):
        save_labels(labels_of(scan), tmp_path / "out/p1.nii.gz", like=scan)
    assert other.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="permission bits are of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o440])
def test_labels_keep_their_permissions(project, scan, mode):
    path = project.labels_path("p0")
    path.chmod(mode)
    project.close()
    with Project.open(project.folder) as opened:
        opened.save_labels("p0", labels_of(scan, 2))  # Not read before, so put aside.
    (aside,) = (path.parent / "aside").glob("*.nii.gz")
    for file in (path, aside):
        assert stat.S_IMODE(file.stat().st_mode) == mode
