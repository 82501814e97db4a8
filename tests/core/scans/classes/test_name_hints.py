"""Misspelt and missing names of classes are said first, with what to do."""

import shlex
import shutil
import subprocess
import warnings

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg.core import ScanWarning, evaluate_folders, pair_scans
from napari_sslseg.core.common.errors import ClassesError
from napari_sslseg.core.scans.classes.name_hints import misspelt_names


def folder_of(place, names=None, count=2):
    place.mkdir(parents=True)
    values = np.zeros((6, 8, 5), np.uint8)
    values[1:3], values[4] = 1, 2
    for number in range(count):
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 3, 1])), place / f"p{number}.nii.gz")
    if names:
        (place / "classes.json").write_text(f'{{"1": "{names[0]}", "2": "{names[1]}"}}')
    return place


def notes_of(work):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    return result, [str(w.message) for w in caught if issubclass(w.category, ScanWarning)]


@pytest.mark.parametrize("wrong", ["lvier", "Livr", "Liver", "liver_"])
def test_a_misspelt_class_of_the_truth_is_said_first(tmp_path, wrong):
    predictions = folder_of(tmp_path / "predictions", ("liver", "spleen"))
    truth = folder_of(tmp_path / "truth", (wrong, "spleen"))
    found, notes = notes_of(lambda: evaluate_folders(predictions, truth))
    if found.mean_dice == 1:  # Case and marks at the end make no other name.
        assert not notes
        return
    assert notes[0].startswith("Did you mean liver?")
    assert wrong in notes[0]
    assert "classes.json" in notes[0]


def test_a_misspelt_class_is_said_before_a_training(tmp_path):
    images, labels = folder_of(tmp_path / "images", count=1), tmp_path / "labels"
    folder_of(labels / "p0", ("liver", "spleen"), count=1)
    shutil.copytree(labels / "p0", labels / "p1")
    (labels / "p1" / "p0.nii.gz").rename(labels / "p1" / "p1.nii.gz")
    (labels / "p1" / "classes.json").write_text('{"1": "liver", "2": "splene"}')
    shutil.copy(images / "p0.nii.gz", images / "p1.nii.gz")
    _, notes = notes_of(lambda: pair_scans(images, labels))
    assert any(note.startswith("Did you mean spleen? splene") for note in notes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"liver": {0}, "lvier": {1}}, [("liver", "lvier")]),
        ({"liver": {0, 1}, "lvier": {1}}, []),  # One file has both.
        ({"left kidney": {0}, "right kidney": {1}}, []),
        ({"kidney l": {0}, "kidney r": {1}}, []),
        ({"vertebra 11": {0}, "vertebra 12": {1}}, []),
        ({"left kidney": {0}, "left kidny": {1}}, [("left kidney", "left kidny")]),
        ({"heart": {0}, "liver": {1}}, []),
    ],
)
def test_similar_names_that_no_file_has_together(names, expected):
    assert misspelt_names(names) == expected


@pytest.mark.parametrize("nameless", ["predictions of a run", "true labels"])
def test_names_that_one_side_lacks_can_be_copied(tmp_path, nameless):
    sides = {
        name: folder_of(tmp_path / name, None if name == nameless else ("liver", "spleen"))
        for name in ("predictions of a run", "true labels")
    }
    with pytest.raises(ClassesError) as caught:
        evaluate_folders(sides["predictions of a run"], sides["true labels"])
    assert caught.value.sentence.startswith("Copy the list of names")
    assert caught.value.table
    command = caught.value.sentence.split("(")[1].split(")")[0]
    assert shlex.split(command)[2] == str(sides[nameless] / "classes.json")
    subprocess.run(shlex.split(command), check=True)
    found = evaluate_folders(sides["predictions of a run"], sides["true labels"])
    assert found.mean_dice == 1
    assert found.class_names == {1: "liver", 2: "spleen"}
