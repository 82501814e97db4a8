"""Labels and the list of their names change together, whatever stops the process between."""

import json
import os
import sys

import numpy as np
import pytest

from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.labels import load_labels, read_segment_names, save_labels

BEFORE, AFTER = {1: "liver", 2: "spleen"}, {1: "kidney", 2: "aorta"}


@pytest.fixture(scope="module")
def scan():
    return make_patient(0, "MR", (10, 24, 24), (20.0, 15.0, 15.0))[0]


def noise(scan, seed):
    return np.random.default_rng(seed).integers(0, 3, scan.data.shape).astype(np.uint8)


def in_child(work):
    """Run a function in a process of its own; return the status of its end."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            work()
            code = 0
        except StorageError:
            code = 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def killed_at(number, folder):
    """Kill this process at the given operation on files of a folder."""
    left = number

    def watch(event, values):
        nonlocal left
        if event.startswith(("os.", "open")) and str(folder) in str(values):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), 9)

    sys.addaudithook(watch)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["p.nii.gz", "p.mha"])
def test_a_killed_replacement_never_mixes_labels_and_names(scan, tmp_path, name):
    old, new, number, seen = noise(scan, 0), noise(scan, 1), 0, set()
    while True:
        folder = tmp_path / str(number)
        path = save_labels(old, folder / name, like=scan, classes=BEFORE)

        def replace(path=path, folder=folder, number=number):
            killed_at(number, folder)
            save_labels(new, path, like=scan, classes=AFTER, overwrite=True)

        killed = in_child(replace) != 0
        names = read_segment_names(path) if path.exists() else None
        labels = load_labels(path, like=scan).data if path.exists() else None
        if labels is None:
            seen.add("none")
        elif np.array_equal(labels, old):
            seen.add("old")
            assert names == BEFORE
        else:
            seen.add("new")
            np.testing.assert_array_equal(labels, new)
            assert names == AFTER
        if not killed:
            break
        number += 1
    assert number > 8
    assert {"old", "new"} <= seen


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("large", ["labels", "list"])
def test_a_full_disk_changes_neither_labels_nor_names(scan, tmp_path, large):
    resource = pytest.importorskip("resource")
    old = noise(scan, 0) if large == "labels" else np.zeros(scan.data.shape, np.uint8)
    path = save_labels(old, tmp_path / "p.nii.gz", like=scan, classes=BEFORE)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    names = AFTER if large == "labels" else {1: "kidney " * 500}

    def replace():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        save_labels(old, path, like=scan, classes=names, overwrite=True)

    assert os.waitstatus_to_exitcode(in_child(replace)) == 1
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_list_is_only_replaced_with_the_file_that_it_names(scan, tmp_path):
    """Not by a new file, not even if no label file is there yet."""
    text = json.dumps({"1": "liver"})
    (tmp_path / "classes.json").write_text(text)
    for _ in range(2):
        with pytest.raises(StorageError, match="liver"):
            save_labels(noise(scan, 1), tmp_path / "b.nii.gz", like=scan, classes=AFTER)
        assert (tmp_path / "classes.json").read_text() == text
        assert not (tmp_path / "b.nii.gz").exists()
        save_labels(noise(scan, 0), tmp_path / "a.nii.gz", like=scan, overwrite=True)


def test_entries_of_the_user_are_kept(scan, tmp_path):
    entries = {"0": "background", "02": "spleen", "1": " Liver"}
    (tmp_path / "classes.json").write_text(json.dumps(entries))
    (tmp_path / ".classes.lock").write_text("mine")
    names = {1: "liver", 2: "Spleen", 3: "kidney"}
    path = save_labels(noise(scan, 0), tmp_path / "p.nii.gz", like=scan, classes=names)
    assert json.loads((tmp_path / "classes.json").read_text()) == {**entries, "3": "kidney"}
    assert (tmp_path / ".classes.lock").read_text() == "mine"
    # Other names for the only file, which are no names for the background.
    save_labels(noise(scan, 0), path, like=scan, classes=AFTER, overwrite=True)
    found = json.loads((tmp_path / "classes.json").read_text())
    assert found == {"0": "background", "1": "kidney", "2": "aorta"}
    assert len(list(tmp_path.iterdir())) == 3
