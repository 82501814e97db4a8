"""The list of scans: it fits a terminal, and says the modality."""

import json

import nibabel as nib
import numpy as np
import pytest

from command_line import run


def write(path, low):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(low, 900, (16, 16, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([-0.9375, -0.9375, 3.25, 1.0])), path)


@pytest.mark.parametrize("name", ["p0", "hospital-of-the-city_examination-of-the-liver_0001"])
def test_no_line_of_the_list_is_wider_than_a_terminal(tmp_path, name):
    for number, low in enumerate((0, -1024)):
        write(tmp_path / "a-folder-of-a-long-name" / f"{name}{number}.nii.gz", low)
    done = run("series", tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    first, second = done.stdout.split(f"{name}1", 1)
    assert "MR (guess)" in first
    assert "CT (guess)" in second
    assert "MR (guess)" not in second
    assert json.loads(run("series", tmp_path, "--json").stdout)[0]["modality"] is None


def test_the_folder_in_which_one_is_has_a_name_in_messages(tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path / "scans")
    done = run("series", ".")
    assert done.returncode == 2
    assert str(tmp_path / "scans") in done.stderr


def test_label_maps_are_no_usable_scans(tmp_path):
    write(tmp_path / "p0.nii.gz", 0)
    values = np.zeros((16, 16, 6), np.uint8)
    values[4:9, 4:9, 1:4] = 3
    for number in (1, 2):
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"p{number}.nii.gz")
    done = run("series", tmp_path)
    assert done.stdout.count("label map") == 2
    assert "Usable: 1 of 3" in done.stderr
    assert "2 files with the values of a label map (p1, p2)" in done.stderr
    found = json.loads(run("series", tmp_path, "--json").stdout)
    assert [item["label_map"] for item in found] == [False, True, True]
